"""One run's bookkeeping: which items are to be sent, which are claimed, what became of them. For one thread."""

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import attrs

from ..bulk import Outcome
from ..bulk.journal import Undertaking
from .chunks import CHUNK, HASH, STATES, Chunk
from .errors import InputChangedError, LedgerMismatchError, LedgerRedactedError, LedgerWriteError
from .secret import Secret, key_path
from .store import ChunkRow, JobRow, RunRow, Store

_STALE_AFTER: Final = 15 * 60
"""Seconds after which what was claimed and isn't repeatable might overwrite what the app wrote since."""


@attrs.frozen
class Terms:
    """On which terms an earlier job is gone on with.

    `appended`: rows may have been added at the end of the input. `retry`: what has one of these outcomes is sent again.
    `new_key`: another API key of the same app may be used. `notes`: what the record shall say of this run.
    """

    appended: bool = False
    retry: frozenset[Outcome] = frozenset()
    new_key: bool = False
    notes: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(repr=False)
class Part:
    """A chunk of the input. `decided`: the indexes of what won't be sent. `is_last`: the input has no more."""

    number: int
    names: Sequence[str]
    contents: Sequence[str]
    decided: AbstractSet[int]
    is_last: bool


@attrs.frozen
class Due:
    """The item at an index of a chunk is to be sent. `maybe_sent`: an earlier run may have done so."""

    index: int
    maybe_sent: bool


class OutcomeRow(NamedTuple):
    """An outcome on its way to the ledger. `status`: 0 where there was no answer. `at`: seconds since 1970."""

    position: int
    state: int
    status: int
    attempts: int
    at: int


@attrs.define
class _Open:
    """A chunk with items on their way: `due` of them."""

    chunk: Chunk
    due: int


@attrs.frozen
class _Contents:
    """What the items of a chunk are, on its way to the file."""

    size: int
    digest: bytes
    hashes: bytes


class Book:
    """The bookkeeping of a run. What it is told is in memory until `commit`, and stays there where that fails."""

    def __init__(
        self, store: Store, secret: Secret, job: JobRow, run: RunRow, terms: Terms, *, repeatable: bool
    ) -> None:
        self._store = store
        self._secret = secret
        self._job = job
        self._run = run
        self._terms = terms
        self._repeatable = repeatable
        self._known = store.items()
        self._open: dict[int, _Open] = {}
        self._changed: set[int] = set()
        self._new: dict[int, _Contents] = {}
        self._header_changed = True

    @classmethod
    def open(cls, path: Path, undertaking: Undertaking, terms: Terms, now: Callable[[], float]) -> "Book":
        """Open the ledger, locked, and begin a run. Raises LedgerError."""
        store = Store.open(path)
        try:
            job = store.job()
            secret = _secret_of(path, job)
            runs = store.runs()
            if job is None:
                job = _new_job(undertaking, secret, int(now()))
            _check(path, job, runs, undertaking, new_key=terms.new_key)
            run = RunRow(
                number=len(runs) + 1,
                started=int(now()),
                ended=None,
                key_fingerprint=undertaking.key_fingerprint,
                library_version=version("adapty-async"),
                notes=json.dumps(dict(terms.notes)),
            )
            book = cls(store, secret, job, run, terms, repeatable=undertaking.repeatable)
            book.commit()
        except BaseException:
            store.close()
            raise
        return book

    def take(self, part: Part, *, claims: int, now: int) -> list[Due]:
        """Compare a chunk of the input with what is known of it, and give what is to be done of it.

        The first `claims` of that are claimed. Raises InputChangedError.
        """
        number, names, contents = part.number, part.names, part.contents
        known = self._store.chunk(number)
        if known is not None:
            self._compare(known, names, contents)
        end = number * CHUNK + len(names)
        if end > self._known:
            self._allow_growth(self._known)
        if part.is_last:
            self._end_at(end)
        if known is not None and len(names) == known.size:
            chunk = self._store.unpacked(known)
        else:
            chunk = self._learn(number, known, names, contents)
        due = self._due(number, chunk, now)
        if due:
            self._open[number] = _Open(chunk, len(due))
            first = (item.index for item in due[:claims])
            self.claim([number * CHUNK + index for index in first if index not in part.decided], now)
        elif number in self._changed:
            self._open[number] = _Open(chunk, 0)
        return due

    def claim(self, positions: Sequence[int], now: int) -> None:
        """Note that items are about to be sent."""
        for position in positions:
            number, index = divmod(position, CHUNK)
            self._open[number].chunk.claim(index, now)
            self._changed.add(number)

    def release(self, positions: Sequence[int]) -> None:
        """Note that items which were claimed weren't sent."""
        for position in positions:
            number, index = divmod(position, CHUNK)
            opened = self._open[number]
            opened.chunk.release(index)
            opened.due -= 1
            self._changed.add(number)

    def settle(self, rows: Sequence[OutcomeRow]) -> None:
        """Note outcomes."""
        for row in rows:
            number, index = divmod(row.position, CHUNK)
            opened = self._open[number]
            opened.chunk.settle(index, row.state, row.status, row.attempts, row.at)
            opened.due -= 1
            self._changed.add(number)

    def end_run(self, now: int) -> None:
        """Note that the run came to its end by itself."""
        self._run = attrs.evolve(self._run, ended=now)
        self._header_changed = True

    def commit(self) -> None:
        """Write down all that is new; it is on the disk then. Raises LedgerWriteError, with nothing written."""
        if not (self._changed or self._new or self._header_changed):
            return
        with self._store.transaction():
            if self._header_changed:
                self._store.write_job(self._job)
                self._store.write_run(self._run)
            for number, contents in self._new.items():
                self._store.write_chunk(number, contents.size, contents.digest, contents.hashes)
            for number in sorted(self._changed):
                self._store.write_outcomes(number, self._open[number].chunk.pack())
        for number in self._changed:
            if not self._open[number].due:
                del self._open[number]
        self._changed.clear()
        self._new.clear()
        self._header_changed = False

    def close(self) -> None:
        """Let go of the ledger."""
        self._store.close()

    def _compare(self, known: ChunkRow, names: Sequence[str], contents: Sequence[str]) -> None:
        size = min(known.size, len(names))
        first = known.number * CHUNK
        if size == known.size and self._secret.digest(contents[:size]) == known.digest:
            return
        hashes = self._store.hashes(known.number)
        for index, name in enumerate(names[:size]):
            if self._secret.hash(name) != hashes[HASH * index : HASH * (index + 1)]:
                raise _changed(
                    f"the input isn't the one of the ledger: it first differs at row {first + index + 1:,}",
                    first + index,
                )
        if size < known.size:
            raise self._too_short(first + size)
        raise _changed(
            "the input isn't the one of the ledger: the ids are the same, but what is to be written differs "
            f"somewhere in rows {first + 1:,} to {first + size:,}",
            first,
        )

    def _allow_growth(self, position: int) -> None:
        if self._job.items is None:
            return
        if self._terms.appended:
            self._job = attrs.evolve(self._job, items=None)
            self._header_changed = True
            return
        raise InputChangedError(
            f"the input goes on after row {position:,}, where it ended before: if rows were only added at its end, "
            "say so (appended), or use another ledger",
            position,
        )

    def _end_at(self, end: int) -> None:
        if end < self._known:
            raise self._too_short(end)
        if end != self._job.items:
            self._job = attrs.evolve(self._job, items=end)
            self._header_changed = True

    def _too_short(self, end: int) -> InputChangedError:
        return _changed(f"the input ends after row {end:,}, but the ledger knows {self._known:,}", end)

    def _learn(self, number: int, known: ChunkRow | None, names: Sequence[str], contents: Sequence[str]) -> Chunk:
        """Take down what the items of a chunk are: a new one, or one that was the last and has grown."""
        if known is None:
            chunk = Chunk(len(names))
        else:
            chunk = self._store.unpacked(known)
            chunk.extend(len(names))
        if names:
            hashes = b"".join(map(self._secret.hash, names))
            self._new[number] = _Contents(len(names), self._secret.digest(contents), hashes)
            self._changed.add(number)
            self._open[number] = _Open(chunk, 0)
            self._known = max(self._known, number * CHUNK + len(names))
        return chunk

    def _due(self, number: int, chunk: Chunk, now: int) -> list[Due]:
        due = []
        for index in chunk.open_indexes(self._terms.retry):
            claimed = chunk.is_claimed(index)
            if claimed and not self._may_repeat(chunk, index, now):
                chunk.doubt(index)
                self._changed.add(number)
            else:
                due.append(Due(index, claimed or chunk.states[index] == STATES[Outcome.IN_DOUBT]))
        return due

    def _may_repeat(self, chunk: Chunk, index: int, now: int) -> bool:
        if self._repeatable or Outcome.IN_DOUBT in self._terms.retry:
            return True
        claimed_at = chunk.claimed_at(index)
        return claimed_at is not None and now - claimed_at <= _STALE_AFTER


def _secret_of(path: Path, job: JobRow | None) -> Secret:
    try:
        secret = Secret.read(path)
        if job is None:
            return secret or Secret.make(path)
    except OSError as error:
        raise LedgerWriteError(
            f"{key_path(path)} can't be read or made ({error.strerror}): see to its permissions, or make room for it"
        ) from None
    if secret is None:
        raise LedgerRedactedError(
            f"{path} can't be gone on with, for its key file {key_path(path).name} is gone: use another ledger"
        )
    if secret.check != job.secret_check:
        raise LedgerMismatchError(f"{key_path(path)} is the key file of another ledger: put the right one there")
    return secret


def _new_job(undertaking: Undertaking, secret: Secret, now: int) -> JobRow:
    return JobRow(
        made=now,
        operation=undertaking.operation,
        identified_by=undertaking.by,
        base_url=undertaking.base_url,
        secret_check=secret.check,
        items=None,
    )


def _check(path: Path, job: JobRow, runs: Sequence[RunRow], undertaking: Undertaking, *, new_key: bool) -> None:
    for what, known, given in (
        ("the operation", job.operation, undertaking.operation),
        ("by", job.identified_by, undertaking.by),
        ("the server", job.base_url, undertaking.base_url),
    ):
        if known != given:
            raise LedgerMismatchError(
                f"{path} belongs to another job: there {what} is {known}, here {given}: use another ledger"
            )
    if runs and runs[-1].key_fingerprint != undertaking.key_fingerprint and not new_key:
        raise LedgerMismatchError(
            f"{path} belongs to a job with another API key: use that key, or another ledger; "
            "if the key of the same app was exchanged, say so (new_key)"
        )


def _changed(sentence: str, position: int) -> InputChangedError:
    return InputChangedError(f"{sentence}: give it as it was, or use another ledger", position)
