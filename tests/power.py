"""Simulate power failures at random moments of bulk jobs, and compare the disk with the work of the server.

A job is recorded once: its writes, syncs and renames, and the requests sent in between (`tests/disk.py`). Then folders
are created in states that a power failure may leave: data that wasn't synced is lost, torn at a sector or written out
of order. Each ledger is opened, and its job is resumed with the server in its state at that moment.
"""

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs
import pytest

from adapty_async import UNPACED, AdaptyError, ProfileAttributes, Request, Response, bulk
from adapty_async.bulk import Outcome, StopRules
from adapty_async.ledger import (
    Ledger,
    LedgerAnonymizedError,
    LedgerError,
    LedgerReader,
    LedgerUnreadableError,
    Row,
    files,
)
from adapty_async.ledger.chunks import Chunk
from adapty_async.ledger.session_state import SessionState
from adapty_async.ledger.store import CommitData
from tests.bulk.scripted import ABSENT, NO_CONTENT, PROFILE, ScriptedTransport, client_over, lost
from tests.disk import Disk, Event

Kind: TypeAlias = Literal["delete", "delete spooled", "update"]
KINDS: Final[tuple[Kind, ...]] = ("delete", "delete spooled", "update")
ITEMS: Final = 2300
SECTOR: Final = 512
_STATES_A_JOB: Final = 50
LATER: Final = 20 * 60
"""Seconds after which an update that was sent must not be sent again."""
RULES: Final = StopRules(max_failure_ratio=None, max_absent_ratio=None, max_outage=None)
JANE: Final = ProfileAttributes(first_name="Jane")
DONE: Final = {
    "delete": {Outcome.DELETED, Outcome.DELETED_UNCONFIRMED},
    "update": {Outcome.UPDATED, Outcome.IN_DOUBT},
}


class Violation(Exception):  # noqa: N818 - it isn't an error of the test
    """A guarantee of the ledger that was broken."""


def ids() -> list[str]:
    """Return the input of every job."""
    return [f"u{number}" for number in range(ITEMS)]


class Server(ScriptedTransport):
    """Delete and update profiles. Report each request when it is sent and when it has been executed."""

    def __init__(self, seed: int, executed: set[str], mark: Callable[[tuple[str, str]], None]) -> None:
        super().__init__(lambda _request, _number: NO_CONTENT)
        self._rng = random.Random(seed)  # noqa: S311 - repeatable
        self.executed = executed
        self.mark = mark
        self.left: Counter[str] = Counter()

    async def attempt(self, request: Request, timeout: float) -> Response:  # noqa: ASYNC109 - same signature as the original
        who = request.headers["adapty-customer-user-id"]
        self.left[who] += 1
        self.mark(("left", who))
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)
        was_executed = who in self.executed
        self.executed.add(who)
        self.mark(("executed", who))
        if self._rng.random() < 0.01:
            return self._raise(lost())
        if request.method == "DELETE":
            return ABSENT if was_executed else NO_CONTENT
        return PROFILE

    @staticmethod
    def _raise(error: AdaptyError) -> Response:
        raise error


def _items(kind: Kind, *, is_lost: bool) -> Iterator[str]:
    """Return the input. If it is spooled, it can't be read twice."""
    require(kind != "delete spooled" or not is_lost, "the copy of the input is gone, and requests had left")
    yield from ids()


async def run_job(kind: Kind, path: Path, server: Server, *, has_left: bool = False) -> None:
    """Run or resume a job. `has_left`: requests were sent before, and the job isn't done."""
    client = client_over(server)
    ledger = Ledger(path, spool=kind == "delete spooled")
    job: bulk.BulkJob[Any, Any]
    if kind == "update":
        changes = [(who, JANE) for who in ids()]
        job = bulk.update_profiles(client, changes, by="customer_user_id", ledger=ledger, stop=RULES, pacer=UNPACED)
    else:
        items = _items(kind, is_lost=has_left)
        job = bulk.delete_profiles(client, items, by="customer_user_id", ledger=ledger, stop=RULES, pacer=UNPACED)
    async with client:
        await job


@attrs.frozen
class Recording:
    """A job from start to end."""

    kind: Kind
    disk: Disk
    seed: int


def record(kind: Kind, folder: Path, seed: int, *, executed: Collection[str] = ()) -> Recording:
    """Run a job on a recording disk. For each commit, record the outcomes that the ledger considered safe."""
    disk = Disk(folder)
    write, connect = SessionState.write, files.connect_to_write

    def noting(book: SessionState, writing: CommitData) -> None:
        write(book, writing)
        disk.mark(("committed", list(writing.outcomes)))

    def connect_to_write(path: Path) -> Any:
        connection = connect(path)
        connection.execute("PRAGMA wal_autocheckpoint = 20")  # so that a small job has some
        return connection

    with disk.recording(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionState, "write", noting)
        patch.setattr("adapty_async.ledger.named_and_temporary.connect_to_write", connect_to_write)
        patch.setattr("adapty_async.ledger.session._MAX_CLAIM_SIZE", 100)  # for many commits
        asyncio.run(run_job(kind, folder / "job.db", Server(seed, set(executed), disk.mark), has_left=bool(executed)))
    return Recording(kind, disk, seed)


# The state after a power failure


@attrs.define
class _Files:
    """The contents and names of files: the safe ones, and those that aren't safe yet."""

    safe: dict[int, bytearray] = attrs.field(factory=dict)
    unsafe: dict[int, list[Event]] = attrs.field(factory=dict)
    names: dict[str, int] = attrs.field(factory=dict)
    unsafe_names: list[Event] = attrs.field(factory=list)

    def take(self, event: Event) -> None:
        """Apply an operation."""
        if event.kind in {"write", "truncate"}:
            self.unsafe.setdefault(event.inode, []).append(event)
        elif event.kind == "sync":
            content = self.safe.setdefault(event.inode, bytearray())
            for waiting in self.unsafe.pop(event.inode, []):
                _write(content, waiting, lambda: True)
        elif event.kind in {"create", "rename", "unlink"}:
            self.unsafe_names.append(event)
        elif event.kind == "sync names":
            for waiting in self.unsafe_names:
                _name(self.names, waiting)
            self.unsafe_names = []


def _write(content: bytearray, event: Event, keeps: Callable[[], bool]) -> None:
    """Apply the sectors of a write that are kept."""
    if event.kind == "truncate":
        if keeps():
            del content[event.offset :]
            content.extend(bytes(event.offset - len(content)))
        return
    end = event.offset + len(event.data)
    begin = event.offset
    while begin < end:
        stop = min(end, (begin // SECTOR + 1) * SECTOR)
        if keeps():
            content.extend(bytes(max(0, stop - len(content))))
            content[begin:stop] = event.data[begin - event.offset : stop - event.offset]
        begin = stop


def _name(names: dict[str, int], event: Event) -> None:
    if event.kind == "create":
        names[event.name] = event.inode
    elif event.kind == "unlink":
        names.pop(event.name, None)
    elif event.name in names:
        names[event.other] = names.pop(event.name)


def cut(recording: Recording, moment: int, folder: Path, rng: random.Random) -> None:
    """Fill a folder with a state that a power failure before event number `moment` may leave."""
    disk = _Files()
    for event in recording.disk.events[:moment]:
        disk.take(event)
    share = rng.choice([0.0, 1.0, 0.5, 0.9, 0.1])
    for inode, waiting in disk.unsafe.items():
        content = disk.safe.setdefault(inode, bytearray())
        kept = rng.randrange(len(waiting) + 1) if rng.random() < 0.3 else len(waiting)
        for event in waiting[:kept]:
            _write(content, event, lambda: rng.random() < share)
    # Names change in order, as file systems with a journal ensure. How many were written before the failure is random.
    for event in disk.unsafe_names[: rng.randrange(len(disk.unsafe_names) + 1)]:
        _name(disk.names, event)
    for name, inode in disk.names.items():
        (folder / name).write_bytes(disk.safe.get(inode, b""))
        (folder / name).chmod(0o600)


# Guarantees


@attrs.frozen
class _Before:
    """The state at the moment of the failure. `executed`: for requests in flight, this is random."""

    left: set[str]
    executed: set[str]
    committed: Mapping[int, Chunk]


def before(recording: Recording, moment: int, rng: random.Random) -> _Before:
    left, executed = set[str](), set[str]()
    committed: dict[int, Chunk] = {}
    for event in recording.disk.events[:moment]:
        if event.kind != "mark":
            continue
        what, value = event.mark
        if what == "left":
            left.add(value)
        elif what == "executed":
            executed.add(value)
        elif what == "committed":
            committed |= {number: Chunk.unpack(len(packed) // 9, packed) for number, packed in value}
    executed |= {who for who in left - executed if rng.random() < 0.5}
    return _Before(left, executed, committed)


def check_state(recording: Recording, moment: int, seed: int) -> None:
    """Create a state after a power failure, check its ledger, and resume it. Raises Violation."""
    rng = random.Random(f"{recording.seed} {moment} {seed}")  # noqa: S311 - repeatable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut(recording, moment, folder, rng)
        was = before(recording, moment, rng)
        path = folder / "job.db"
        rows = _check_rows(path, was, recording.kind)
        if rows is None:
            return
        claimed = {who for who, row in rows.items() if row.claimed}
        is_done = len(rows) == ITEMS and all(row.outcome is not None and not row.claimed for row in rows.values())
        is_later = recording.kind == "update" and rng.random() < 0.5
        server = Server(seed, set(was.executed), lambda _: None)
        with _clock(LATER if is_later else 0):
            try:
                asyncio.run(run_job(recording.kind, path, server, has_left=bool(was.left) and not is_done))
            except LedgerError as error:
                raise Violation(f"the job can't be resumed: {error}") from error
        _check_end(path, was, server, claimed, recording.kind, is_later=is_later)


def _check_rows(path: Path, was: _Before, kind: Kind) -> dict[str, Row] | None:
    """Compare the rows of a ledger with the state before. Return them by ID, or None if there is no ledger."""
    try:
        with LedgerReader(path) as reader:
            rows = list(reader.rows())
            reader.digest()
            reader.check_key()
    except (LedgerUnreadableError, LedgerAnonymizedError) as error:
        if was.left:
            raise Violation(f"requests were sent, but there is no ledger: {error}") from error
        require(": " in str(error), f"a message without a remedy: {error}")
        return None
    except LedgerError as error:
        raise Violation(str(error)) from error
    names = ids()
    for row in rows:
        who = names[row.position]
        if row.outcome in DONE[kind.split()[0]] and row.outcome is not Outcome.IN_DOUBT and who not in was.executed:
            raise Violation(f"row {row.position} is {row.outcome}, but it wasn't executed")
    known = {names[row.position]: row for row in rows}
    require(all(who in known and _is_known(known[who]) for who in was.left), "a request was sent that wasn't claimed")
    for number, chunk in was.committed.items():
        for row in chunk.iter_rows(number, b"", {}):
            if row.outcome is not None and not row.claimed:
                now = known.get(names[row.position])
                require(now is not None and now.outcome is row.outcome, "an outcome that was committed is gone")
    return known


def _is_known(row: Row) -> bool:
    return row.claimed or row.outcome is not None


def _check_end(path: Path, was: _Before, server: Server, claimed: set[str], kind: Kind, *, is_later: bool) -> None:
    with LedgerReader(path) as reader:
        rows = list(reader.rows())
        counts = reader.status().totals
    operation = kind.split()[0]
    require([row.position for row in rows] == list(range(ITEMS)), "not every item has a row")
    require({row.standing for row in rows} <= DONE[operation], f"not all rows are done: {dict(counts)}")
    again = {who for who in was.left if server.left[who]}
    require(again <= claimed, "an item with an outcome was sent again")
    in_doubt = {who for who, row in zip(ids(), rows, strict=True) if row.standing is Outcome.IN_DOUBT}
    if is_later:
        require(not again, "an update was sent again after the time in which that is allowed")
        require(in_doubt <= claimed, "an item is in doubt that was never claimed")
    else:
        require(not in_doubt, "an item is in doubt that could have been sent again")
    require(set(ids()) - server.executed <= in_doubt, "somebody is said to be done, and isn't")


def require(holds: bool, sentence: str) -> None:
    """Raise Violation if a condition is false."""
    if not holds:
        raise Violation(sentence)


@contextlib.contextmanager
def _clock(later: float) -> Iterator[None]:
    """Set the clock forward by some seconds during the block."""
    now = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: now() + later)
        yield


# Many states


def moments(recording: Recording, count: int, rng: random.Random) -> list[int]:
    """Choose moments of a recording, mostly just before or just after an operation on the disk."""
    begin, events = recording.disk.begin, recording.disk.events
    on_disk = [number for number in range(begin, len(events)) if events[number].kind != "mark"]
    return [min(rng.choice(on_disk) + rng.choice([0, 0, 1, 1, 2, 30]), len(events)) for _ in range(count)]


def violations(kind: Kind, states: int, seed: int, *, generations: int = 2) -> Iterator[str]:
    """Check states of a job, and of its resumption after one of them. Yield the broken guarantees."""
    rng = random.Random(f"{kind} {seed}")  # noqa: S311 - repeatable
    name = f"{kind}, seed {seed}"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as second:
        recording = record(kind, Path(folder), seed)
        for generation in range(generations):
            share = states // generations + (generation < states % generations)
            for number, moment in enumerate(moments(recording, share, rng)):
                try:
                    check_state(recording, moment, number)
                except Exception as error:  # noqa: BLE001 - an internal error is a violation, too
                    yield f"{name}, generation {generation}, moment {moment}, state {number}: {error!r}"
            if generation + 1 < generations:
                try:
                    recording = _resumed(recording, Path(second), rng)
                except Exception as error:  # noqa: BLE001 - see above
                    yield f"{name}: the job can't be resumed: {error!r}"
                    return


def _resumed(recording: Recording, folder: Path, rng: random.Random) -> Recording:
    """Record the resumption after a power failure in the middle of a job."""
    begin, end = recording.disk.begin, len(recording.disk.events)
    moment = rng.randint(begin + (end - begin) // 3, end - (end - begin) // 3)
    cut(recording, moment, folder, rng)
    was = before(recording, moment, rng)
    resumed = record(recording.kind, folder, recording.seed + 1, executed=set(was.executed))
    # Requests that were sent before the failure also count as sent in the states of the second job.
    marks = [Event("mark", mark=("left", who)) for who in was.left]
    marks += [Event("mark", mark=("executed", who)) for who in was.executed]
    begin = resumed.disk.begin
    resumed.disk.events[begin:begin] = marks
    resumed.disk.begin += len(marks)
    return resumed


def main() -> None:
    """Read the arguments, simulate power failures, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=1000, help="number of states (default: 1000)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = total = 0
    while total < arguments.states:
        kind = KINDS[total // _STATES_A_JOB % len(KINDS)]
        for violation in violations(kind, _STATES_A_JOB, arguments.seed + total):
            print(violation)
            found += 1
        total += _STATES_A_JOB
        print(f"{total} states, {found} violations", flush=True)
    raise SystemExit(found > 0)


if __name__ == "__main__":
    main()
