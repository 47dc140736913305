"""The progress of a running job, and its description in text and JSON. It contains numbers, never IDs."""

from collections import deque
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import attrs

from ...bulk import BulkReport, Outcome
from ...escaping import one_line
from ...pacing import Phase, Snapshot

_WINDOW: Final = 10.0
"""Seconds over which the rate is measured."""
_MIN_MEAN, _MAX_MEAN, _MEAN_SHARE = 40.0, 600.0, 0.6
"""Bounds in seconds, and share of the running time, of the window over which the mean rate is measured.

While a pacer probes for the limit, it is faster at times, and a Retry-After stops it. The window must span several of
both.
"""
_TOLD: Final = ("requests", "throttled", "under_way", "awaiting_retry", "latency", "limit")
_PHASES: Final = {Phase.START: "looking for the limit", Phase.BLOCKED: "all requests rate-limited: waiting"}


@attrs.frozen
class Standing:
    """The number of rows with each outcome. `wanted`: outcomes that this job counts as success, not as failure."""

    total: int
    counts: Mapping[Outcome, int]
    wanted: Collection[Outcome] = ()

    @property
    def done(self) -> int:
        """The number of rows that succeeded."""
        return sum(count for outcome, count in self.counts.items() if self._is_done(outcome))

    def _is_done(self, outcome: Outcome) -> bool:
        return outcome in self.wanted or not (outcome.is_failure or outcome is Outcome.EXCLUDED)

    @property
    def left(self) -> int:
        """The number of rows without an outcome or with `not_attempted`."""
        return self.total - sum(self.counts.values()) + self.counts.get(Outcome.NOT_ATTEMPTED, 0)

    @property
    def settled(self) -> int:
        """The number of rows that aren't left."""
        return self.total - self.left

    @property
    def parts(self) -> dict[str, int]:
        """All rows by result, for the user. The numbers add up to `total`."""
        doubtful, excluded = (self.counts.get(outcome, 0) for outcome in (Outcome.IN_DOUBT, Outcome.EXCLUDED))
        return {
            "done": self.done,
            "failed": self.settled - self.done - doubtful - excluded,
            "in_doubt": doubtful,
            "excluded": excluded,
            "left": self.left,
        }

    @property
    def failed(self) -> int:
        """The number of rows whose outcome is a failure."""
        return sum(count for outcome, count in self.counts.items() if outcome.is_failure)


class Keeper(Protocol):
    """An object that knows the progress of a job."""

    @property
    def standing(self) -> Standing:
        """The current counts."""


@attrs.frozen(kw_only=True)
class Sight:
    """The live status of a job. Unknown values are None.

    Attributes:
        standing: The rows by outcome.
        requests: The number of requests sent.
        throttled: The number of requests that were rate-limited (429).
        under_way: The number of requests in flight.
        awaiting_retry: The number of rows that wait for a retry.
        latency: The median latency, in seconds.
        limit: The rate limit found by the pacer, in requests per second.
        phase: The phase of the pacer.
        is_paused: Whether the job is paused.
        errors: A line for each of the last kinds of errors.
        words: The names to show for outcomes, if they differ from the outcomes' own names.
    """

    standing: Standing
    requests: int | None = None
    throttled: int | None = None
    under_way: int | None = None
    awaiting_retry: int | None = None
    latency: float | None = None
    limit: float | None = None
    phase: Phase | None = None
    is_paused: bool = False
    errors: tuple[str, ...] = ()
    words: Mapping[Outcome, str] = attrs.field(factory=dict)

    def of_requests(self, report: BulkReport) -> "Sight":
        """Add the figures of the requests from a job's report."""
        return attrs.evolve(
            self,
            requests=report.requests,
            throttled=report.throttled,
            under_way=report.under_way,
            awaiting_retry=report.awaiting_retry,
            latency=None if report.latency is None else report.latency.p50,
        )

    def of_pacing(self, pacing: Snapshot) -> "Sight":
        """Add the state of the pacer."""
        return attrs.evolve(self, limit=pacing.estimate, phase=pacing.phase)


@attrs.frozen(kw_only=True)
class View:
    """The live status as it is shown, with rates.

    Attributes:
        sight: The live status.
        rate: The current rate in rows per second, or None if it isn't known.
        hour: The current time.
        mean_rate: The rate over the last minutes, in rows per second. The time left is estimated from it, or from
            `rate` if it is None.
    """

    sight: Sight
    rate: float | None
    hour: datetime
    mean_rate: float | None = None

    @property
    def left(self) -> timedelta | None:
        """The time left at the mean rate."""
        rate = self.mean_rate or self.rate
        if not rate or self.sight.is_paused:
            return None
        return timedelta(seconds=round(self.sight.standing.left / rate))

    @property
    def done(self) -> str:
        """How many rows are done, without failed and excluded ones."""
        return f"{self.sight.standing.done:,} of {self.sight.standing.total:,} rows"

    @property
    def outcomes(self) -> str:
        """The number of rows by outcome. If some failed or were excluded, also the number of rows left."""
        standing, words = self.sight.standing, self.sight.words
        told = {outcome: count for outcome in Outcome if (count := standing.counts.get(outcome))}
        told.pop(Outcome.NOT_ATTEMPTED, None)
        parts = [f"{count:,} {words.get(outcome, outcome)}" for outcome, count in told.items()]
        if standing.left and standing.settled > standing.done:
            parts.append(f"{standing.left:,} left")
        return ", ".join(parts)

    @property
    def waiting(self) -> str:
        """How many rows wait for a retry."""
        count = self.sight.awaiting_retry
        return f"{count:,} rows wait for a retry" if count else ""

    @property
    def pace(self) -> str:
        """The rate, and the rate limit."""
        if self.sight.is_paused:
            return "paused: no new requests are sent; send SIGUSR1 again to unpause"
        return ", ".join(filter(None, ["" if self.rate is None else f"{self.rate:,.1f}/s", self._limit]))

    @property
    def _limit(self) -> str:
        phase, limit = self.sight.phase, self.sight.limit
        if phase is None or phase is Phase.STEADY:
            return ""
        return _PHASES.get(phase, "" if limit is None else f"the limit is {limit:,.1f}/s")

    @property
    def requests(self) -> str:
        """The share of 429s, the requests in flight and the latency."""
        sight = self.sight
        if not sight.requests:
            return ""
        latency = "" if sight.latency is None else f", latency {sight.latency * 1000:,.0f} ms"
        return (
            f"{(sight.throttled or 0) / sight.requests:.1%} rate-limited, {sight.under_way or 0:,} in flight{latency}"
        )

    @property
    def end(self) -> str:
        """The time left, and the time at which the job will end."""
        if self.left is None or not self.left:
            return ""
        ends = self.hour + self.left
        return f"{self.left} left, until {ends:%H:%M}{'' if ends.date() == self.hour.date() else f' on {ends:%d %B}'}"

    @property
    def lines(self) -> list[str]:
        """The lines that are shown below the number of rows done."""
        pace = "; ".join(filter(None, [self.pace, self.end]))
        errors = [f"  {one_line(line)}" for line in self.sight.errors]
        waiting = [self.waiting] if self.waiting else []
        return [self.outcomes, pace, self.requests, *waiting, *(["last errors:"] if errors else []), *errors]

    def as_json(self) -> dict[str, Any]:
        """Return the figures of an event."""
        sight = self.sight
        return {
            "total": sight.standing.total,
            **sight.standing.parts,
            "awaiting_retry": sight.awaiting_retry,
            "counts": counts_of(sight.standing),
            "rate": None if self.rate is None else round(self.rate, 2),
            "mean_rate": None if self.mean_rate is None else round(self.mean_rate, 2),
            "limit": None if sight.limit is None else round(sight.limit, 2),
            "phase": sight.phase,
            "requests": sight.requests,
            "throttled": sight.throttled,
            "under_way": sight.under_way,
            "latency": None if sight.latency is None else round(sight.latency, 4),
            "seconds_left": None if self.left is None else round(self.left.total_seconds()),
            "ends": None if self.left is None else (self.hour + self.left).isoformat(timespec="seconds"),
            "paused": sight.is_paused,
            "errors": list(sight.errors),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], standing: Standing, hour: datetime) -> "View":
        """Read the result of `as_json`, with a newer `standing` and the current time."""
        sight = Sight(
            standing=standing,
            **{name: data[name] for name in _TOLD},
            phase=data["phase"] and Phase(data["phase"]),
            is_paused=data["paused"],
            errors=tuple(data["errors"]),
        )
        return cls(sight=sight, rate=data["rate"], mean_rate=data["mean_rate"], hour=hour)


def counts_of(standing: Standing) -> dict[str, int]:
    """Return the nonzero counts by outcome, in the order of `Outcome`."""
    return {str(outcome): standing.counts[outcome] for outcome in Outcome if standing.counts.get(outcome)}


class Meter:
    """Measure the rate of a job over the last seconds and over the last minutes."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._mean = _MeanRate()

    def view(self, sight: Sight, now: float) -> View:
        """Add a measurement and return the live status with rates. `now`: seconds of a monotonic clock."""
        settled = sight.standing.settled
        while len(self._seen) > 1 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()
        self._seen.append((now, settled))
        since, before = self._seen[0]
        rate = (settled - before) / (now - since) if now > since and settled > before else None
        return View(sight=sight, rate=rate, mean_rate=self._mean.at(sight, now), hour=datetime.now().astimezone())


class _MeanRate:
    """The rate since the pacer found the limit, excluding the time for which the job was paused."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._running = 0.0
        """Seconds for which the job wasn't paused."""
        self._searched = 0.0
        """The part of them that the pacer took to find the limit."""
        self._last: float | None = None

    def at(self, sight: Sight, now: float) -> float | None:
        """Return rows per second, None for the first 10 s."""
        if self._last is not None and not sight.is_paused:
            self._running += now - self._last
        self._last = now
        if sight.phase is Phase.START:
            self._seen.clear()
            self._searched = self._running
        window = min(max(_MIN_MEAN, (self._running - self._searched) * _MEAN_SHARE), _MAX_MEAN)
        while len(self._seen) > 1 and self._seen[1][0] <= self._running - window:
            self._seen.popleft()
        settled = sight.standing.settled
        if not self._seen or self._running >= self._seen[-1][0] + 1.0:
            self._seen.append((self._running, settled))
        since, before = self._seen[0]
        return (settled - before) / (self._running - since) if self._running >= since + _WINDOW else None
