"""Kill bulk jobs with SIGKILL at random moments until they are done, and compare ledger, input and server.

Deletions run the real command in a process of its own: `delete`, then `resume`, and `retry-failed` if rows failed.
Updates use the library. The simulator, which rate-limits, fails and resets connections after the work, runs in this
process and logs the result and the time of each request.
"""

import argparse
import asyncio
import contextlib
import csv
import io
import itertools
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs
from aiohttp import web

import adapty_async
from adapty_async.bulk import Outcome
from adapty_async.ledger import LedgerReader, LedgerUnreadableError, Row, Spool, has_job
from adapty_async.testing import Fault, Simulator, prefilled_customer_user_id

Kind: TypeAlias = Literal["delete", "delete from stdin", "update"]

ROOT: Final = Path(adapty_async.__file__).parents[1]
FAULTS: Final = {Fault.RESET_AFTER: 0.03, Fault.UNAVAILABLE: 0.03, Fault.THROTTLED: 0.02, Fault.CUT: 0.01}
MOST_REPEATED: Final = 1.2
"""Seconds of completed work that a kill may cost."""
DONE: Final = {
    "delete": {Outcome.DELETED: 204, Outcome.DELETED_UNCONFIRMED: 404, Outcome.ALREADY_ABSENT: 404},
    "update": {Outcome.UPDATED: 200},
}
OPEN: Final = {Outcome.FAILED, Outcome.IN_DOUBT, Outcome.DUPLICATE}
"""Outcomes that are allowed for a row if the server did nothing to it, or nothing known."""


@attrs.frozen
class Answer:
    """The result of one request. `status`: None if the connection was reset. `run`: the run that sent it."""

    run: int
    status: int | None
    at: float


class LoggingSimulator(Simulator):
    """Keep a log of the responses for each customer user ID."""

    run = 0

    def __init__(self, profiles: int, rate: float, seed: int) -> None:
        super().__init__(profiles=profiles, rate=rate, burst=20, fault_rates=FAULTS, seed=seed, latency=0.02, record=0)
        self.requested = asyncio.Event()
        self.log: defaultdict[str, list[Answer]] = defaultdict(list)

    async def _handle_api_request(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requested.set()
        run = self.run
        response = await super()._handle_api_request(request)
        reset = request.transport is None or request.transport.is_closing()
        answer = Answer(run, None if reset else response.status, time.monotonic())
        self.log[request.headers["adapty-customer-user-id"]].append(answer)
        return response


@attrs.define
class Kills:
    """The kills of one job: the time of each run's kill, and the cost. `claimed`: positions left claimed by a kill."""

    times: dict[int, float] = attrs.field(factory=dict)
    claimed: set[int] = attrs.field(factory=set)
    repeated: int = 0
    longest: float = 0.0
    unconfirmed: int = 0


@attrs.define
class Job:
    """One job and its next process. `ids`: its input. `ended`: the exit status of its last process."""

    kind: Kind
    folder: Path
    items: int
    rate: float
    simulator: LoggingSimulator
    kills: Kills = attrs.field(factory=Kills)
    ended: int | None = None

    @property
    def operation(self) -> str:
        """The operation."""
        return self.kind.split()[0]

    @property
    def ledger(self) -> Path:
        """The path of the ledger."""
        return self.folder / "job.db"

    @property
    def ids(self) -> list[str]:
        """The input. For a deletion, every 20th profile never existed, and the last 1% of the rows are duplicates."""
        if self.operation == "update":
            return [prefilled_customer_user_id(number + 1) for number in range(self.items)]
        twice = self.items // 100
        names = ["absent" if number % 20 == 7 else "present" for number in range(self.items - twice)]
        ids = [
            prefilled_customer_user_id(number + 1) if name == "present" else f"absent-{number}"
            for number, name in enumerate(names)
        ]
        return ids + ids[:twice]

    def write_input(self) -> None:
        """Write the input file."""
        (self.folder / "people.csv").write_text("\n".join(["customer_user_id", *self.ids]), "utf-8")

    def is_at_end(self) -> bool:
        """Return True if the last process completed the job."""
        return self.ended == 0

    def command(self) -> list[str]:
        """Return the next command: it starts or resumes the job, or sends failed rows again."""
        if self.operation == "update":
            words = ["update", str(self.ledger), "--items", str(self.items), "--rate", str(self.rate)]
            return ["-m", "tests.ledger.victim", *words]
        if self.ended == 1:
            return ["-m", "adapty_async", "retry-failed", str(self.ledger)]
        if has_job(self.ledger):
            return ["-m", "adapty_async", "resume", str(self.ledger)]
        name = "-" if self.kind == "delete from stdin" else str(self.folder / "people.csv")
        options = ["--by", "customer_user_id", "--ledger", str(self.ledger), "--yes", "--pace", str(self.rate)]
        return ["-m", "adapty_async", "delete", name, *options]

    async def start(self, arguments: Sequence[str], **streams: Any) -> asyncio.subprocess.Process:
        """Start a process of the job."""
        served = {"ADAPTY_API_KEY": self.simulator.api_key, "ADAPTY_BASE_URL": self.simulator.base_url}
        settings = {**os.environ, **served, "PYTHONPATH": str(ROOT)}
        return await asyncio.create_subprocess_exec(sys.executable, *arguments, env=settings, cwd=ROOT, **streams)

    async def run(self, *, life: float | None, from_first_request: bool) -> None:
        """Run the next process until it ends, or kill it after `life` seconds if that isn't None."""
        self.simulator.requested.clear()
        arguments = self.command()
        with (self.folder / "people.csv").open("rb") as people, (self.folder / "screen").open("wb") as screen:
            process = await self.start(arguments, stdin=people, stdout=screen, stderr=screen)
        ended = asyncio.ensure_future(process.wait())
        if from_first_request:
            requested = asyncio.ensure_future(self.simulator.requested.wait())
            await asyncio.wait([requested, ended], return_when=asyncio.FIRST_COMPLETED)
            requested.cancel()
        await asyncio.wait([ended], timeout=life)
        if not ended.done():
            process.kill()
        self.ended = await ended
        allowed = {0, -9} if self.operation == "update" else {0, 1, -9}
        shown = (self.folder / "screen").read_text("utf-8")
        assert self.ended in allowed, f"{arguments} ended by itself with exit status {self.ended}: {shown}"

    async def output_of(self, *arguments: str) -> str:
        """Run a command that reads the ledger, and return its output. The command must succeed."""
        process = await self.start(["-m", "adapty_async", *arguments], stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()


async def kill_until_done(
    kind: Kind, items: int, rate: float, seed: int, folder: Path, *, longest_life: float, max_kills: float = math.inf
) -> Kills:
    """Run a job and kill each of its processes after a random time, until one completes it. Compare the results.

    After `max_kills`, the next process is left alone.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
    async with LoggingSimulator(items, 0.9 * rate, seed) as simulator:
        job = Job(kind, folder, items, rate, simulator)
        job.write_input()
        while not job.is_at_end():
            life = rng.uniform(0.0, longest_life) if len(job.kills.times) < max_kills else None
            await job.run(life=life, from_first_request=rng.random() < 0.8)
            if job.ended == -9:
                job.kills.times[simulator.run] = time.monotonic()
                _check_after_kill(job)
            simulator.run += 1
        _check_end(job)
        if job.operation == "delete":
            await _check_papers(job)
    _measure_repeats(job)
    return job.kills


def _check_after_kill(job: Job) -> None:
    """Check that every outcome had its response.

    The process may have been killed before it created a job.
    """
    with contextlib.suppress(LedgerUnreadableError), LedgerReader(job.ledger) as reader:
        rows = list(reader.rows())
        job.kills.claimed.update(row.position for row in rows if row.claimed)
        _check_claims(rows, job)
        return
    assert not job.simulator.log, "requests were sent, and there is no ledger"


def _check_claims(rows: Sequence[Row], job: Job) -> None:
    ids, done = job.ids, DONE[job.operation]
    for row in rows:
        if row.outcome is None or row.claimed or (job.operation == "delete" and row.outcome in OPEN):
            continue
        assert row.outcome in done, f"{row.position}: {row.outcome}"
        answers = job.simulator.log[ids[row.position]]
        assert done[row.outcome] in {answer.status for answer in answers}, f"{row.position}: {row.outcome}: {answers}"
        if row.outcome is Outcome.ALREADY_ABSENT:
            assert ids[row.position].startswith("absent"), (
                f"{row.position} existed, but is reported as absent: {answers}"
            )
        if row.outcome is Outcome.DELETED_UNCONFIRMED:
            _check_unconfirmed(row, answers, job)


def _check_unconfirmed(row: Row, answers: Sequence[Answer], job: Job) -> None:
    """Check that an unconfirmed row was claimed at a kill, or had no clear response before its 404."""
    unclear = any(answer.status not in {204, 404, 429} for answer in answers)
    assert unclear or row.position in job.kills.claimed, f"{row.position}: unconfirmed, but {answers}"


def _check_end(job: Job) -> None:
    ids, simulator = job.ids, job.simulator
    with LedgerReader(job.ledger) as reader:
        rows = list(reader.rows())
        assert [row.position for row, _ in reader.rows_with_ids(ids)] == list(range(job.items))
        counts = reader.status().counts
    assert len(rows) == job.items
    assert all(row.outcome is not None and not row.claimed and not row.outcome.is_failure for row in rows)
    assert Counter(row.outcome for row in rows) == counts
    _check_claims(rows, job)
    if job.operation == "update":
        assert all(profile.attributes == {"first_name": "Jane"} for profile in simulator.profiles.values())
        return
    assert counts[Outcome.DUPLICATE] == job.items // 100
    assert all(simulator.profiles.find(customer_user_id=who) is None for who in ids)
    # A profile can be deleted only once.
    yes = [sum(answer.status == 204 for answer in answers) for answers in simulator.log.values()]
    assert max(yes) == 1
    job.kills.unconfirmed = sum(
        row.outcome is Outcome.DELETED_UNCONFIRMED and ids[row.position].startswith("absent") for row in rows
    )


async def _check_papers(job: Job) -> None:
    """Check that rows, record and totals agree, and that no copy of the input and no ID is left."""
    with LedgerReader(job.ledger) as reader:
        totals = {str(outcome): count for outcome, count in reader.status().totals.items() if count}
    exported = list(csv.DictReader(io.StringIO(await job.output_of("export", str(job.ledger), "--ids", "none"))))
    record = json.loads(await job.output_of("report", str(job.ledger), "--format", "json"))
    assert Counter(row["outcome"] for row in exported) == record["totals"] == totals
    assert len(exported) == record["items"] == sum(totals.values()) == job.items
    assert not Spool(job.ledger).is_filled
    ids = [who.encode() for who in job.ids]
    for file in job.folder.glob(f"{job.ledger.name}*"):
        data = file.read_bytes()
        assert not any(who in data for who in ids), f"{file.name} contains an ID"


def _measure_repeats(job: Job) -> None:
    """Count the requests that had a clear response in one run and were sent again in the next."""
    kills, log = job.kills, job.simulator.log
    for answers in log.values():
        for earlier, later in itertools.pairwise(answers):
            if earlier.status in {200, 204, 404} and later.run > earlier.run:
                assert earlier.run in kills.times, "answered in a run that ended by itself, and sent again"
                age = kills.times[earlier.run] - earlier.at
                kills.repeated += 1
                kills.longest = max(kills.longest, age)


def _kind_of(number: int) -> Kind:
    if number % 4 == 3:
        return "update"
    return "delete from stdin" if number % 5 == 4 else "delete"


async def kill_jobs(least_kills: int, least_jobs: int, items: int, rate: float, seed: int) -> None:
    """Kill jobs until there were enough kills and jobs. Every fourth job updates, the others delete."""
    total, jobs, longest = 0, 0, 0.0
    while total < least_kills or jobs < least_jobs:
        kind = _kind_of(jobs)
        with tempfile.TemporaryDirectory() as folder:
            kills = await kill_until_done(kind, items, rate, seed + jobs, Path(folder), longest_life=1.5)
        # Checked only here, where nothing else runs: a process that waits for the machine commits later.
        assert kills.longest <= MOST_REPEATED, f"answered {kills.longest:.2f} s before the kill, and sent again"
        jobs += 1
        total += len(kills.times)
        longest = max(longest, kills.longest)
        print(
            f"job {jobs} ({kind}, seed {seed + jobs - 1}): {len(kills.times)} kills, "
            f"{kills.repeated} requests repeated, the oldest answered {kills.longest:.2f} s before its kill; "
            f"{kills.unconfirmed} profiles that never existed are unconfirmed",
            flush=True,
        )
    print(f"{total} kills over {jobs} jobs of {items} items: every item has one outcome, as in the log.")
    print(f"The oldest response that a kill lost was {longest:.2f} s old.")


def main() -> None:
    """Read the arguments, kill jobs, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="minimum number of kills (default: 200)")
    parser.add_argument("--jobs", type=int, default=20, help="minimum number of jobs (default: 20)")
    parser.add_argument("--items", type=int, default=2500, help="items of each job (default: 2500)")
    parser.add_argument(
        "--rate", type=float, default=400.0, help="requests per second; the limit is 90%% (default: 400)"
    )
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(kill_jobs(arguments.kills, arguments.jobs, arguments.items, arguments.rate, arguments.seed))


if __name__ == "__main__":
    main()
