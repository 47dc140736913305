"""The input check: compares the input with the stored items, and records new ones."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..bulk.job_store import Undertaking
from .chunks import CHUNK, HASH, Chunk
from .errors import Difference, InputChangedError, LedgerMismatchError, LedgerRedactedError, Mismatch
from .files import of_system, open_regular
from .id_key import Secret, key_path
from .last_key import last_key
from .location import LedgerLocation
from .store import ChunkRow, ContentsRow, ExcludeListRow, JobRow, RunRow, Store, Writing


@attrs.frozen(repr=False)
class Part:
    """A chunk of the input. `is_last` is True if it is the last one."""

    number: int
    names: Sequence[str]
    contents: Sequence[str]
    is_last: bool

    @property
    def is_whole(self) -> bool:
        """Whether the chunk has the full number of items."""
        return len(self.names) == CHUNK

    @property
    def end(self) -> int:
        """The position after its last item."""
        return self.number * CHUNK + len(self.names)


@attrs.frozen
class Met:
    """The state of a chunk after the input check. `known` is the number of its items that were in the ledger before."""

    chunk: Chunk
    known: int

    @property
    def is_new(self) -> bool:
        """Whether some of its items aren't written yet."""
        return self.known < len(self.chunk)


class Inventory:
    """The items in a ledger, in chunks. New items are kept in memory until they are written."""

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
        """Return True if the ledger has at least one item of a chunk."""
        return part.number * CHUNK < self.known

    def recall(self, parts: Sequence[Part]) -> list[Chunk | None]:
        """Read the states of consecutive chunks of the input, and check the input against them.

        Return None for each chunk that isn't in the ledger. Raise InputChangedError. This only reads, and may run in
        another thread than the other methods.
        """
        first, known = parts[0].number, list(filter(self.knows, parts))
        chunks: list[Chunk | None] = []
        for row, part in zip(self._store.chunks(first, first + len(known)), known, strict=True):
            self._compare(row, part.names, part.contents)
            chunks.append(self._store.unpacked(row))
        return chunks + [None] * (len(parts) - len(known))

    def meet(self, part: Part, chunk: Chunk | None) -> Met:
        """Record the new items of a chunk. `chunk` is the result of `recall`. Raise InputChangedError."""
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
        """Return the number of an exclude list, or 0 if there is none."""
        if exclude_list is None:
            return 0
        name = exclude_list.encode(errors="backslashreplace").decode()  # it may be a file name that isn't UTF-8
        if name not in self._exclude_lists:
            number = self._exclude_lists[name] = len(self._exclude_lists) + 1
            self._new_exclude_lists.append(ExcludeListRow(number, name))
        return self._exclude_lists[name]

    def note_exclude_lists(self, files: Mapping[str, Path]) -> None:
        """Record exclude lists by their names and the contents of their files. Raise LedgerWriteError."""
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
        """Record the job options, the digest of the input file, and the API key."""
        self._change(file_digest=file_digest, key_fingerprint=key_fingerprint)
        self.note_order(order)

    def note_order(self, order: Mapping[str, Any]) -> None:
        """Record the job options."""
        self._change(input_order=json.dumps(dict(order)))

    def draw_up(self) -> Writing:
        """Return the changes since the last call. The caller reports whether they were written."""
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
        """Record that the changes from `draw_up` are on the disk."""
        self._under_way = Writing()

    def not_written(self) -> None:
        """Record that the changes from `draw_up` couldn't be written. They are still dirty."""
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
                    f"the input doesn't match the ledger: it first differs at row {position + 1:,}", position
                )
        if size < known.size:
            raise self._too_short(first + size)
        raise _rewritten(first, first + size - 1)

    def _allow_growth(self, position: int) -> None:
        if self._job.items is None:
            return
        if not self._appended:
            raise InputChangedError(
                f"the input continues after row {position:,}, where it ended before: pass appended=True if rows were "
                "only added at its end, otherwise use another ledger",
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
        return _changed(f"the input ends after row {end:,}, but the ledger has {self.known:,} rows", end, "shorter")

    def _change(self, **values: Any) -> None:
        self._job = attrs.evolve(self._job, **values)
        self._job_is_new = True


def begin(store: Store, location: LedgerLocation, undertaking: Undertaking, now: int) -> None:
    """Write a job into a new ledger. Create a key file next to it if there is none."""
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
    """Read the ID key of a ledger. Raise LedgerError if its file is missing or holds another key."""
    path = location.path
    try:
        secret = location.read_secret()
    except OSError as error:
        failure = of_system(key_path(path), error)
    else:
        if secret is None and not key_path(path).exists():
            raise LedgerRedactedError(
                f"{path}: its key file {key_path(path).name} is gone: put it back; without it the job can't be resumed"
            )
        if secret is None or secret.check != job.secret_check:
            raise LedgerMismatchError(
                f"{key_path(path)} is the key file of another ledger, or was changed: put the right one back; without "
                "it the job can't be resumed",
                "secret",
            )
        return secret
    raise failure


def check(path: Path, job: JobRow, runs: Sequence[RunRow], undertaking: Undertaking, *, new_key: bool) -> None:
    """Compare the job spec with the stored one. Raise LedgerMismatchError."""
    pairs: tuple[tuple[Mismatch, str, str, str], ...] = (
        ("operation", "operation", job.operation, undertaking.operation),
        ("by", "ID type", job.identified_by, undertaking.by),
        ("server", "server", job.base_url, undertaking.base_url),
    )
    for what, name, known, given in pairs:
        if known != given:
            raise LedgerMismatchError(
                f"{path} belongs to another job: its {name} is {known}, not {given}: use another ledger", what
            )
    if last_key(job, runs) != undertaking.key_fingerprint and not new_key:
        raise LedgerMismatchError(
            f"{path} belongs to a job with another API key: use that key, or another ledger; "
            "if the app's key was replaced, pass new_key=True",
            "key",
        )


def _rewritten(first: int, last: int) -> InputChangedError:
    where = f"in row {first + 1:,}" if first == last else f"somewhere in rows {first + 1:,} to {last + 1:,}"
    return _changed(
        f"the input doesn't match the ledger: the IDs are the same, but the data to write differs {where}",
        first,
        "rewritten",
        last,
    )


def _changed(sentence: str, position: int, kind: Difference = "differs", last: int | None = None) -> InputChangedError:
    return InputChangedError(f"{sentence}: pass the original input, or use another ledger", position, kind, last)
