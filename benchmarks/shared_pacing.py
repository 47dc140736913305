"""A benchmark of shared pacers: how close processes come to a hidden limit together, and how evenly they share it.

It runs in virtual time, then with real processes. Goodput is accepted / allowed after the start. Refused is the share
of 429s among all requests, including the start. The split is the first process's share of the accepted requests while
both are running.
"""

import argparse
import asyncio
import heapq
import math
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapty_async.pacing import AdaptivePacer, Pacer, SharedPacer, Ticket, Verdict
from adapty_async.testing.limiter import Limiter
from benchmarks.pacing_processes import LimitServer, running
from benchmarks.rate_simulation import BIN, Answer, Simulation, Tally, TokenBucket, World

# Virtual time


@dataclass
class Job:
    """A process with more requests than may be sent, from `begins` until it is killed at `ends`.

    `farther`: additional seconds of its responses, compared with those of others.
    """

    pacer: Pacer
    farther: float = 0.0
    begins: float = 0.0
    ends: float = math.inf
    accepted: list[float] = field(default_factory=list)
    under_way: int = 0
    wakes: float = math.inf
    late: deque[tuple[float, Ticket, Answer]] = field(default_factory=deque)


class Processes:
    """Several jobs in one world."""

    def __init__(self, simulation: Simulation, jobs: Sequence[Job], under_way: int) -> None:
        self._simulation = simulation
        self._jobs = jobs
        self._bound = under_way

    def wake(self, now: float, who: int) -> None:
        job = self._jobs[who]
        if now < job.begins:
            self._simulation.wake_at(job.begins, who)
            return
        while job.late and job.late[0][0] <= now:
            _, ticket, answer = job.late.popleft()
            self._hear(now, job, ticket, answer)
        if now >= job.wakes:
            job.wakes = math.inf
        self._send(now, who)

    def answered(self, now: float, request: Ticket, who: int, answer: Answer) -> None:
        job = self._jobs[who]
        job.late.append((now + job.farther, request, answer))
        if job.farther:
            self._simulation.wake_at(now + job.farther, who)
        else:
            self.wake(now, who)

    def _hear(self, now: float, job: Job, ticket: Ticket, answer: Answer) -> None:
        job.under_way -= 1
        if answer.verdict is Verdict.ACCEPTED:
            job.accepted.append(now)
        if now >= job.ends:
            return
        pause = answer.retry_after
        if pause is not None:  # as the client's send queue does
            pause *= 1.0 + self._simulation.rng.uniform(0.0, 0.1)
        job.pacer.record(now, ticket, answer.verdict, pause)

    def _send(self, now: float, who: int) -> None:
        job = self._jobs[who]
        while job.under_way < self._bound and now < job.ends:
            wait = job.pacer.delay(now)
            if wait > 1e-6:
                if now + wait < job.wakes or job.wakes <= now:
                    job.wakes = now + wait
                    self._simulation.wake_at(job.wakes, who)
                return
            job.under_way += 1
            self._simulation.send(now, job.pacer.acquire(now), who)


def simulate(world: World, seed: int, jobs: Sequence[Job]) -> Tally:
    """Run jobs in a world."""
    simulation = Simulation(world, seed)
    return simulation.run(Processes(simulation, jobs, world.under_way), pacer=jobs[0].pacer, callers=len(jobs))


def goodput(tally: Tally, rate: float, first: float, last: float) -> float:
    """Return accepted / allowed between two times."""
    return sum(tally.accepted[int(first / BIN) : int(last / BIN)]) / (rate * (last - first))


def refused(tally: Tally) -> float:
    """Return the share of 429s among all requests."""
    return sum(tally.refused) / sum(tally.sent)


def split(jobs: Sequence[Job], first: float, last: float) -> float:
    """Return the first job's share of the requests accepted between two times."""
    counts = [sum(first <= at < last for at in job.accepted) for job in jobs]
    return counts[0] / sum(counts)


@dataclass(frozen=True)
class Scenario:
    """A limit, and a function that creates the processes sharing it, given the path of their state."""

    name: str
    rate: float
    burst: float
    seconds: float
    jobs: Callable[[Path], list[Job]]
    retry_after: float | None = None
    under_way: int = 64

    def run(self, seed: int) -> tuple[float, float, float, int]:
        """Return the goodput, the share of 429s, the split, and the number of requests sent too early."""
        with tempfile.TemporaryDirectory() as folder:
            jobs = self.jobs(Path(folder) / "state")
            world = World(
                lambda: TokenBucket(self.rate, self.burst),
                self.seconds,
                retry_after=lambda _: self.retry_after,
                under_way=self.under_way,
            )
            tally = simulate(world, seed, jobs)
            for job in jobs:
                if isinstance(job.pacer, SharedPacer):
                    job.pacer.close()
        begins = max(20.0, max(job.begins for job in jobs))
        return (
            goodput(tally, self.rate, 20, self.seconds),
            refused(tally),
            split(jobs, begins, self.seconds),
            tally.too_early,
        )


def shared(path: Path, number: int = 2) -> list[Job]:
    return [Job(SharedPacer(path)) for _ in range(number)]


def near_and_far(path: Path) -> list[Job]:
    return [Job(SharedPacer(path)), Job(SharedPacer(path), farther=0.4)]


def later(path: Path) -> list[Job]:
    return [Job(SharedPacer(path)), Job(SharedPacer(path), begins=40.0)]


def alone(_: Path) -> list[Job]:
    return [Job(AdaptivePacer())]


def one(path: Path) -> list[Job]:
    return shared(path, 1)


SCENARIOS: Final = [
    *(
        Scenario(f"{rate}/s, {name}", rate, burst, seconds, jobs, under_way=under_way)
        for rate, burst, seconds, under_way in ((50, 10, 300, 64), (1000, 50, 60, 400), (3000, 100, 60, 1000))
        for name, jobs in (("AdaptivePacer", alone), ("shared, one process", one), ("two processes", shared))
    ),
    Scenario("50/s, three processes", 50, 10, 300, lambda path: shared(path, 3)),
    Scenario("50/s, one 0.4 s farther away", 50, 10, 300, near_and_far),
    Scenario("50/s, one 40 s later", 50, 10, 300, later),
    Scenario("50/s, Retry-After 1, two", 50, 10, 600, shared, retry_after=1.0),
    Scenario("50/s, Retry-After 1, AdaptivePacer", 50, 10, 600, alone, retry_after=1.0),
    Scenario("5/s, burst 5, AdaptivePacer", 5, 5, 900, alone),
    Scenario("5/s, burst 5, two", 5, 5, 900, shared),
    Scenario("1/s, burst 3, AdaptivePacer", 1, 3, 1800, alone),
    Scenario("1/s, burst 3, two", 1, 3, 1800, shared),
]


def until_90(seed: int, number: int) -> float:
    """Return the seconds until a period of 5 s begins in which 90% of 50/s is accepted.

    The `number` processes start with the limit that an earlier run has found.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        world = World(lambda: TokenBucket(50, 10), 40)
        for jobs in ([Job(SharedPacer(path))], shared(path, number)):
            tally = simulate(world, seed, jobs)
            for job in jobs:
                assert isinstance(job.pacer, SharedPacer)
                job.pacer.close()
    return next(first * BIN for first in range(80) if goodput(tally, 50, first * BIN, first * BIN + 5) >= 0.9)


async def real(rate: float, burst: int, seconds: float) -> str:
    """Let two real processes share a limit, and kill one of them."""
    now = asyncio.get_running_loop().time
    with tempfile.TemporaryDirectory() as folder:
        async with (
            LimitServer(Limiter(rate, burst)) as server,
            running(server, Path(folder) / "state", "one", "other") as [one, _],
        ):
            await server.heard_of("one", "other")
            await asyncio.sleep(20.0)
            began = now()
            await asyncio.sleep(seconds)
            killed = now()
            counts = [server.count(began, killed, name) for name in ("one", "other")]
            one.kill()
            await asyncio.sleep(10.0)
            after = [server.count(killed + second, killed + second + 1.0) / rate for second in range(10)]
    return (
        f"together {sum(counts) / (killed - began) / rate:.2%}, split {counts[0] / sum(counts):.1%}, 429s "
        f"{server.share_refused():.2%}; after SIGKILL {after[0]:.1%} in the first second, then {sum(after[1:]) / 9:.1%}"
    )


def cost(rate: float, number: int) -> tuple[float, float]:
    """Return the microseconds per request of the pacers of `number` processes, and of an AdaptivePacer."""
    with tempfile.TemporaryDirectory() as folder:
        pacers = [SharedPacer(Path(folder) / "state", start_rate=rate / 2) for _ in range(number)]
        figures = _time(pacers, rate), _time([AdaptivePacer(start_rate=rate / 2)], rate)
        for pacer in pacers:
            pacer.close()
    return figures


def _time(pacers: Sequence[Pacer], rate: float) -> float:
    """Send for ten seconds. Return the microseconds of CPU per request, including those of this loop."""
    bucket, sent = TokenBucket(rate, rate / 30), 0
    wakes = [(0.0, number) for number in range(len(pacers))]
    under_way: deque[tuple[float, Pacer, Ticket, Verdict]] = deque()
    began = time.process_time()
    while sent < 10 * rate:
        now, number = heapq.heappop(wakes)
        pacer = pacers[number]
        while under_way and under_way[0][0] <= now:
            _, whose, ticket, verdict = under_way.popleft()
            whose.record(now, ticket, verdict)
        wait = pacer.delay(now)
        if wait <= 0:
            verdict = Verdict.ACCEPTED if bucket.accepts(now) else Verdict.THROTTLED
            under_way.append((now + 0.1, pacer, pacer.acquire(now), verdict))
            sent += 1
        heapq.heappush(wakes, (now + wait, number))
    return (time.process_time() - began) / sent * 1e6


def main() -> None:
    """Parse the arguments, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    arguments = parser.parse_args()
    print(f"{'':36} goodput: worst, mean   429s      split        too early")
    for scenario in SCENARIOS:
        if arguments.only not in scenario.name:
            continue
        runs = [scenario.run(seed) for seed in range(1, arguments.seeds + 1)]
        good, bad, splits, early = zip(*runs, strict=True)
        print(
            f"{scenario.name:36} {min(good):14.2%} {sum(good) / len(good):7.2%} {sum(bad) / len(bad):9.2%}   "
            f"{min(splits):.1%} to {max(splits):.1%} {sum(early):5}",
            flush=True,
        )
    if arguments.only:
        return
    for number in (1, 2):
        worst = max(until_90(seed, number) for seed in range(1, arguments.seeds + 1))
        print(f"50/s remembered, processes: {number}; 90 % after at most {worst:.1f} s", flush=True)
    for rate, number in ((3000.0, 1), (3000.0, 2), (50.0, 2)):
        shared_cost, own_cost = cost(rate, number)
        print(
            f"{rate:g}/s, pacers: {number}; {shared_cost:.1f} microseconds per request, AdaptivePacer: {own_cost:.1f}",
            flush=True,
        )
    for rate, burst in ((50.0, 10), (500.0, 25)):
        print(f"two real processes, {rate:g}/s: {asyncio.run(real(rate, burst, 60.0))}", flush=True)


if __name__ == "__main__":
    main()
