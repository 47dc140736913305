"""The ledger's file: the only place that knows SQLite.

One row holds a chunk of 1,000 items, so that pages are written in the order of positions and an item takes 17 bytes.
What became of the items lies apart from their hashes: it is written again with every commit, they are not.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from .chunks import Chunk
from .errors import LedgerError, LedgerLockedError, LedgerUnreadableError, LedgerWriteError

_APPLICATION: Final = 0x41645079
_VERSION: Final = 1
_OWNER_ONLY: Final = 0o600
_FRESH: Final = (0, 0)

_SCHEMA: Final = f"""
CREATE TABLE job (
    made INTEGER NOT NULL, operation TEXT NOT NULL, identified_by TEXT NOT NULL, base_url TEXT NOT NULL,
    secret_check BLOB NOT NULL, items INTEGER
);
CREATE TABLE run (
    number INTEGER PRIMARY KEY, started INTEGER NOT NULL, ended INTEGER, key_fingerprint TEXT NOT NULL,
    library_version TEXT NOT NULL, notes TEXT NOT NULL
);
CREATE TABLE chunk (number INTEGER PRIMARY KEY, size INTEGER NOT NULL, digest BLOB NOT NULL, hashes BLOB NOT NULL);
CREATE TABLE outcome (number INTEGER PRIMARY KEY, rows BLOB NOT NULL);
CREATE TABLE presence (position INTEGER PRIMARY KEY, at INTEGER NOT NULL, present INTEGER NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""


@attrs.frozen
class JobRow:
    """The job of a ledger. `items`: their number, None before the end of the input was seen."""

    made: int
    operation: str
    identified_by: str
    base_url: str
    secret_check: bytes
    items: int | None


@attrs.frozen
class RunRow:
    """One run of the job. `ended`: None while it runs, and where it was killed. `notes`: JSON."""

    number: int
    started: int
    ended: int | None
    key_fingerprint: str
    library_version: str
    notes: str


@attrs.frozen
class ChunkRow:
    """How many items a chunk has, the digest of what they are, and what became of them."""

    number: int
    size: int
    digest: bytes
    rows: bytes


@attrs.frozen
class Presence:
    """Whether a profile was there when it was asked for after the job. `at`: seconds since 1970."""

    position: int
    at: int
    present: bool


class Store:
    """The tables of one ledger. Raises LedgerError, whatever SQLite says."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: sqlite3.Connection | None = None) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a ledger to write in, and lock it; make it where there is none."""
        with _translated(path):
            lock = _locked(path)
            try:
                _make_private(path)
                connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
                try:
                    _check_format(path, connection, may_be_fresh=True)
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = FULL")
                    if _format(connection) == _FRESH:
                        connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
                except BaseException:
                    connection.close()
                    raise
            except BaseException:
                lock.close()
                raise
        return cls(path, connection, lock)

    @classmethod
    def open_to_read(cls, path: Path) -> "Store":
        """Open a ledger to read in, also while a job runs."""
        if not path.exists():
            raise LedgerUnreadableError(f"{path} doesn't exist: check the name")
        with _translated(path):
            connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
            try:
                _check_format(path, connection, may_be_fresh=False)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    # Reading

    def job(self) -> JobRow | None:
        """Read the job; None where it never began."""
        with _translated(self._path):
            row = self._connection.execute(f"SELECT {_columns(JobRow)} FROM job").fetchone()  # noqa: S608 - our own names
        return None if row is None else JobRow(*row)

    def runs(self) -> list[RunRow]:
        """Read the runs of the job, in order."""
        with _translated(self._path):
            rows = self._connection.execute(f"SELECT {_columns(RunRow)} FROM run ORDER BY number").fetchall()  # noqa: S608 - our own names
        return [RunRow(*row) for row in rows]

    def chunk(self, number: int) -> ChunkRow | None:
        """Read a chunk, without its hashes; None where there is none."""
        with _translated(self._path):
            row = self._connection.execute(f"{_SELECT_CHUNK} WHERE chunk.number = ?", (number,)).fetchone()
        return None if row is None else ChunkRow(*row)

    def chunks(self) -> Iterator[ChunkRow]:
        """Read the chunks, without their hashes, in order."""
        with _translated(self._path):
            for row in self._connection.execute(f"{_SELECT_CHUNK} ORDER BY chunk.number"):
                yield ChunkRow(*row)

    def unpacked(self, row: ChunkRow) -> Chunk:
        """Unpack what became of the items of a chunk."""
        with contextlib.suppress(ValueError):
            return Chunk.unpack(row.size, row.rows)
        raise _damaged(self._path)

    def hashes(self, number: int) -> bytes:
        """Read the hashes of a chunk's items, 16 bytes each."""
        with _translated(self._path):
            (hashes,) = self._connection.execute("SELECT hashes FROM chunk WHERE number = ?", (number,)).fetchone()
        return bytes(hashes)

    def items(self) -> int:
        """Give the number of items that the ledger knows."""
        with _translated(self._path):
            (items,) = self._connection.execute("SELECT COALESCE(SUM(size), 0) FROM chunk").fetchone()
        return int(items)

    def presences(self) -> Iterator[Presence]:
        """Read what the profiles' last verification found, in order."""
        with _translated(self._path):
            for position, at, present in self._connection.execute("SELECT * FROM presence ORDER BY position"):
                yield Presence(position, at, bool(present))

    def begin_snapshot(self) -> None:
        """Read from now on what is committed now, whatever is written meanwhile."""
        with _translated(self._path):
            self._connection.execute("BEGIN")

    # Writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is written in the block, all or nothing."""
        with _translated(self._path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def write_job(self, job: JobRow) -> None:
        """Write the job anew."""
        self._connection.execute("DELETE FROM job")
        self._insert("job", job)

    def write_run(self, run: RunRow) -> None:
        """Write a run, or write it anew."""
        self._insert("run", run)

    def write_chunk(self, number: int, size: int, digest: bytes, hashes: bytes) -> None:
        """Write what the items of a chunk are."""
        self._connection.execute("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?)", (number, size, digest, hashes))

    def write_outcomes(self, number: int, rows: bytes) -> None:
        """Write what became of the items of a chunk."""
        self._connection.execute("INSERT OR REPLACE INTO outcome VALUES (?, ?)", (number, rows))

    def write_presences(self, presences: Iterable[Presence]) -> None:
        """Write what a verification found."""
        rows = map(attrs.astuple, presences)
        self._connection.executemany("INSERT OR REPLACE INTO presence VALUES (?, ?, ?)", rows)

    def _insert(self, table: str, row: JobRow | RunRow) -> None:
        values = attrs.astuple(row)
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)  # noqa: S608 - our own names

    def close(self) -> None:
        """Let go of the file; again, harmlessly."""
        with contextlib.suppress(sqlite3.Error):  # nothing that was committed can be lost any more
            self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_SELECT_CHUNK: Final = """
    SELECT chunk.number, size, digest, rows FROM chunk JOIN outcome ON outcome.number = chunk.number
"""


def _columns(row: type[JobRow] | type[RunRow]) -> str:
    return ", ".join(field.name for field in attrs.fields(row))


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0)


def _locked(path: Path) -> sqlite3.Connection:
    """Lock a file beside the ledger, which SQLite does alike on every system; the end of the process unlocks it."""
    beside = path.with_name(f"{path.name}.lock")
    _make_private(beside)
    lock = sqlite3.connect(beside, isolation_level=None, timeout=0.0)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except BaseException:
        lock.close()
        raise
    return lock


def _make_private(path: Path) -> None:
    """Make an empty file that only its owner may read, where there is none: what SQLite puts beside it is like it."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY))


def _format(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version


def _check_format(path: Path, connection: sqlite3.Connection, *, may_be_fresh: bool) -> None:
    application, version = _format(connection)
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if may_be_fresh and (application, version) == _FRESH and not tables:
        return
    if application != _APPLICATION:
        raise _foreign(path)
    if version > _VERSION:
        raise LedgerUnreadableError(f"{path} was made by a newer version: upgrade adapty-async to use it")


def _foreign(path: Path) -> LedgerUnreadableError:
    return LedgerUnreadableError(f"{path} is no ledger of adapty-async: give the ledger another name")


def _damaged(path: Path) -> LedgerUnreadableError:
    return LedgerUnreadableError(f"{path} is damaged: restore it from a copy, or start anew with another ledger")


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
        return
    except sqlite3.Error as error:
        translated = _translate(path, error)
    except OSError as error:
        translated = LedgerWriteError(f"{path} can't be made or opened ({error.strerror}): choose another place for it")
    raise translated


def _translate(path: Path, error: sqlite3.Error) -> LedgerError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code == sqlite3.SQLITE_BUSY:
        return LedgerLockedError(f"{path} is in use by another process: wait for its end, or end it")
    if code == sqlite3.SQLITE_NOTADB:
        return _foreign(path)
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return LedgerWriteError(f"{path} can't be written ({error}): make room for it, then run the same job again")
    return _damaged(path)
