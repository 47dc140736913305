"""The pacer that several processes share: its slots are planned ahead, and may be taken back."""

import sys

from .adaptive import AdaptivePacer
from .base import Phase, Ticket


class Mind(AdaptivePacer):
    """What the members of a SharedPacer know together."""

    @property
    def reacted_at(self) -> int:
        """The number of the last ticket before the last reaction: refusals up to it are echoes."""
        return self._reacted_at_ticket

    def withdraw(self, first: Ticket, count: int) -> None:
        """Take note that `count` requests, from ticket `first` on, won't leave; where they are the last, others may."""
        for interval in self._open_intervals:
            interval.withdraw(first.number, count)
        if self._question is not None and first.number <= self._question.number < first.number + count:
            self._question = None
        if first.number + count > self._sent:
            self.replan(first.sent_at)

    def replan(self, now: float) -> None:
        """Take note that nothing that is planned for later than `now` will leave."""
        self._next = min(self._next, now)

    def adopt(self, max_rate: float, utilization: float, probe_after: int) -> None:
        """Go on with other settings, `max_rate` being infinite where there is none."""
        changed = (max_rate, utilization, probe_after) != (self._max_rate, self._utilization, self._probe_after)
        self._max_rate, self._utilization, self._probe_after = max_rate, utilization, probe_after
        if changed and self._phase is not Phase.START and self.estimate is not None:
            # Also out of a PROBE: what a careful one had lowered would be raised by small steps only.
            self._cruise(self.estimate, sys.maxsize)
        self._rate = min(self._rate, max_rate)
