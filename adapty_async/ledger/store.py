"""The SQLite tables of a ledger.

A row holds a chunk of 1,000 items, so that pages are written in the order of positions and an item takes 17 bytes. The
states of the items are in another table than their hashes, because they are rewritten with each commit.
"""

import contextlib
import itertools
import os
import sqlite3
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import attrs

from ..bulk.operations import OPERATIONS
from .chunks import ITEMS_PER_CHUNK, Chunk
from .errors import LedgerUnreadableError
from .files import APPLICATION_ID, FORMAT_VERSION, FileLock, build_damaged_error, translate_errors
from .lock import LedgerLock
from .named_and_temporary import LedgerLocation, NoFileCheck, to_location
from .open_file_check import OpenFileCheck

_SCHEMA: Final = f"""
CREATE TABLE job (
    made INTEGER NOT NULL, operation TEXT NOT NULL, identified_by TEXT NOT NULL, base_url TEXT NOT NULL,
    key_fingerprint TEXT NOT NULL, id_key_fingerprint BLOB NOT NULL, items INTEGER, job_options TEXT, file_digest BLOB,
    checksum INTEGER NOT NULL
);
CREATE TABLE run (
    number INTEGER PRIMARY KEY, started INTEGER NOT NULL, ended INTEGER, key_fingerprint TEXT NOT NULL,
    library_version TEXT NOT NULL, notes TEXT NOT NULL, boot TEXT NOT NULL, booted REAL NOT NULL,
    touched INTEGER NOT NULL, live_status TEXT,
    checksum INTEGER NOT NULL
);
CREATE TABLE chunk (
    number INTEGER PRIMARY KEY, size INTEGER NOT NULL, checksum INTEGER NOT NULL, digest BLOB NOT NULL,
    hashes BLOB NOT NULL
);
CREATE TABLE outcome (number INTEGER PRIMARY KEY, rows BLOB NOT NULL);
CREATE TABLE exclude_list (number INTEGER PRIMARY KEY, name TEXT NOT NULL, digest BLOB, checksum INTEGER NOT NULL);
CREATE TABLE presence (
    position INTEGER PRIMARY KEY, at INTEGER NOT NULL, present INTEGER NOT NULL, checksum INTEGER NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""

MAX_ROWS_PER_STATEMENT: Final = 100
"""Rows per statement. Between two statements another thread may run, and this one waits for its turn."""

_MAX_CHUNK_NUMBER: Final = 2**63 - 1

SQLITE_VERSION: Final = sqlite3.sqlite_version_info


@attrs.frozen
class JobRow:
    """The job of a ledger.

    Attributes:
        made: When the ledger was created, in seconds since 1970.
        operation: The name of the operation, such as `delete`.
        identified_by: The type of the IDs.
        base_url: The server.
        key_fingerprint: The key that the job was started with or last prepared with.
        id_key_fingerprint: Identifies the ID key.
        items: The number of items. None until the end of the input was read.
        job_options: The job options of the command line, as JSON. None if there are none.
        file_digest: The digest of the command line's input. None if there is none.
    """

    made: int
    operation: str
    identified_by: str
    base_url: str
    key_fingerprint: str
    id_key_fingerprint: bytes
    items: int | None
    job_options: str | None = None
    file_digest: bytes | None = None


@attrs.frozen
class RunRow:
    """One run of the job.

    Attributes:
        number: The number of the run, from 1.
        started: When it started, in seconds since 1970.
        ended: When it ended. None while it is running, and after a kill.
        key_fingerprint: Its API key.
        library_version: The version of this library.
        notes: The notes for the record, as JSON.
        boot: An ID of the machine's last start.
        booted: When that start was, by the wall clock. Each claim updates it if it gives a later time. A claim at `t`
            was made at least `t - booted` seconds after the start.
        touched: Whether the run may have had an effect: an item got a better outcome than `failed` from a request, or
            items were claimed when it ended.
        live_status: The last live status, as JSON. A killed process leaves it behind.
    """

    number: int
    started: int
    ended: int | None
    key_fingerprint: str
    library_version: str
    notes: str
    boot: str
    booted: float
    touched: bool = attrs.field(converter=bool)
    live_status: str | None = None


@attrs.frozen
class ChunkRow:
    """The size of a chunk, the digest of its items, and their states."""

    number: int
    size: int
    digest: bytes
    packed_states: bytes


@attrs.frozen(repr=False)
class ContentsRow:
    """The items of a chunk: their digest, and the hash of each ID."""

    number: int
    size: int
    digest: bytes
    hashes: bytes


@attrs.frozen(repr=False)
class ExcludeListRow:
    """An exclude list. Its items refer to its number. `digest` is that of its file, or None if it isn't known."""

    number: int
    name: str
    digest: bytes | None = None


@attrs.frozen(repr=False)
class CommitData:
    """The changes of one commit. `outcomes` holds pairs of a chunk's number and its packed states."""

    job: JobRow | None = None
    run: RunRow | None = None
    exclude_lists: Sequence[ExcludeListRow] = ()
    contents: Sequence[ContentsRow] = ()
    outcomes: Sequence[tuple[int, bytes]] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.job or self.run or self.exclude_lists or self.contents or self.outcomes)


@attrs.frozen
class Presence:
    """Whether a verification found a profile.

    Attributes:
        position: The position of the item in the input, from 0.
        at: When Adapty was asked, in seconds since 1970.
        present: Whether the profile exists.
    """

    position: int
    at: int
    present: bool = attrs.field(converter=bool)


_RowT = TypeVar("_RowT", JobRow, RunRow, ExcludeListRow, Presence)


class Store:
    """The tables of one ledger. All errors of SQLite are raised as LedgerError."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        checks: OpenFileCheck | NoFileCheck | None = None,
        own_lock: FileLock | None = None,
    ) -> None:
        self._path = path
        self._connection = connection
        self._checks = checks
        self._own_lock = own_lock
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] | LedgerLocation,
        initialize: Callable[["Store"], None] | None = None,
        *,
        lock: LedgerLock | None = None,
    ) -> Self:
        """Open a ledger for writing, and lock it unless the caller already holds its lock (`lock`).

        If there is no ledger, `initialize` writes its first rows.
        """
        location = to_location(path)

        def initialize_connection(connection: sqlite3.Connection) -> None:
            assert initialize is not None
            initialize(cls(location.path, connection))

        with translate_errors(location.path):
            opened = location.open_to_write(_SCHEMA, None if initialize is None else initialize_connection, lock)
        return cls(location.path, *opened)

    @classmethod
    def open_to_read(cls, path: str | os.PathLike[str] | LedgerLocation) -> Self:
        """Open a ledger for reading, even while a job is running."""
        location = to_location(path)
        with translate_errors(location.path):
            return cls(location.path, location.open_to_read())

    # Reading

    def read_job(self) -> JobRow:
        """Read the job."""
        with translate_errors(self._path):
            row = self._connection.execute(f"SELECT {_format_columns(JobRow)} FROM job").fetchone()  # noqa: S608 - our own names
        if row is None:
            raise build_damaged_error(self._path)
        job = self._parse_row(JobRow, row)
        if job.operation not in OPERATIONS:
            raise build_damaged_error(self._path)
        return job

    def read_runs(self) -> list[RunRow]:
        """Read the runs of the job, in order."""
        with translate_errors(self._path):
            rows = self._connection.execute(f"SELECT {_format_columns(RunRow)} FROM run ORDER BY number").fetchall()  # noqa: S608 - our own names
        return [self._parse_row(RunRow, row) for row in rows]

    def read_exclude_lists(self) -> list[ExcludeListRow]:
        """Read the exclude lists, in the order in which they were added."""
        with translate_errors(self._path):
            rows = self._connection.execute(
                f"SELECT {_format_columns(ExcludeListRow)} FROM exclude_list ORDER BY number"  # noqa: S608 - our own names
            ).fetchall()
        return [self._parse_row(ExcludeListRow, row) for row in rows]

    def iter_chunks(self, begin: int = 0, end: int = _MAX_CHUNK_NUMBER) -> Iterator[ChunkRow]:
        """Read the chunks from number `begin` up to, not including, `end`, in order. Their hashes aren't read."""
        with translate_errors(self._path):
            for row in self._select(_SELECT_CHUNKS, (begin, end)):
                yield ChunkRow(*row)

    def unpack_chunk(self, row: ChunkRow) -> Chunk:
        """Unpack the states of a chunk's items."""
        with contextlib.suppress(ValueError, zlib.error):
            return Chunk.unpack(row.size, zlib.decompress(row.packed_states))
        raise build_damaged_error(self._path)

    def read_hashes(self, number: int) -> bytes:
        """Read the hashes of a chunk's items, 16 bytes each. Raise LedgerUnreadableError if a byte has changed."""
        with translate_errors(self._path):
            digest, hashes, checksum = self._connection.execute(_SELECT_HASHES, (number,)).fetchone()
        if _compute_checksum(digest, hashes) != checksum:
            raise build_damaged_error(self._path)
        return bytes(hashes)

    def count_items(self) -> int:
        """Return the number of items in the ledger. Raise LedgerUnreadableError if some are missing."""
        with translate_errors(self._path):
            chunks, items, rows, last = self._connection.execute(_SELECT_SIZES).fetchone()
        if rows != chunks or last != chunks - 1 or -(-items // ITEMS_PER_CHUNK) != chunks:
            raise build_damaged_error(self._path)
        expected = self.read_job().items
        if expected not in {None, items}:
            raise LedgerUnreadableError(
                f"{self._path} contradicts itself: {items:,} of {expected:,} rows: restore it from a backup"
            )
        return int(items)

    def check_rows(self) -> None:
        """Read the states of all items. Raise LedgerUnreadableError if a byte has changed."""
        for row in self.iter_chunks():
            self.read_hashes(row.number)
            self.unpack_chunk(row)

    def iter_presences(self) -> Iterator[Presence]:
        """Read the results of the profiles' last verification, in order."""
        with translate_errors(self._path):
            for row in self._select(f"SELECT {_format_columns(Presence)} FROM presence ORDER BY position"):  # noqa: S608 - our own names
                yield self._parse_row(Presence, row)

    def _select(self, query: str, values: Sequence[int] = ()) -> sqlite3.Cursor:
        """Start a query whose rows may not all be read. `close` closes its cursor, which would keep the file open."""
        cursor = self._connection.execute(query, values)
        self._cursors.add(cursor)
        return cursor

    def _parse_row(self, row_type: type[_RowT], row: tuple[Any, ...]) -> _RowT:
        """Return the object of a row. Raise LedgerUnreadableError if a byte of the row has changed."""
        *values, checksum = row
        read = row_type(*values)
        if _add_checksum(read)[-1] != checksum:
            raise build_damaged_error(self._path)
        return read

    def begin_snapshot(self) -> None:
        """From now on, read the present state and ignore later commits."""
        with translate_errors(self._path):
            self._connection.execute("BEGIN")

    # Writing

    def commit(self, commit_data: CommitData) -> None:
        """Write all changes and sync them, or write nothing."""
        with self.transaction():
            self.write(commit_data)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block, or none. Raise LedgerLostError as `check_files` does."""
        assert self._checks is not None
        with translate_errors(self._path):
            self._checks.check_files()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._checks.check_writers()
                yield
                self._connection.execute("COMMIT")
            except BaseException:  # an interrupt too, which would leave the transaction open
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._checks.record_sizes()
            self._checks.check_files()

    def check_files(self) -> None:
        """Raise LedgerLostError if a file was removed, renamed or replaced since the ledger was opened."""
        assert self._checks is not None
        with translate_errors(self._path):
            self._checks.check_files()

    def write(self, commit_data: CommitData) -> None:
        """Write changes in the current transaction."""
        if commit_data.job is not None:
            self._connection.execute("DELETE FROM job")
            self._insert("job", [_add_checksum(commit_data.job)])
        if commit_data.run is not None:
            self._insert("run", [_add_checksum(commit_data.run)])
        for row in commit_data.exclude_lists:
            self._insert("exclude_list", [_add_checksum(row)])
        for begin in range(0, len(commit_data.contents), MAX_ROWS_PER_STATEMENT):
            rows = commit_data.contents[begin : begin + MAX_ROWS_PER_STATEMENT]
            self._insert(
                "chunk", [(r.number, r.size, _compute_checksum(r.digest, r.hashes), r.digest, r.hashes) for r in rows]
            )
        for begin in range(0, len(commit_data.outcomes), MAX_ROWS_PER_STATEMENT):
            self._write_outcomes(commit_data.outcomes[begin : begin + MAX_ROWS_PER_STATEMENT])

    def write_presences(self, presences: Iterable[Presence]) -> None:
        """Write the results of a verification."""
        rows = map(_add_checksum, presences)
        self._connection.executemany("INSERT OR REPLACE INTO presence VALUES (?, ?, ?, ?)", rows)

    def delete_presences(self) -> None:
        """Remove the results of all verifications."""
        self._connection.execute("DELETE FROM presence")

    def _write_outcomes(self, outcomes: Sequence[tuple[int, bytes]]) -> None:
        self._insert("outcome", [(number, zlib.compress(plain, 1)) for number, plain in outcomes])

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Write at most AT_ONCE rows in one statement."""
        marks = f"({', '.join('?' * len(rows[0]))})"
        values = tuple(itertools.chain.from_iterable(rows))
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {', '.join([marks] * len(rows))}", values)  # noqa: S608 - our own names

    def close(self) -> None:
        """Close the file. Repeated calls have no effect.

        All commits are then in the ledger itself, unless another process is reading it. Its log is empty, or is removed
        if no other process has the ledger open.
        """
        # No commit can be lost any more.
        with contextlib.suppress(sqlite3.Error):
            for cursor in list(self._cursors):
                cursor.close()
            if self._checks is not None:  # closing a connection moves the log only if it is the last one
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if self._own_lock is not None:
            self._own_lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_SELECT_CHUNKS: Final = """
    SELECT chunk.number, size, digest, rows FROM chunk JOIN outcome ON outcome.number = chunk.number
    WHERE chunk.number >= ? AND chunk.number < ? ORDER BY chunk.number
"""

_SELECT_SIZES: Final = """
    SELECT COUNT(*), COALESCE(SUM(size), 0), COUNT(outcome.number), COALESCE(MAX(chunk.number), -1)
    FROM chunk LEFT JOIN outcome ON outcome.number = chunk.number
"""


_SELECT_HASHES: Final = "SELECT digest, hashes, checksum FROM chunk WHERE number = ?"


def _compute_checksum(digest: bytes, hashes: bytes) -> int:
    """Return a checksum that detects changes on the disk. The packing of outcomes contains one already."""
    return zlib.crc32(hashes, zlib.crc32(digest))


def _format_columns(row_type: type[JobRow | RunRow | ExcludeListRow | Presence]) -> str:
    return ", ".join([*(field.name for field in attrs.fields(row_type)), "checksum"])


def _add_checksum(row: JobRow | RunRow | ExcludeListRow | Presence) -> tuple[object, ...]:
    """Return the values of a row, and a checksum that detects changes on the disk."""
    values = attrs.astuple(row)
    return *values, zlib.crc32(repr(values).encode())
