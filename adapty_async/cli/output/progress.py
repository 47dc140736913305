"""The progress of a running job, and its description in text and JSON. It contains numbers, never IDs."""

from collections import deque
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import attrs

from ...bulk import BulkReport, Outcome
from ...escaping import escape_line
from ...pacing import Phase, Snapshot
from ...pluralization import format_count

_WINDOW_SECONDS: Final = 10.0
"""Seconds over which the rate is measured."""
_MIN_MEAN, _MAX_MEAN, _MEAN_SHARE = 40.0, 600.0, 0.6
"""Bounds in seconds, and share of the running time, of the window over which the mean rate is measured.

While a pacer probes for the limit, it is faster at times, and a Retry-After stops it. The window must span several of
both.
"""
_PUBLISHED_FIELDS: Final = ("requests", "throttled", "awaiting_retry", "latency", "limit")
_PHASE_TEXTS: Final = {Phase.START: "looking for the limit", Phase.BLOCKED: "all requests rate-limited: waiting"}


@attrs.frozen
class OutcomeCounts:
    """The number of rows with each outcome.

    `success_outcomes`: outcomes that this job counts as success, not as failure.
    """

    total: int
    by_outcome: Mapping[Outcome, int]
    success_outcomes: Collection[Outcome] = ()

    @property
    def success_count(self) -> int:
        """The number of rows that succeeded."""
        return sum(count for outcome, count in self.by_outcome.items() if self._is_success(outcome))

    def _is_success(self, outcome: Outcome) -> bool:
        return outcome in self.success_outcomes or not (outcome.is_failure or outcome is Outcome.EXCLUDED)

    @property
    def remaining_count(self) -> int:
        """The number of rows without an outcome or with `not_attempted`."""
        return self.total - sum(self.by_outcome.values()) + self.by_outcome.get(Outcome.NOT_ATTEMPTED, 0)

    @property
    def settled_count(self) -> int:
        """The number of rows that aren't left."""
        return self.total - self.remaining_count

    @property
    def by_result(self) -> dict[str, int]:
        """All rows by result, for the user. The numbers add up to `total`."""
        doubtful, excluded = (self.by_outcome.get(outcome, 0) for outcome in (Outcome.IN_DOUBT, Outcome.EXCLUDED))
        return {
            "done": self.success_count,
            "failed": self.settled_count - self.success_count - doubtful - excluded,
            "in_doubt": doubtful,
            "excluded": excluded,
            "left": self.remaining_count,
        }

    @property
    def failed_count(self) -> int:
        """The number of rows whose outcome is a failure."""
        return sum(count for outcome, count in self.by_outcome.items() if outcome.is_failure)


class ProgressSource(Protocol):
    """An object that knows the progress of a job."""

    @property
    def outcome_counts(self) -> OutcomeCounts:
        """The current counts."""
        ...


@attrs.frozen(kw_only=True)
class LiveStatus:
    """The live status of a job. Unknown values are None.

    Attributes:
        outcome_counts: The rows by outcome.
        requests: The number of requests sent.
        throttled: The number of requests that were rate-limited (429).
        in_flight: The number of requests in flight.
        awaiting_retry: The number of rows that wait for a retry.
        latency: The median latency, in seconds.
        limit: The rate limit found by the pacer, in requests per second.
        phase: The phase of the pacer.
        is_paused: Whether the job is paused.
        errors: A line for each of the last kinds of errors.
        labels: The names to show for outcomes, if they differ from the outcomes' own names.
    """

    outcome_counts: OutcomeCounts
    requests: int | None = None
    throttled: int | None = None
    in_flight: int | None = None
    awaiting_retry: int | None = None
    latency: float | None = None
    limit: float | None = None
    phase: Phase | None = None
    is_paused: bool = False
    errors: tuple[str, ...] = ()
    labels: Mapping[Outcome, str] = attrs.field(factory=dict)

    def with_requests(self, report: BulkReport) -> "LiveStatus":
        """Add the figures of the requests from a job's report."""
        return attrs.evolve(
            self,
            requests=report.requests,
            throttled=report.throttled,
            in_flight=report.in_flight,
            awaiting_retry=report.awaiting_retry,
            latency=None if report.latency is None else report.latency.p50,
        )

    def with_pacer_state(self, pacing: Snapshot) -> "LiveStatus":
        """Add the state of the pacer."""
        return attrs.evolve(self, limit=pacing.estimate, phase=pacing.phase)


@attrs.frozen(kw_only=True)
class ProgressView:
    """The live status as it is shown, with rates.

    Attributes:
        live_status: The live status.
        rate: The current rate in rows per second, or None if it isn't known.
        local_time: The current time.
        mean_rate: The rate over the last minutes, in rows per second. The time left is estimated from it, or from
            `rate` if it is None.
    """

    live_status: LiveStatus
    rate: float | None
    local_time: datetime
    mean_rate: float | None = None

    @property
    def time_left(self) -> timedelta | None:
        """The time left at the mean rate."""
        rate = self.mean_rate or self.rate
        if not rate or self.live_status.is_paused:
            return None
        return timedelta(seconds=round(self.live_status.outcome_counts.remaining_count / rate))

    @property
    def done_text(self) -> str:
        """How many rows are done, without failed and excluded ones."""
        outcome_counts = self.live_status.outcome_counts
        return f"{outcome_counts.success_count:,} of {format_count(outcome_counts.total, 'row')}"

    @property
    def outcomes_text(self) -> str:
        """The number of rows by outcome. If some failed or were excluded, also the number of rows left."""
        outcome_counts, labels = self.live_status.outcome_counts, self.live_status.labels
        counts = {outcome: count for outcome in Outcome if (count := outcome_counts.by_outcome.get(outcome))}
        counts.pop(Outcome.NOT_ATTEMPTED, None)
        parts = [f"{count:,} {labels.get(outcome, outcome)}" for outcome, count in counts.items()]
        if outcome_counts.remaining_count and outcome_counts.settled_count > outcome_counts.success_count:
            parts.append(f"{outcome_counts.remaining_count:,} left")
        return ", ".join(parts)

    @property
    def waiting_text(self) -> str:
        """How many rows wait for a retry."""
        count = self.live_status.awaiting_retry
        return f"{format_count(count, 'row waits', 'rows wait')} for a retry" if count else ""

    @property
    def rate_text(self) -> str:
        """The rate, and the rate limit."""
        if self.live_status.is_paused:
            return "paused: no new requests are sent; to unpause, use adapty-async unpause or SIGUSR2"
        return ", ".join(filter(None, ["" if self.rate is None else f"{self.rate:,.1f}/s", self._limit_text]))

    @property
    def _limit_text(self) -> str:
        phase, limit = self.live_status.phase, self.live_status.limit
        if phase is None or phase is Phase.STEADY:
            return ""
        return _PHASE_TEXTS.get(phase, "" if limit is None else f"the limit is {limit:,.1f}/s")

    @property
    def server_text(self) -> str:
        """The share of 429s, the requests in flight and the latency."""
        live_status = self.live_status
        if not live_status.requests:
            return ""
        latency = "" if live_status.latency is None else f", latency {live_status.latency * 1000:,.0f} ms"
        return (
            f"{(live_status.throttled or 0) / live_status.requests:.1%} rate-limited, "
            f"{live_status.in_flight or 0:,} in flight{latency}"
        )

    @property
    def eta_text(self) -> str:
        """The time left, and the time at which the job will end."""
        if self.time_left is None or not self.time_left:
            return ""
        end_time = self.local_time + self.time_left
        return (
            f"{self.time_left} left, until "
            f"{end_time:%H:%M}{'' if end_time.date() == self.local_time.date() else f' on {end_time:%d %B}'}"
        )

    @property
    def lines(self) -> list[str]:
        """The lines that are shown below the number of rows done."""
        pace = "; ".join(filter(None, [self.rate_text, self.eta_text]))
        errors = [f"  {escape_line(line)}" for line in self.live_status.errors]
        waiting = [self.waiting_text] if self.waiting_text else []
        return [self.outcomes_text, pace, self.server_text, *waiting, *(["last errors:"] if errors else []), *errors]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures of an event."""
        live_status = self.live_status
        return {
            "total": live_status.outcome_counts.total,
            **live_status.outcome_counts.by_result,
            "awaiting_retry": live_status.awaiting_retry,
            "counts": select_nonzero_counts(live_status.outcome_counts),
            "rate": None if self.rate is None else round(self.rate, 2),
            "mean_rate": None if self.mean_rate is None else round(self.mean_rate, 2),
            "limit": None if live_status.limit is None else round(live_status.limit, 2),
            "phase": live_status.phase,
            "requests": live_status.requests,
            "throttled": live_status.throttled,
            "under_way": live_status.in_flight,
            "latency": None if live_status.latency is None else round(live_status.latency, 4),
            "seconds_left": None if self.time_left is None else round(self.time_left.total_seconds()),
            "ends": None
            if self.time_left is None
            else (self.local_time + self.time_left).isoformat(timespec="seconds"),
            "paused": live_status.is_paused,
            "errors": list(live_status.errors),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], outcome_counts: OutcomeCounts, local_time: datetime) -> "ProgressView":
        """Read the result of `to_dict`, with a newer `outcome_counts` and the current time."""
        live_status = LiveStatus(
            outcome_counts=outcome_counts,
            **{name: data[name] for name in _PUBLISHED_FIELDS},
            in_flight=data["under_way"],
            phase=data["phase"] and Phase(data["phase"]),
            is_paused=data["paused"],
            errors=tuple(data["errors"]),
        )
        return cls(live_status=live_status, rate=data["rate"], mean_rate=data["mean_rate"], local_time=local_time)


def select_nonzero_counts(outcome_counts: OutcomeCounts) -> dict[str, int]:
    """Return the nonzero counts by outcome, in the order of `Outcome`."""
    return {
        str(outcome): outcome_counts.by_outcome[outcome]
        for outcome in Outcome
        if outcome_counts.by_outcome.get(outcome)
    }


class RateMeter:
    """Measure the rate of a job over the last seconds and over the last minutes."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._mean = _SteadyRateMeter()

    def measure(self, live_status: LiveStatus, now: float) -> ProgressView:
        """Add a measurement and return the live status with rates. `now`: seconds of a monotonic clock."""
        settled = live_status.outcome_counts.settled_count
        while len(self._seen) > 1 and self._seen[1][0] <= now - _WINDOW_SECONDS:
            self._seen.popleft()
        self._seen.append((now, settled))
        since, before = self._seen[0]
        rate = (settled - before) / (now - since) if now > since and settled > before else None
        return ProgressView(
            live_status=live_status,
            rate=rate,
            mean_rate=self._mean.measure(live_status, now),
            local_time=datetime.now().astimezone(),
        )


class _SteadyRateMeter:
    """The rate since the pacer found the limit, excluding the time for which the job was paused."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._running_seconds = 0.0
        """Seconds for which the job wasn't paused."""
        self._search_seconds = 0.0
        """The part of them that the pacer took to find the limit."""
        self._last_time: float | None = None

    def measure(self, live_status: LiveStatus, now: float) -> float | None:
        """Return rows per second, None for the first 10 s."""
        if self._last_time is not None and not live_status.is_paused:
            self._running_seconds += now - self._last_time
        self._last_time = now
        if live_status.phase is Phase.START:
            self._seen.clear()
            self._search_seconds = self._running_seconds
        window = min(max(_MIN_MEAN, (self._running_seconds - self._search_seconds) * _MEAN_SHARE), _MAX_MEAN)
        while len(self._seen) > 1 and self._seen[1][0] <= self._running_seconds - window:
            self._seen.popleft()
        settled = live_status.outcome_counts.settled_count
        if not self._seen or self._running_seconds >= self._seen[-1][0] + 1.0:
            self._seen.append((self._running_seconds, settled))
        since, before = self._seen[0]
        return (
            (settled - before) / (self._running_seconds - since)
            if self._running_seconds >= since + _WINDOW_SECONDS
            else None
        )
