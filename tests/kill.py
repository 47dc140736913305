"""Kill mass jobs with SIGKILL at random moments until they are done, and hold ledger against input and server.

The job runs in a process of its own, with the library as it is; the simulator, which throttles, fails and resets
connections after the work, in this one. It keeps a log of its own: what each request came to, and when.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
from aiohttp import web

import adapty_async
from adapty_async.bulk import Outcome
from adapty_async.ledger import LedgerReader, LedgerUnreadableError, Row
from adapty_async.testing import Fault, Simulator, prefilled_customer_user_id

ROOT: Final = Path(adapty_async.__file__).parents[1]
FAULTS: Final = {Fault.RESET_AFTER: 0.03, Fault.UNAVAILABLE: 0.03, Fault.THROTTLED: 0.02, Fault.CUT: 0.01}
MOST_REPEATED: Final = 1.2
"""Seconds of answered work that a kill may cost."""
DONE: Final = {
    "delete": {Outcome.DELETED: 204, Outcome.DELETED_UNCONFIRMED: 404},
    "update": {Outcome.UPDATED: 200},
}


@attrs.frozen
class Answer:
    """What one request came to: `status` None where the connection was reset. `run`: in which it came."""

    run: int
    status: int | None
    at: float


class LoggingSimulator(Simulator):
    """Keep a log: of each customer user id, the answers to it."""

    run = 0

    def __init__(self, profiles: int, rate: float, seed: int) -> None:
        super().__init__(profiles=profiles, rate=rate, burst=20, shares=FAULTS, seed=seed, latency=0.02, record=0)
        self.requested = asyncio.Event()
        self.log: defaultdict[str, list[Answer]] = defaultdict(list)

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requested.set()
        run = self.run
        response = await super()._counted(request)
        reset = request.transport is None or request.transport.is_closing()
        answer = Answer(run, None if reset else response.status, time.monotonic())
        self.log[request.headers["adapty-customer-user-id"]].append(answer)
        return response


@attrs.define
class Kills:
    """The kills of one job: when each run ended by one, and what it cost."""

    times: dict[int, float] = attrs.field(factory=dict)
    repeated: int = 0
    longest: float = 0.0


async def kill_until_done(
    operation: str, items: int, rate: float, seed: int, folder: Path, *, longest_life: float
) -> Kills:
    """Run a job, killing each of its processes after a random time, until one comes to its end; then compare."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, no secret
    ledger = folder / "job.db"
    kills = Kills()
    async with LoggingSimulator(items, 0.9 * rate, seed) as simulator:
        while not await _run_once(
            simulator,
            [operation, str(ledger), "--items", str(items), "--rate", str(rate)],
            life=rng.uniform(0.0, longest_life),
            from_first_request=rng.random() < 0.8,
        ):
            kills.times[simulator.run] = time.monotonic()
            _check_after_kill(ledger, simulator, operation)
            simulator.run += 1
    _check_end(ledger, items, simulator, operation)
    _measure_repeats(simulator.log, kills)
    return kills


async def _run_once(
    simulator: LoggingSimulator, arguments: Sequence[str], *, life: float, from_first_request: bool
) -> bool:
    """Run the job until its end, or kill it when it has lived for `life` seconds; tell whether it ended."""
    settings = {"ADAPTY_API_KEY": simulator.api_key, "ADAPTY_BASE_URL": simulator.base_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.ledger.victim", *arguments]
    simulator.requested.clear()
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **settings}, cwd=ROOT)
    ended = asyncio.ensure_future(process.wait())
    if from_first_request:
        requested = asyncio.ensure_future(simulator.requested.wait())
        await asyncio.wait([requested, ended], return_when=asyncio.FIRST_COMPLETED)
        requested.cancel()
    await asyncio.wait([ended], timeout=life)
    if not ended.done():
        process.kill()
    status = await ended
    assert status in {0, -9}, f"the job ended by itself with exit status {status}"
    return status == 0


def _check_after_kill(ledger: Path, simulator: LoggingSimulator, operation: str) -> None:
    """What the ledger says was done was answered so; it may have been killed before there was a job in it."""
    with contextlib.suppress(LedgerUnreadableError), LedgerReader(ledger) as reader:
        _check_claims(list(reader.rows()), simulator.log, operation)
        return
    assert not simulator.log, "requests were sent, and there is no ledger"


def _check_claims(rows: Sequence[Row], log: Mapping[str, list[Answer]], operation: str) -> None:
    for row in rows:
        if row.outcome is None or row.claimed:
            continue
        assert row.outcome in DONE[operation], f"{row.position}: {row.outcome}"
        answers = log[prefilled_customer_user_id(row.position + 1)]
        expected = DONE[operation][row.outcome]
        assert expected in {answer.status for answer in answers}, f"{row.position}: {row.outcome}, but {answers}"


def _check_end(ledger: Path, items: int, simulator: LoggingSimulator, operation: str) -> None:
    with LedgerReader(ledger) as reader:
        rows = list(reader.rows())
        ids = map(prefilled_customer_user_id, range(1, items + 1))
        assert [row.position for row, _ in reader.joined(ids)] == list(range(items))
        counts = reader.status().counts
    assert len(rows) == items
    assert all(row.outcome is not None and not row.claimed for row in rows)
    assert Counter(row.outcome for row in rows) == counts
    _check_claims(rows, simulator.log, operation)
    if operation == "delete":
        assert len(simulator.profiles) == 0
        # Of two answers to the same deletion only the first can be a yes.
        yes = [sum(answer.status == 204 for answer in answers) for answers in simulator.log.values()]
        assert max(yes) == 1
    else:
        assert all(profile.attributes == {"first_name": "Jane"} for profile in simulator.profiles.values())


def _measure_repeats(log: Mapping[str, list[Answer]], kills: Kills) -> None:
    """Find out what had a clear answer in a run and was asked for again in the next."""
    for answers in log.values():
        for earlier, later in itertools.pairwise(answers):
            if earlier.status in {200, 204, 404} and later.run > earlier.run:
                age = kills.times[earlier.run] - earlier.at
                kills.repeated += 1
                kills.longest = max(kills.longest, age)
                assert age <= MOST_REPEATED, f"answered {age:.2f} s before the kill, and sent again"


async def kill_jobs(least_kills: int, least_jobs: int, items: int, rate: float, seed: int) -> None:
    """Kill jobs until there were so many kills and jobs; every fourth job updates, the others delete."""
    total, jobs, longest = 0, 0, 0.0
    while total < least_kills or jobs < least_jobs:
        operation = "update" if jobs % 4 == 3 else "delete"
        with tempfile.TemporaryDirectory() as folder:
            kills = await kill_until_done(operation, items, rate, seed + jobs, Path(folder), longest_life=1.5)
        jobs += 1
        total += len(kills.times)
        longest = max(longest, kills.longest)
        print(
            f"job {jobs} ({operation}, seed {seed + jobs - 1}): {len(kills.times)} kills, "
            f"{kills.repeated} answers learnt anew, the oldest {kills.longest:.2f} s before its kill",
            flush=True,
        )
    print(f"{total} kills over {jobs} jobs of {items} items: every item has one outcome, and the server agrees.")
    print(f"The oldest answer that a kill lost was {longest:.2f} s old.")


def main() -> None:
    """Read the arguments, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="at least so many kills (default: 200)")
    parser.add_argument("--jobs", type=int, default=20, help="over at least so many jobs (default: 20)")
    parser.add_argument("--items", type=int, default=2500, help="items of each job (default: 2500)")
    parser.add_argument("--rate", type=float, default=400.0, help="requests a second, a tenth too many (default: 400)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(kill_jobs(arguments.kills, arguments.jobs, arguments.items, arguments.rate, arguments.seed))


if __name__ == "__main__":
    main()
