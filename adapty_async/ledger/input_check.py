"""The input check: compares the input with the stored items, and records new ones."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..pluralization import format_count
from .chunks import HASH_BYTES, ITEMS_PER_CHUNK, Chunk
from .errors import Difference, InputChangedError
from .files import build_write_error, open_regular_file
from .id_key import IdKey
from .store import ChunkRow, CommitData, ContentsRow, ExcludeListRow, JobRow, Store


@attrs.frozen(repr=False)
class InputChunk:
    """A chunk of the input. `is_last` is True if it is the last one."""

    number: int
    ids: Sequence[str]
    contents: Sequence[str]
    is_last: bool

    @property
    def is_full(self) -> bool:
        """Whether the chunk has the full number of items."""
        return len(self.ids) == ITEMS_PER_CHUNK

    @property
    def end_position(self) -> int:
        """The position after its last item."""
        return self.number * ITEMS_PER_CHUNK + len(self.ids)


@attrs.frozen
class CheckedChunk:
    """The state of a chunk after the input check.

    `known_count` is the number of its items that were in the ledger before.
    """

    chunk: Chunk
    known_count: int

    @property
    def has_new_items(self) -> bool:
        """Whether some of its items aren't written yet."""
        return self.known_count < len(self.chunk)


class InputCheck:
    """The items in a ledger, in chunks. New items are kept in memory until they are written."""

    def __init__(self, store: Store, id_key: IdKey, job: JobRow, *, appended: bool) -> None:
        self._store = store
        self._id_key = id_key
        self._job = job
        self._is_job_dirty = False
        self._appended = appended
        self._new_contents: dict[int, ContentsRow] = {}
        self._exclude_lists = {row.name: row.number for row in store.read_exclude_lists()}
        self._new_exclude_lists: list[ExcludeListRow] = []
        self._committing = CommitData()
        self.known_count = store.count_items()

    def has_chunk(self, input_chunk: InputChunk) -> bool:
        """Return True if the ledger has at least one item of a chunk."""
        return input_chunk.number * ITEMS_PER_CHUNK < self.known_count

    def load_and_check(self, input_chunks: Sequence[InputChunk]) -> list[Chunk | None]:
        """Read the states of consecutive chunks of the input, and check the input against them.

        Return None for each chunk that isn't in the ledger. Raise InputChangedError. This only reads, and may run in
        another thread than the other methods.
        """
        first, known_chunks = input_chunks[0].number, list(filter(self.has_chunk, input_chunks))
        chunks: list[Chunk | None] = []
        for row, input_chunk in zip(
            self._store.iter_chunks(first, first + len(known_chunks)), known_chunks, strict=True
        ):
            self._compare(row, input_chunk.ids, input_chunk.contents)
            chunks.append(self._store.unpack_chunk(row))
        return chunks + [None] * (len(input_chunks) - len(known_chunks))

    def add_chunk(self, input_chunk: InputChunk, chunk: Chunk | None) -> CheckedChunk:
        """Record the new items of a chunk. `chunk` is the result of `load_and_check`. Raise InputChangedError."""
        if input_chunk.end_position > self.known_count:
            self._check_growth(self.known_count)
        if input_chunk.is_last:
            self._record_end(input_chunk.end_position)
        known_count = 0 if chunk is None else len(chunk)
        if chunk is None:
            chunk = Chunk(len(input_chunk.ids))
        else:
            chunk.extend(len(input_chunk.ids))
        checked_chunk = CheckedChunk(chunk, known_count)
        if checked_chunk.has_new_items:
            digest, hashes = self._id_key.digest(input_chunk.contents), self._id_key.hash_all(input_chunk.ids)
            self._new_contents[input_chunk.number] = ContentsRow(
                input_chunk.number, len(input_chunk.ids), digest, hashes
            )
            self.known_count = input_chunk.end_position
        return checked_chunk

    def get_exclude_list_number(self, exclude_list: str | None) -> int:
        """Return the number of an exclude list, or 0 if there is none."""
        if exclude_list is None:
            return 0
        name = exclude_list.encode(errors="backslashreplace").decode()  # it may be a file name that isn't UTF-8
        if name not in self._exclude_lists:
            number = self._exclude_lists[name] = len(self._exclude_lists) + 1
            self._new_exclude_lists.append(ExcludeListRow(number, name))
        return self._exclude_lists[name]

    def record_exclude_lists(self, files: Mapping[str, Path]) -> None:
        """Record exclude lists by their names and the contents of their files. Raise LedgerWriteError."""
        for name, path in files.items():
            number = self.get_exclude_list_number(name)
            try:
                with open_regular_file(path) as file:
                    digest = self._id_key.digest_file(file)
            except OSError as error:
                failure = build_write_error(path, error)
            else:
                self._new_exclude_lists.append(ExcludeListRow(number, name, digest))
                continue
            raise failure

    def record_preparation(
        self, job_options: Mapping[str, Any], file_digest: bytes | None, key_fingerprint: str
    ) -> None:
        """Record the job options, the digest of the input file, and the API key."""
        self._update_job(file_digest=file_digest, key_fingerprint=key_fingerprint)
        self.record_job_options(job_options)

    def record_job_options(self, job_options: Mapping[str, Any]) -> None:
        """Record the job options."""
        self._update_job(job_options=json.dumps(dict(job_options)))

    def prepare_commit(self) -> CommitData:
        """Return the changes since the last call. The caller reports whether they were written."""
        self._committing = CommitData(
            job=self._job if self._is_job_dirty else None,
            exclude_lists=self._new_exclude_lists,
            contents=list(self._new_contents.values()),
        )
        self._is_job_dirty = False
        self._new_exclude_lists = []
        self._new_contents = {}
        return self._committing

    def on_committed(self) -> None:
        """Record that the changes from `prepare_commit` are on the disk."""
        self._committing = CommitData()

    def on_commit_failed(self) -> None:
        """Record that the changes from `prepare_commit` couldn't be written. They are still dirty."""
        self._is_job_dirty = self._is_job_dirty or self._committing.job is not None
        self._new_exclude_lists = [*self._committing.exclude_lists, *self._new_exclude_lists]
        self._new_contents = {row.number: row for row in self._committing.contents} | self._new_contents
        self._committing = CommitData()

    def _compare(self, stored_chunk: ChunkRow, ids: Sequence[str], contents: Sequence[str]) -> None:
        size = min(stored_chunk.size, len(ids))
        first = stored_chunk.number * ITEMS_PER_CHUNK
        if size == stored_chunk.size and self._id_key.digest(contents[:size]) == stored_chunk.digest:
            return
        hashes = self._store.read_hashes(stored_chunk.number)
        for index, id_text in enumerate(ids[:size]):
            if self._id_key.hash(id_text) != hashes[HASH_BYTES * index : HASH_BYTES * (index + 1)]:
                position = first + index
                raise _build_changed_error(
                    f"the input doesn't match the ledger: it first differs at row {position + 1:,}", position
                )
        if size < stored_chunk.size:
            raise self._build_too_short_error(first + size)
        raise _build_rewritten_error(first, first + size - 1)

    def _check_growth(self, position: int) -> None:
        if self._job.items is None:
            return
        if not self._appended:
            raise InputChangedError(
                f"the input continues after row {position:,}, where it ended before: pass appended=True if rows were "
                "only added at its end, otherwise use another ledger",
                position,
                "longer",
            )
        self._update_job(items=None)

    def _record_end(self, end: int) -> None:
        if end < self.known_count:
            raise self._build_too_short_error(end)
        if end != self._job.items:
            self._update_job(items=end)

    def _build_too_short_error(self, end: int) -> InputChangedError:
        return _build_changed_error(
            f"the input ends after row {end:,}, but the ledger has {format_count(self.known_count, 'row')}",
            end,
            "shorter",
        )

    def _update_job(self, **values: Any) -> None:
        self._job = attrs.evolve(self._job, **values)
        self._is_job_dirty = True


def _build_rewritten_error(first: int, last: int) -> InputChangedError:
    where = f"in row {first + 1:,}" if first == last else f"somewhere in rows {first + 1:,} to {last + 1:,}"
    return _build_changed_error(
        f"the input doesn't match the ledger: the IDs are the same, but the data to write differs {where}",
        first,
        "rewritten",
        last,
    )


def _build_changed_error(
    message: str, position: int, kind: Difference = "differs", last: int | None = None
) -> InputChangedError:
    return InputChangedError(f"{message}: pass the original input, or use another ledger", position, kind, last)
