"""The pacer behind a SharedPacer: its slots are planned ahead and can be withdrawn."""

import sys

from ..adaptive import AdaptivePacer
from ..base import Phase, Ticket


class SharedAdaptivePacer(AdaptivePacer):
    """The adaptive pacer whose state the members of a SharedPacer share."""

    @property
    def reacted_up_to(self) -> int:
        """The number of the last ticket before the last reaction. 429s for tickets up to it are echoes."""
        return self._reacted_up_to

    def cancel_slots(self, first: Ticket, count: int) -> None:
        """Withdraw `count` slots, from ticket `first` on. If they are the last ones, their times become free again."""
        self._detector.cancel_slots(first.number, count)
        self._trials.cancel_slots(first.number, count)
        if first.number + count > self._sent:
            self.replan(first.sent_at)

    def replan(self, now: float) -> None:
        """Make the times after `now` free again: no slot planned for them will be used."""
        self._next_slot = min(self._next_slot, now)

    def update_settings(self, max_rate: float, utilization: float, probe_after: int) -> None:
        """Apply changed settings. An infinite `max_rate` means no maximum."""
        phases = self._phases
        is_changed = (max_rate, utilization, probe_after) != (phases.max_rate, phases.utilization, phases.probe_after)
        phases.max_rate, phases.utilization, phases.probe_after = max_rate, utilization, probe_after
        if is_changed and phases.phase is not Phase.START and self.estimate is not None:
            # PROBE ends, too: it would raise a limit that a more careful member had lowered only in small steps.
            self._detector.search.start_cruise(self.estimate, sys.maxsize)
        phases.rate = min(phases.rate, max_rate)
