"""The mean round trip of requests, and the hold after a 429."""

from typing import Final

# The round trip is a mean of about the last ten. One response changes it only a little: responses that waited while the
# event loop was blocked or the machine was asleep didn't really take longer.
_ROUND_TRIP_WEIGHT: Final = 0.1
_ROUND_TRIP_GROWTH_SECONDS: Final = 0.02

# The following are shares of a round trip.
# The most that the jitter of some hundred requests takes from a bucket.
_JITTER_ROUND_TRIPS: Final = 0.2
# After a 429 the pacer waits for this many tokens, plus this much for the jitter of the network. Requests that overtake
# others on their way may still find the bucket empty.
_REFILL_TOKENS: Final = 4.0
_REFILL_ROUND_TRIPS: Final = 0.1
_OVERTAKING_ROUND_TRIPS: Final = 0.25
# Within this time, all requests in flight have responses.
_RESPONSE_ROUND_TRIPS: Final = 1.2


class RoundTrip:
    """The mean round trip, and the hold that the last 429 caused."""

    def __init__(self) -> None:
        self.mean_seconds = 0.0
        self.hold_seconds = 0.0
        """Seconds by which the last 429 held all requests; 0.0 if that cost nothing."""

    @property
    def jitter_seconds(self) -> float:
        """The number of seconds by which requests may move closer together on their way."""
        return _JITTER_ROUND_TRIPS * self.mean_seconds

    @property
    def overtaking_seconds(self) -> float:
        """The number of seconds by which a request may overtake another."""
        return _OVERTAKING_ROUND_TRIPS * self.mean_seconds

    @property
    def response_seconds(self) -> float:
        """Seconds after which the requests that are in flight now have responses."""
        return _RESPONSE_ROUND_TRIPS * self.mean_seconds

    @property
    def refill_jitter_seconds(self) -> float:
        """The part of `compute_refill_seconds` that doesn't depend on the rate."""
        return _REFILL_ROUND_TRIPS * self.mean_seconds

    def compute_refill_seconds(self, rate: float) -> float:
        """Return the seconds until an empty bucket holds a few tokens again."""
        return _REFILL_TOKENS / rate + self.refill_jitter_seconds

    def record(self, seconds: float) -> None:
        """Record the time that a response took."""
        step = _ROUND_TRIP_WEIGHT * (max(0.0, seconds) - self.mean_seconds)
        self.mean_seconds += min(step, _ROUND_TRIP_WEIGHT * self.mean_seconds + _ROUND_TRIP_GROWTH_SECONDS)

    def record_hold(self, seconds: float, rate: float) -> None:
        """Record the hold of a 429. A hold shorter than the wait that follows anyway costs nothing."""
        self.hold_seconds = seconds if seconds > self.compute_refill_seconds(rate) else 0.0
