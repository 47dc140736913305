"""Where a job stands while it runs, and how that is put into words. Numbers, never an id."""

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from ..bulk import BulkReport, Outcome
from ..pacing import Phase, Snapshot
from .books import Standing

_WINDOW: Final = 10.0
"""Seconds over which the rate is measured."""
_PHASES: Final = {Phase.START: "looking for the limit", Phase.BLOCKED: "refused one and all: waiting"}


@attrs.frozen(kw_only=True)
class Sight:
    """What is seen of a job at one moment. `report`, `pacing`: None where they aren't known.

    `words`: what outcomes are called where they aren't called by their names.
    """

    standing: Standing
    report: BulkReport | None = None
    pacing: Snapshot | None = None
    is_paused: bool = False
    errors: tuple[str, ...] = ()
    words: Mapping[Outcome, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class View:
    """What is shown of it. `rate`: rows a second by now, None where it isn't known; `hour`: what the clock says."""

    sight: Sight
    rate: float | None
    hour: datetime

    @property
    def left(self) -> timedelta | None:
        """The time left at that rate."""
        if not self.rate or self.sight.is_paused:
            return None
        standing = self.sight.standing
        return timedelta(seconds=round((standing.total - standing.done) / self.rate))

    @property
    def done(self) -> str:
        """How much is done."""
        return f"{self.sight.standing.done:,} of {self.sight.standing.total:,} rows"

    @property
    def outcomes(self) -> str:
        """What became of it."""
        counts, words = self.sight.standing.counts, self.sight.words
        return ", ".join(
            f"{counts[outcome]:,} {words.get(outcome, outcome)}" for outcome in Outcome if counts.get(outcome)
        )

    @property
    def pace(self) -> str:
        """How fast it goes, and how fast it might."""
        if self.sight.is_paused:
            return "paused: nothing new is sent; SIGUSR1 again goes on"
        return ", ".join(filter(None, ["" if self.rate is None else f"{self.rate:,.1f}/s", self._limit]))

    @property
    def _limit(self) -> str:
        pacing = self.sight.pacing
        if pacing is None or pacing.phase is Phase.STEADY:
            return ""
        if pacing.phase in _PHASES:
            return _PHASES[pacing.phase]
        return "" if pacing.estimate is None else f"the limit is {pacing.estimate:,.1f}/s"

    @property
    def requests(self) -> str:
        """How the requests fare."""
        report = self.sight.report
        if report is None or not report.requests:
            return ""
        latency = "" if report.latency is None else f", answers in {report.latency.p50 * 1000:,.0f} ms"
        return f"{report.throttled / report.requests:.1%} refused, {report.under_way:,} under way{latency}"

    @property
    def end(self) -> str:
        """The time left, and the hour at which it will be over."""
        if self.left is None or not self.left:
            return ""
        ends = self.hour + self.left
        return f"{self.left} left, until {ends:%H:%M}{'' if ends.date() == self.hour.date() else f' on {ends:%d %B}'}"

    def as_json(self) -> dict[str, Any]:
        """Give the figures of an event."""
        sight = self.sight
        report, pacing = sight.report, sight.pacing
        return {
            "done": sight.standing.done,
            "total": sight.standing.total,
            "counts": counts_of(sight.standing),
            "rate": None if self.rate is None else round(self.rate, 2),
            "limit": None if pacing is None or pacing.estimate is None else round(pacing.estimate, 2),
            "phase": pacing and pacing.phase,
            "requests": report and report.requests,
            "throttled": report and report.throttled,
            "under_way": report and report.under_way,
            "latency": None if report is None or report.latency is None else round(report.latency.p50, 4),
            "seconds_left": None if self.left is None else round(self.left.total_seconds()),
            "ends": None if self.left is None else (self.hour + self.left).isoformat(timespec="seconds"),
            "paused": sight.is_paused,
            "errors": list(sight.errors),
        }


def counts_of(standing: Standing) -> dict[str, int]:
    """Give the counts in the order in which they are told."""
    return {str(outcome): standing.counts[outcome] for outcome in Outcome if standing.counts.get(outcome)}


class Meter:
    """Measure the rate of a job over its last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def view(self, sight: Sight, now: float) -> View:
        """Look at a job. `now`: seconds of a steady clock."""
        done = sight.standing.done
        while len(self._seen) > 1 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()
        self._seen.append((now, done))
        since, before = self._seen[0]
        rate = (done - before) / (now - since) if now > since and done > before else None
        return View(sight=sight, rate=rate, hour=datetime.now().astimezone())
