"""A pacer that finds the unpublished rate limit of an API key and stays just below it.

The pacer sends one request after the other at the current rate. From the responses, an OvershootDetector recognizes
rates above the limit, and a LimitSearch chooses the next rate.

The pacer reacts once to each overshoot. Requests in flight when a 429 arrives may be rejected too; these echoes carry
no new information. After a reaction nothing is sent until the bucket holds a few tokens again. If not a single request
was accepted since the last reaction, the rate isn't the cause: the pacer is BLOCKED, and sends one trial request at a
time until one is accepted.
"""

import math
from typing import Final

from .base import (
    MAX_LATENESS_SECONDS,
    BasePacer,
    Phase,
    Ticket,
    Verdict,
    validate_count,
    validate_rate,
    validate_utilization,
)
from .overshoots import OvershootDetector, Reaction, Rejection
from .search_phases import SearchPhases

# BLOCKED: seconds between two trial requests.
_INITIAL_TRIAL_DELAY_SECONDS: Final = 0.25
_TRIAL_DELAY_GROWTH: Final = 1.5
_MAX_TRIAL_DELAY_SECONDS: Final = 30.0
# The maximum is reached before. Without this bound the power could overflow.
_MAX_TRIAL_DELAY_STEPS: Final = 30
# Seconds after which the response to a trial request counts as lost.
_TRIAL_TIMEOUT_SECONDS: Final = 60.0


class TrialRequests:
    """The requests that are sent one at a time while all are rejected."""

    def __init__(self) -> None:
        self.failed_count = 0
        self._ticket: Ticket | None = None

    @property
    def not_before(self) -> float:
        """The time until which the response to a trial request is awaited."""
        return -math.inf if self._ticket is None else self._ticket.sent_at + _TRIAL_TIMEOUT_SECONDS

    @property
    def delay(self) -> float:
        """Seconds until the next trial request."""
        steps = min(self.failed_count - 1, _MAX_TRIAL_DELAY_STEPS)
        return min(_MAX_TRIAL_DELAY_SECONDS, _INITIAL_TRIAL_DELAY_SECONDS * _TRIAL_DELAY_GROWTH**steps)

    def record_send(self, ticket: Ticket) -> None:
        """Record that a request is sent, which is a trial request if the last ones were rejected."""
        if self.failed_count:
            self._ticket = ticket

    def end(self, number: int) -> bool:
        """End the trial request with the result of ticket `number`. Return True if it was in flight."""
        if self._ticket is None or number < self._ticket.number:
            return False
        self._ticket = None
        return True

    def cancel_slots(self, number: int, count: int) -> None:
        """Drop the trial request if it is one of `count` requests, from ticket `number` on, that were never sent."""
        if self._ticket is not None and number <= self._ticket.number < number + count:
            self._ticket = None


class AdaptivePacer(BasePacer):
    """Finds the rate limit of an API key from its 429s and sends just below it.

    Args:
        start_rate: The first rate, in requests per second.
        max_rate: The maximum rate, in requests per second, or None for no maximum.
        utilization: The share of the measured limit to use, in (0, 1].
        probe_after: The number of requests after which the limit is measured again.

    Raises:
        TypeError: If an argument isn't a number.
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        start_rate: float = 5.0,
        max_rate: float | None = None,
        utilization: float = 0.98,
        probe_after: int = 200,
    ) -> None:
        super().__init__()
        highest = math.inf if max_rate is None else validate_rate(max_rate, "max_rate")
        self._detector = OvershootDetector(
            min(validate_rate(start_rate, "start_rate"), highest),
            highest,
            validate_utilization(utilization),
            validate_count(probe_after, "probe_after"),
        )
        self._next_slot = -math.inf
        self._backoff_until = -math.inf
        self._trials = TrialRequests()

        # The reaction to the last 429
        self._reacted_up_to = 0
        self._echoes_until = -math.inf
        self._accepted_since_reaction = 0

    @classmethod
    def background(cls, max_rate: float | None = None) -> "AdaptivePacer":
        """Return a pacer that leaves 30% of the limit to other users of the key, such as your app in production.

        Args:
            max_rate: The maximum rate, in requests per second, or None for no maximum.
        """
        return cls(max_rate=max_rate, utilization=0.7, probe_after=3000)

    @property
    def rate(self) -> float:
        return self._phases.rate

    @property
    def estimate(self) -> float | None:
        return self._detector.search.limit

    @property
    def phase(self) -> Phase:
        return Phase.BLOCKED if self._trials.failed_count else self._phases.phase

    def __repr__(self) -> str:
        return f"<AdaptivePacer {self.phase}, {self.rate:.3g}/s>"

    @property
    def not_before(self) -> float:
        """The time until which nothing is sent, regardless of the schedule."""
        return max(self._hold_until, self._backoff_until, self._trials.not_before)

    # The schedule: one request after the other; unused time isn't saved up

    def delay(self, now: float) -> float:
        return max(0.0, max(self._next_slot, self.not_before) - now)

    def acquire(self, now: float) -> Ticket:
        ticket = super().acquire(now)
        self._detector.record_send(ticket)
        # A Retry-After isn't made up for as lateness would be: that would cause a burst.
        self._next_slot = max(self._next_slot, self._hold_until, now - MAX_LATENESS_SECONDS) + 1.0 / self.rate
        self._trials.record_send(ticket)
        return ticket

    def record(self, now: float, ticket: Ticket, verdict: Verdict, retry_after: float | None = None) -> None:
        self._count_verdict(verdict)
        hold_seconds = self._hold(now, retry_after)
        ends_trial = self._trials.end(ticket.number)
        if verdict is Verdict.UNKNOWN:
            self._detector.record_unknown(ticket.number)
            if ends_trial:
                self._backoff_until = now + self._trials.delay
            return
        self._phases.round_trip.record(now - ticket.sent_at)
        if verdict is Verdict.ACCEPTED:
            self._on_accepted(ticket)
        elif self._detector.count_rejection(ticket.number):  # else a ticket of another pacer
            self._on_rate_limited(now, ticket, hold_seconds)

    @property
    def _phases(self) -> SearchPhases:
        return self._detector.search.phases

    def _on_accepted(self, ticket: Ticket) -> None:
        if ticket.number > self._reacted_up_to:
            self._accepted_since_reaction += 1
            if self._trials.failed_count:
                self._trials.failed_count = 0
                self._detector.unblock(ticket)
        self._detector.record_acceptance(ticket)

    def _on_rate_limited(self, now: float, ticket: Ticket, hold_seconds: float) -> None:
        is_echo = ticket.number <= self._reacted_up_to or ticket.sent_at < self._echoes_until
        if is_echo and not self._detector.is_suspicious:
            return
        if not self._accepted_since_reaction and not is_echo:
            self._schedule_trial(now)
            return
        rejection = Rejection(ticket, hold_seconds, is_echo, self._accepted_since_reaction, self._backoff_until)
        reaction = self._detector.record_rejection(rejection)
        if reaction is Reaction.WAIT_FOR_RESPONSES:
            self._backoff_until = now + self._phases.round_trip.response_seconds
        elif reaction is Reaction.BACK_OFF:
            self._start_backoff(now)

    def _start_backoff(self, now: float) -> None:
        """Send nothing until the bucket holds a few tokens again."""
        self._backoff_until = now + self._detector.search.backoff_seconds
        self._echoes_until = self._backoff_until + self._phases.round_trip.overtaking_seconds
        self._start_reaction()

    def _schedule_trial(self, now: float) -> None:
        """Wait before the next trial request."""
        self._detector.block()
        self._trials.failed_count += 1
        self._backoff_until = now + self._trials.delay
        self._echoes_until = -math.inf
        self._start_reaction()

    def _start_reaction(self) -> None:
        self._reacted_up_to = self._sent
        self._accepted_since_reaction = 0
