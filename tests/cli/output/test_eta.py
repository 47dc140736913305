"""The displayed time left of a job, compared with the time that the job takes, in virtual time."""

from collections.abc import Callable

import pytest

from adapty_async.bulk import Outcome
from adapty_async.cli.output.progress import LiveStatus, OutcomeCounts, RateMeter
from adapty_async.pacing import AdaptivePacer, Phase, Ticket, Verdict
from benchmarks.pacing_bench.scenarios import strays
from benchmarks.rate_simulation import Answer, PacedJob, Simulation, TokenBucket, World


class Watched(PacedJob):
    """Record the number of accepted requests and the phase of the pacer every second."""

    def __init__(self, simulation: Simulation, pacer: AdaptivePacer) -> None:
        super().__init__(simulation, pacer, under_way=64)
        self._adaptive = pacer
        self._accepted = 0
        self.seen: list[tuple[float, int, Phase]] = [(0.0, 0, pacer.phase)]

    def answered(self, now: float, request: Ticket, who: int, answer: Answer) -> None:
        super().answered(now, request, who, answer)
        self._accepted += answer.verdict is Verdict.ACCEPTED
        if now >= self.seen[-1][0] + 1.0:
            self.seen.append((now, self._accepted, self._adaptive.phase))


def errors(pacer: AdaptivePacer, world: World, seed: int) -> list[float]:
    """Return the relative error of each displayed time left, from the first minute on.

    The last minute isn't included, because a single probe of the limit or a single Retry-After is a large part of it.
    """
    simulation = Simulation(world, seed)
    job = Watched(simulation, pacer)
    simulation.run(job, pacer=pacer)
    end, total, _ = job.seen[-1]
    meter, found = RateMeter(), []
    for now, accepted, phase in job.seen:
        sight = LiveStatus(outcome_counts=OutcomeCounts(total, {Outcome.DELETED: accepted}), phase=phase)
        left = meter.measure(sight, now).time_left
        if 60.0 <= now <= end - 60.0:
            assert left is not None
            found.append(abs(left.total_seconds() - (end - now)) / (end - now))
    return found


@pytest.mark.parametrize("retry_after", [None, 2.0])
@pytest.mark.parametrize(("rate", "burst", "seconds"), [(20, 5, 900), (60, 6, 900), (300, 30, 300)])
@pytest.mark.parametrize("make", [AdaptivePacer.background, AdaptivePacer], ids=["background", "full"])
def test_after_the_first_minute_it_is_right_within_15_percent(
    make: Callable[[], AdaptivePacer], rate: float, burst: float, seconds: float, retry_after: float | None
) -> None:
    world = World(lambda: TokenBucket(rate, burst), seconds, retry_after=lambda _: retry_after)
    assert max(errors(make(), world, seed=1)) <= 0.15


@pytest.mark.no_cover
@pytest.mark.parametrize("share", [0.002, 0.01])
@pytest.mark.parametrize(("rate", "burst", "seconds"), [(60, 6, 900), (300, 30, 300)])
@pytest.mark.parametrize("make", [AdaptivePacer.background, AdaptivePacer], ids=["background", "full"])
def test_stray_429s_change_that_by_little(
    make: Callable[[], AdaptivePacer], rate: float, burst: float, seconds: float, share: float
) -> None:
    world = World(lambda: TokenBucket(rate, burst), seconds, fault=strays(share))
    # Many stray 429s take longer to tell from a limit, so the second minute isn't included either.
    found = errors(make(), world, seed=1)
    assert max(found[60 if share > 0.005 else 0 :]) <= 0.15


def seconds_left(rate_before: float, rate_after: float, *, paused: float) -> float:
    """Return the time left for each row after 300 s at a rate, a pause, and 500 s at another rate."""
    meter, done, left = RateMeter(), 0.0, None
    for second in range(round(800 + paused)):
        is_paused = 300 <= second < 300 + paused
        if not is_paused:
            done += rate_before if second < 300 else rate_after
        sight = LiveStatus(outcome_counts=OutcomeCounts(100_000, {Outcome.DELETED: round(done)}), is_paused=is_paused)
        left = meter.measure(sight, float(second)).time_left
    assert left is not None
    return left.total_seconds() / (100_000 - done)


def test_a_pause_is_no_time_in_which_the_job_was_slow() -> None:
    assert seconds_left(10, 10, paused=3600) == pytest.approx(1 / 10, rel=0.02)


def test_a_rate_that_has_changed_counts_alone_after_a_while() -> None:
    assert seconds_left(10, 40, paused=0) == pytest.approx(1 / 40, rel=0.02)


def test_what_comes_before_the_limit_is_found_doesnt_count() -> None:
    meter, done, left = RateMeter(), 0, None
    for second in range(60):
        phase = Phase.START if second < 40 else Phase.CRUISE
        done += 1 if phase is Phase.START else 50
        sight = LiveStatus(outcome_counts=OutcomeCounts(100_000, {Outcome.DELETED: done}), phase=phase)
        left = meter.measure(sight, float(second)).time_left
    assert left is not None
    assert left.total_seconds() == pytest.approx((100_000 - done) / 50, rel=0.02)
