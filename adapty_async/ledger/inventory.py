"""What the items of a job are: what its input brings is compared with that, and what is new in it is taken down."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..bulk.journal import Undertaking
from .chunks import CHUNK, HASH, Chunk
from .errors import (
    Difference,
    InputChangedError,
    LedgerMismatchError,
    LedgerRedactedError,
    Mismatch,
)
from .files import of_system, open_regular
from .keys import last_key
from .location import LedgerLocation
from .secret import Secret, key_path
from .store import ChunkRow, ContentsRow, ExcludeListRow, JobRow, RunRow, Store, Writing


@attrs.frozen(repr=False)
class Part:
    """A chunk of the input. `is_last`: the input has no more."""

    number: int
    names: Sequence[str]
    contents: Sequence[str]
    is_last: bool

    @property
    def is_whole(self) -> bool:
        """Whether no chunk has more items."""
        return len(self.names) == CHUNK

    @property
    def end(self) -> int:
        """The position after its last item."""
        return self.number * CHUNK + len(self.names)


@attrs.frozen
class Met:
    """A chunk as it stands, when the input has brought it. `known`: so many of its items were in the ledger before."""

    chunk: Chunk
    known: int

    @property
    def is_new(self) -> bool:
        """Tell whether some of it is still to be written."""
        return self.known < len(self.chunk)


class Inventory:
    """The items that a ledger knows, in chunks. What is new is in memory until it is drawn up and written."""

    def __init__(self, store: Store, secret: Secret, job: JobRow, *, appended: bool) -> None:
        self._store = store
        self._secret = secret
        self._job = job
        self._job_is_new = False
        self._appended = appended
        self._new: dict[int, ContentsRow] = {}
        self._exclude_lists = {row.name: row.number for row in store.exclude_lists()}
        self._new_exclude_lists: list[ExcludeListRow] = []
        self._under_way = Writing()
        self.known = store.items()

    def knows(self, part: Part) -> bool:
        """Tell whether the ledger knows some of a chunk of the input."""
        return part.number * CHUNK < self.known

    def recall(self, parts: Sequence[Part]) -> list[Chunk | None]:
        """Read what is known of chunks of the input that follow each other, and compare it; None: nothing is.

        Raises InputChangedError. It only reads, and may be done in another thread than all the rest.
        """
        first, known = parts[0].number, list(filter(self.knows, parts))
        chunks: list[Chunk | None] = []
        for row, part in zip(self._store.chunks(first, first + len(known)), known, strict=True):
            self._compare(row, part.names, part.contents)
            chunks.append(self._store.unpacked(row))
        return chunks + [None] * (len(parts) - len(known))

    def meet(self, part: Part, chunk: Chunk | None) -> Met:
        """Take down what is new in a chunk of the input; `chunk`: as it was recalled. Raises InputChangedError."""
        if part.end > self.known:
            self._allow_growth(self.known)
        if part.is_last:
            self._end_at(part.end)
        known = 0 if chunk is None else len(chunk)
        if chunk is None:
            chunk = Chunk(len(part.names))
        else:
            chunk.extend(len(part.names))
        met = Met(chunk, known)
        if met.is_new:
            digest, hashes = self._secret.digest(part.contents), self._secret.hashes(part.names)
            self._new[part.number] = ContentsRow(part.number, len(part.names), digest, hashes)
            self.known = part.end
        return met

    def number_of(self, exclude_list: str | None) -> int:
        """Give the number by which items name an exclude list; 0 where they don't."""
        if exclude_list is None:
            return 0
        name = exclude_list.encode(errors="backslashreplace").decode()  # it may be a file's, and that no UTF-8
        if name not in self._exclude_lists:
            number = self._exclude_lists[name] = len(self._exclude_lists) + 1
            self._new_exclude_lists.append(ExcludeListRow(number, name))
        return self._exclude_lists[name]

    def note_exclude_lists(self, files: Mapping[str, Path]) -> None:
        """Note exclude lists by their names, and by the content of their files. Raises LedgerWriteError."""
        for name, path in files.items():
            number = self.number_of(name)
            try:
                with open_regular(path) as file:
                    digest = self._secret.file_digest(file)
            except OSError as error:
                failure = of_system(path, error)
            else:
                self._new_exclude_lists.append(ExcludeListRow(number, name, digest))
                continue
            raise failure

    def note_preparation(self, order: Mapping[str, Any], file_digest: bytes | None, key_fingerprint: str) -> None:
        """Note what was asked for, of which file, and by which key."""
        self._change(file_digest=file_digest, key_fingerprint=key_fingerprint)
        self.note_order(order)

    def note_order(self, order: Mapping[str, Any]) -> None:
        """Note what was asked for."""
        self._change(input_order=json.dumps(dict(order)))

    def draw_up(self) -> Writing:
        """Give what is new, to be written; whoever does tells whether it is."""
        self._under_way = Writing(
            job=self._job if self._job_is_new else None,
            exclude_lists=self._new_exclude_lists,
            contents=list(self._new.values()),
        )
        self._job_is_new = False
        self._new_exclude_lists = []
        self._new = {}
        return self._under_way

    def written(self) -> None:
        """Take note that what was drawn up is on the disk."""
        self._under_way = Writing()

    def not_written(self) -> None:
        """Take note that what was drawn up isn't on the disk: it is as new as before."""
        self._job_is_new = self._job_is_new or self._under_way.job is not None
        self._new_exclude_lists = [*self._under_way.exclude_lists, *self._new_exclude_lists]
        self._new = {row.number: row for row in self._under_way.contents} | self._new
        self._under_way = Writing()

    def _compare(self, known: ChunkRow, names: Sequence[str], contents: Sequence[str]) -> None:
        size = min(known.size, len(names))
        first = known.number * CHUNK
        if size == known.size and self._secret.digest(contents[:size]) == known.digest:
            return
        hashes = self._store.hashes(known.number)
        for index, name in enumerate(names[:size]):
            if self._secret.hash(name) != hashes[HASH * index : HASH * (index + 1)]:
                position = first + index
                raise _changed(
                    f"the input isn't the one of the ledger: it first differs at row {position + 1:,}", position
                )
        if size < known.size:
            raise self._too_short(first + size)
        raise _rewritten(first, first + size - 1)

    def _allow_growth(self, position: int) -> None:
        if self._job.items is None:
            return
        if not self._appended:
            raise InputChangedError(
                f"the input goes on after row {position:,}, where it ended before: if rows were only added at its end, "
                "say so (appended), or use another ledger",
                position,
                "longer",
            )
        self._change(items=None)

    def _end_at(self, end: int) -> None:
        if end < self.known:
            raise self._too_short(end)
        if end != self._job.items:
            self._change(items=end)

    def _too_short(self, end: int) -> InputChangedError:
        return _changed(f"the input ends after row {end:,}, but the ledger knows {self.known:,}", end, "shorter")

    def _change(self, **values: Any) -> None:
        self._job = attrs.evolve(self._job, **values)
        self._job_is_new = True


def begin(store: Store, location: LedgerLocation, undertaking: Undertaking, now: int) -> None:
    """Write a job into a new ledger; its key file is made beside it, where there is none."""
    try:
        secret = location.read_secret() or location.make_secret()
    except OSError as error:
        failure = of_system(key_path(location.path), error)
    else:
        job = JobRow(
            made=now,
            operation=undertaking.operation,
            identified_by=undertaking.by,
            base_url=undertaking.base_url,
            key_fingerprint=undertaking.key_fingerprint,
            secret_check=secret.check,
            items=None,
        )
        store.write(Writing(job=job))
        return
    raise failure


def secret_of(location: LedgerLocation, job: JobRow) -> Secret:
    """Read the key of a ledger. Raises LedgerError where it isn't there, or another one."""
    path = location.path
    try:
        secret = location.read_secret()
    except OSError as error:
        failure = of_system(key_path(path), error)
    else:
        if secret is None and not key_path(path).exists():
            raise LedgerRedactedError(
                f"{path}: its key file {key_path(path).name} is gone: put it back; without it the job can't go on"
            )
        if secret is None or secret.check != job.secret_check:
            raise LedgerMismatchError(
                f"{key_path(path)} is the key file of another ledger, or was changed: put its own back; without it the "
                "job can't go on",
                "secret",
            )
        return secret
    raise failure


def check(path: Path, job: JobRow, runs: Sequence[RunRow], undertaking: Undertaking, *, new_key: bool) -> None:
    """Compare a job with what is to be done. Raises LedgerMismatchError."""
    pairs: tuple[tuple[Mismatch, str, str, str], ...] = (
        ("operation", "the operation", job.operation, undertaking.operation),
        ("by", "by", job.identified_by, undertaking.by),
        ("server", "the server", job.base_url, undertaking.base_url),
    )
    for what, name, known, given in pairs:
        if known != given:
            raise LedgerMismatchError(
                f"{path} belongs to another job: there {name} is {known}, here {given}: use another ledger", what
            )
    if last_key(job, runs) != undertaking.key_fingerprint and not new_key:
        raise LedgerMismatchError(
            f"{path} belongs to a job with another API key: use that key, or another ledger; "
            "if the key of the same app was exchanged, say so (new_key)",
            "key",
        )


def _rewritten(first: int, last: int) -> InputChangedError:
    where = f"in row {first + 1:,}" if first == last else f"somewhere in rows {first + 1:,} to {last + 1:,}"
    return _changed(
        f"the input isn't the one of the ledger: the ids are the same, but what is to be written differs {where}",
        first,
        "rewritten",
        last,
    )


def _changed(sentence: str, position: int, kind: Difference = "differs", last: int | None = None) -> InputChangedError:
    return InputChangedError(f"{sentence}: give it as it was, or use another ledger", position, kind, last)
