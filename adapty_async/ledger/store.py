"""The ledger's file: the only place that knows SQLite.

One row holds a chunk of 1,000 items, so that pages are written in the order of positions and an item takes 17 bytes.
What became of the items lies apart from their hashes: it is written again with every commit, they are not.
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

from .chunks import CHUNK, Chunk
from .errors import LedgerUnreadableError
from .fence import Fence
from .files import APPLICATION, VERSION, Lock, damaged, translated
from .holding import Held
from .location import LedgerLocation, NoChecks, location_of

_SCHEMA: Final = f"""
CREATE TABLE job (
    made INTEGER NOT NULL, operation TEXT NOT NULL, identified_by TEXT NOT NULL, base_url TEXT NOT NULL,
    key_fingerprint TEXT NOT NULL, secret_check BLOB NOT NULL, items INTEGER, input_order TEXT, file_digest BLOB,
    checksum INTEGER NOT NULL
);
CREATE TABLE run (
    number INTEGER PRIMARY KEY, started INTEGER NOT NULL, ended INTEGER, key_fingerprint TEXT NOT NULL,
    library_version TEXT NOT NULL, notes TEXT NOT NULL, boot TEXT NOT NULL, booted REAL NOT NULL,
    touched INTEGER NOT NULL, sight TEXT,
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
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""

AT_ONCE: Final = 100
"""Rows that one statement writes. Between two of them another thread may run, and then this one waits for its turn."""

_NO_END: Final = 2**63 - 1

SQLITE_VERSION: Final = sqlite3.sqlite_version_info


@attrs.frozen
class JobRow:
    """The job of a ledger. `items`: their number, None before the end of the input was seen.

    `key_fingerprint`: of whoever began it, or prepared it last.
    `input_order`: JSON, what the command line was asked for; `file_digest`: of its input; None where it had no such.
    """

    made: int
    operation: str
    identified_by: str
    base_url: str
    key_fingerprint: str
    secret_check: bytes
    items: int | None
    input_order: str | None = None
    file_digest: bytes | None = None


@attrs.frozen
class RunRow:
    """One run of the job. `ended`: None while it runs, and where it was killed. `notes`: JSON.

    `boot` tells one start of the machine from another. `booted`: when that was by the wall clock, or the latest that
    this clock said of it whenever something was claimed: a claim at `t` was made at least `t - booted` seconds later.
    `touched`: whether something may have come of it: more than refusals, or items that were claimed when it ended.
    `sight`: JSON, what was seen of it last while it runs; a kill leaves it behind.
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
    sight: str | None = None


@attrs.frozen
class ChunkRow:
    """How many items a chunk has, the digest of what they are, and what became of them."""

    number: int
    size: int
    digest: bytes
    rows: bytes


@attrs.frozen(repr=False)
class ContentsRow:
    """What the items of a chunk are: the digest of them all, and the hash of each one's id."""

    number: int
    size: int
    digest: bytes
    hashes: bytes


@attrs.frozen(repr=False)
class ExcludeListRow:
    """An exclude list, by whose number its items name it. `digest`: of its file, None where it isn't known."""

    number: int
    name: str
    digest: bytes | None = None


@attrs.frozen(repr=False)
class Writing:
    """What is written by one commit. `outcomes`: the numbers of chunks, and what became of their items, packed."""

    job: JobRow | None = None
    run: RunRow | None = None
    exclude_lists: Sequence[ExcludeListRow] = ()
    contents: Sequence[ContentsRow] = ()
    outcomes: Sequence[tuple[int, bytes]] = ()

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to write."""
        return not (self.job or self.run or self.exclude_lists or self.contents or self.outcomes)


@attrs.frozen
class Presence:
    """Whether a profile was there when it was asked for after the job. `at`: seconds since 1970."""

    position: int
    at: int
    present: bool = attrs.field(converter=bool)


_RowT = TypeVar("_RowT", JobRow, RunRow, ExcludeListRow, Presence)


class Store:
    """The tables of one ledger. Raises LedgerError, whatever SQLite says."""

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        checks: Fence | NoChecks | None = None,
        own_lock: Lock | None = None,
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
        make: Callable[["Store"], None] | None = None,
        *,
        held: Held | None = None,
    ) -> Self:
        """Open a ledger to write in, and lock it, if it isn't `held`. Where there is none `make` writes what it begins
        with.
        """
        location = location_of(path)

        def make_in(connection: sqlite3.Connection) -> None:
            assert make is not None
            make(cls(location.path, connection))

        with translated(location.path):
            opened = location.open_to_write(_SCHEMA, None if make is None else make_in, held)
        return cls(location.path, *opened)

    @classmethod
    def open_to_read(cls, path: str | os.PathLike[str] | LedgerLocation) -> Self:
        """Open a ledger to read in, also while a job runs."""
        location = location_of(path)
        with translated(location.path):
            return cls(location.path, location.open_to_read())

    # Reading

    def job(self) -> JobRow:
        """Read the job."""
        with translated(self._path):
            row = self._connection.execute(f"SELECT {_columns(JobRow)} FROM job").fetchone()  # noqa: S608 - our own names
        if row is None:
            raise damaged(self._path)
        return self._checked(JobRow, row)

    def runs(self) -> list[RunRow]:
        """Read the runs of the job, in order."""
        with translated(self._path):
            rows = self._connection.execute(f"SELECT {_columns(RunRow)} FROM run ORDER BY number").fetchall()  # noqa: S608 - our own names
        return [self._checked(RunRow, row) for row in rows]

    def exclude_lists(self) -> list[ExcludeListRow]:
        """Read the exclude lists, in the order in which they came."""
        with translated(self._path):
            rows = self._connection.execute(
                f"SELECT {_columns(ExcludeListRow)} FROM exclude_list ORDER BY number"  # noqa: S608 - our own names
            ).fetchall()
        return [self._checked(ExcludeListRow, row) for row in rows]

    def chunks(self, begin: int = 0, end: int = _NO_END) -> Iterator[ChunkRow]:
        """Read the chunks from number `begin` to before `end`, without their hashes, in order."""
        with translated(self._path):
            for row in self._select(_SELECT_CHUNKS, (begin, end)):
                yield ChunkRow(*row)

    def unpacked(self, row: ChunkRow) -> Chunk:
        """Unpack what became of the items of a chunk."""
        with contextlib.suppress(ValueError, zlib.error):
            return Chunk.unpack(row.size, zlib.decompress(row.rows))
        raise damaged(self._path)

    def hashes(self, number: int) -> bytes:
        """Read the hashes of a chunk's items, 16 bytes each. Raises LedgerUnreadableError where a byte has changed."""
        with translated(self._path):
            digest, hashes, checksum = self._connection.execute(_SELECT_HASHES, (number,)).fetchone()
        if _checksum(digest, hashes) != checksum:
            raise damaged(self._path)
        return bytes(hashes)

    def items(self) -> int:
        """Give the number of items that the ledger knows. Raises LedgerUnreadableError where some are missing."""
        with translated(self._path):
            chunks, items, rows, last = self._connection.execute(_SELECT_SIZES).fetchone()
        if rows != chunks or last != chunks - 1 or -(-items // CHUNK) != chunks:
            raise damaged(self._path)
        expected = self.job().items
        if expected not in {None, items}:
            raise LedgerUnreadableError(
                f"{self._path} contradicts itself: {items:,} rows of {expected:,}: restore it from a copy"
            )
        return int(items)

    def check_rows(self) -> None:
        """Read what is known of every item. Raises LedgerUnreadableError where a byte has changed."""
        for row in self.chunks():
            self.hashes(row.number)
            self.unpacked(row)

    def presences(self) -> Iterator[Presence]:
        """Read what the profiles' last verification found, in order."""
        with translated(self._path):
            for row in self._select(f"SELECT {_columns(Presence)} FROM presence ORDER BY position"):  # noqa: S608 - our own names
                yield self._checked(Presence, row)

    def _select(self, query: str, values: Sequence[int] = ()) -> sqlite3.Cursor:
        """Begin to read rows, for who may not read them to their end: the file is only closed with its last cursor."""
        cursor = self._connection.execute(query, values)
        self._cursors.add(cursor)
        return cursor

    def _checked(self, kind: type[_RowT], row: tuple[Any, ...]) -> _RowT:
        """Make what a row says. Raises LedgerUnreadableError where a byte of it has changed."""
        *values, checksum = row
        read = kind(*values)
        if _with_checksum(read)[-1] != checksum:
            raise damaged(self._path)
        return read

    def begin_snapshot(self) -> None:
        """Read from now on what is committed now, whatever is written meanwhile."""
        with translated(self._path):
            self._connection.execute("BEGIN")

    # Writing

    def commit(self, writing: Writing) -> None:
        """Write all of it, or nothing; it is on the disk then."""
        with self.transaction():
            self.write(writing)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is written in the block, all or nothing. Raise LedgerLostError as `check_files` does."""
        assert self._checks is not None
        with translated(self._path):
            self._checks.check()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._checks.check_writers()
                yield
                self._connection.execute("COMMIT")
            except BaseException:  # an interrupt, too: the transaction would stay open
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._checks.note_sizes()
            self._checks.check()

    def check_files(self) -> None:
        """Raise LedgerLostError if one of the files was removed, renamed or replaced since the ledger was opened."""
        assert self._checks is not None
        with translated(self._path):
            self._checks.check()

    def write(self, writing: Writing) -> None:
        """Write it in the transaction that runs."""
        if writing.job is not None:
            self._connection.execute("DELETE FROM job")
            self._insert("job", [_with_checksum(writing.job)])
        if writing.run is not None:
            self._insert("run", [_with_checksum(writing.run)])
        for row in writing.exclude_lists:
            self._insert("exclude_list", [_with_checksum(row)])
        for begin in range(0, len(writing.contents), AT_ONCE):
            rows = writing.contents[begin : begin + AT_ONCE]
            self._insert("chunk", [(r.number, r.size, _checksum(r.digest, r.hashes), r.digest, r.hashes) for r in rows])
        for begin in range(0, len(writing.outcomes), AT_ONCE):
            self._write_outcomes(writing.outcomes[begin : begin + AT_ONCE])

    def write_presences(self, presences: Iterable[Presence]) -> None:
        """Write what a verification found."""
        rows = map(_with_checksum, presences)
        self._connection.executemany("INSERT OR REPLACE INTO presence VALUES (?, ?, ?, ?)", rows)

    def forget_presences(self) -> None:
        """Remove all that verifications found."""
        self._connection.execute("DELETE FROM presence")

    def _write_outcomes(self, outcomes: Sequence[tuple[int, bytes]]) -> None:
        self._insert("outcome", [(number, zlib.compress(plain, 1)) for number, plain in outcomes])

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Write rows, AT_ONCE at most, by one statement."""
        marks = f"({', '.join('?' * len(rows[0]))})"
        values = tuple(itertools.chain.from_iterable(rows))
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {', '.join([marks] * len(rows))}", values)  # noqa: S608 - our own names

    def close(self) -> None:
        """Let go of the file; again, harmlessly.

        Unless another process reads in it at this moment, all that was committed is in the ledger itself then, and its
        log is empty, or gone where nobody else has it open.
        """
        # Nothing that was committed can be lost any more.
        with contextlib.suppress(sqlite3.Error):
            for cursor in list(self._cursors):
                cursor.close()
            if self._checks is not None:  # the end of a connection moves the log only where it is the last one
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if self._own_lock is not None:
            self._own_lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
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


def _checksum(digest: bytes, hashes: bytes) -> int:
    """Give what tells that a disk has changed them; outcomes have one in their packing."""
    return zlib.crc32(hashes, zlib.crc32(digest))


def _columns(row: type[JobRow | RunRow | ExcludeListRow | Presence]) -> str:
    return ", ".join([*(field.name for field in attrs.fields(row)), "checksum"])


def _with_checksum(row: JobRow | RunRow | ExcludeListRow | Presence) -> tuple[object, ...]:
    """Give the values of a row, and what tells that a disk has changed one."""
    values = attrs.astuple(row)
    return *values, zlib.crc32(repr(values).encode())
