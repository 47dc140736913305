"""Results of a bulk job: the result of each item, and the report."""

import bisect
import itertools
import math
from collections import Counter, deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import attrs

from ..errors import BulkFailedError
from .outcomes import Outcome
from .stop_rules import StopReason

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")


@attrs.frozen(repr=False)
class ItemResult(Generic[ItemT, ValueT]):
    """The result of one item.

    Attributes:
        position: The index of the item in the input, from 0.
        item: The item itself.
        outcome: Its final state.
        value: What the operation returned, if anything.
        error: The error that led to the outcome, if any.
        attempts: Requests sent for the item.
        elapsed: Seconds from the time the item was taken from the input to its result.
    """

    position: int
    item: ItemT
    outcome: Outcome
    value: ValueT | None
    error: Exception | None
    attempts: int
    elapsed: float

    def __repr__(self) -> str:
        error = f", {type(self.error).__name__}" if self.error else ""
        return f"<ItemResult {self.position}: {self.outcome}{error}>"


_SKIP_OUTCOMES: Final = frozenset({Outcome.DUPLICATE, Outcome.EXCLUDED, Outcome.INVALID})


@attrs.frozen(repr=False)
class SkippedItem(Generic[ItemT]):
    """An item whose outcome is known without sending a request.

    It keeps its position in the input and gets a result. The stop rules ignore such items: the code that skipped them
    can stop the job itself.

    Attributes:
        item: The item itself.
        outcome: `duplicate`, `excluded` or `invalid`.
        error: The reason, if there is one.
        exclude_list: The name of the list that excludes the item. The ledger stores it.

    Raises:
        ValueError: If the outcome isn't one of these three, or `exclude_list` is set for another outcome than
            `excluded`.
    """

    item: ItemT
    outcome: Outcome = attrs.field(validator=attrs.validators.in_(_SKIP_OUTCOMES))
    error: Exception | None = None
    exclude_list: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.exclude_list is not None and self.outcome is not Outcome.EXCLUDED:
            raise ValueError(f"exclude_list requires the outcome excluded, not {self.outcome}")


@attrs.frozen
class Latency:
    """Latency of the requests that got a response, in seconds. The quantiles are accurate to 3%."""

    p50: float
    p90: float
    p99: float
    max: float


@attrs.frozen(kw_only=True)
class BulkReport:
    """The progress of a job, or its final state.

    Attributes:
        counts: The number of items by outcome.
        failures: The first ten and the last ten failures.
        started: When the job started. None if it hasn't.
        finished: When the job ended. None while it runs.
        requests: Requests that are complete, with or without a response.
        retries: The retries among `requests`.
        throttled: The requests that were answered with 429.
        in_flight: Requests in flight. They aren't counted in `requests` yet.
        awaiting_retry: Items without an outcome that wait for another attempt.
        rate: Requests per second, on average since the start.
        latency: Quantiles of the latency. None before the first response.
        stop_reason: Why the job ended before its input did. None if it didn't.
        input_exhausted: Whether every item of the input was read.
    """

    counts: Mapping[Outcome, int]
    failures: tuple[ItemResult[Any, Any], ...]
    started: datetime | None
    finished: datetime | None
    requests: int
    retries: int
    throttled: int
    in_flight: int = 0
    awaiting_retry: int = 0
    rate: float
    latency: Latency | None
    stop_reason: StopReason | None
    input_exhausted: bool

    @property
    def total(self) -> int:
        """The number of items with an outcome."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """The number of items whose outcome is a failure."""
        return sum(count for outcome, count in self.counts.items() if outcome.is_failure)

    def raise_for_failures(self) -> None:
        """Check that no item failed and that the job wasn't stopped.

        Raises:
            BulkFailedError: If an item failed or the job was stopped.
        """
        if not self.failed and self.stop_reason is None:
            return
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items() if outcome.is_failure)
        stop_text = f"; stopped: {self.stop_reason}" if self.stop_reason else ""
        raise BulkFailedError(
            f"{self.failed} of {self.total} items failed{f' ({counts})' if counts else ''}{stop_text}",
            report=self,
            attempts=self.requests,
            maybe_executed=self.counts.get(Outcome.IN_DOUBT, 0) > 0,
        )


class JobStats:
    """Count the events of a job in constant memory."""

    def __init__(self) -> None:
        self.counts: Counter[Outcome] = Counter()
        self.skipped_counts: Counter[Outcome] = Counter()  # the part of `counts` that was skipped
        self.sample_size = 0  # without skipped items
        self.requests = self.retries = self.throttled = self.in_flight = 0
        self._first: list[ItemResult[Any, Any]] = []
        self._last: deque[ItemResult[Any, Any]] = deque(maxlen=_MAX_KEPT_FAILURES)
        self._latency = _Histogram()
        self._loop_start = 0.0
        self._loop_end: float | None = None
        self._started: datetime | None = None
        self._finished: datetime | None = None

    @property
    def sample_counts(self) -> Counter[Outcome]:
        """The items whose outcomes the stop rules judge."""
        return self.counts - self.skipped_counts if self.skipped_counts else self.counts

    def start(self, now: float) -> None:
        """Record when the job starts."""
        self._loop_start = now
        self._started = datetime.now(UTC)

    def record_request(self, attempt_number: int, latency: float | None) -> None:
        """Count one request.

        `attempt_number` is the number of the item's attempt, from 1. `latency` is None if the request got no response.
        """
        self.requests += 1
        if attempt_number > 1:
            self.retries += 1
        if latency is not None:
            new = self._latency.unsorted
            new.append(latency)
            if len(new) == _BATCH_SIZE:
                self._latency.flush()

    def keep_failure(self, failure: ItemResult[Any, Any]) -> None:
        """Keep a failure for the report if it is one of the first or the last."""
        (self._first if len(self._first) < _MAX_KEPT_FAILURES else self._last).append(failure)

    def finish(self, now: float) -> None:
        """Record when the job ends."""
        self._loop_end = now
        self._finished = datetime.now(UTC)

    def build_report(
        self,
        now: float,
        *,
        uncommitted_counts: Mapping[Outcome, int],
        stop_reason: StopReason | None,
        input_exhausted: bool,
        awaiting_retry: int = 0,
    ) -> BulkReport:
        """Return a report without the outcomes that aren't committed yet."""
        seconds = (now if self._loop_end is None else self._loop_end) - self._loop_start
        return BulkReport(
            counts=self.counts - Counter(uncommitted_counts),
            failures=(*self._first, *self._last),
            started=self._started,
            finished=self._finished,
            requests=self.requests,
            retries=self.retries,
            throttled=self.throttled,
            in_flight=self.in_flight,
            awaiting_retry=awaiting_retry,
            rate=self.requests / seconds if seconds > 0 else 0.0,
            latency=self._latency.compute_quantiles(),
            stop_reason=stop_reason,
            input_exhausted=input_exhausted,
        )


_MAX_KEPT_FAILURES: Final = 10
_LOG_BUCKET_GROWTH: Final = math.log(1.05)
_MIN_LATENCY: Final = 1e-6
_BATCH_SIZE: Final = 1000


class _Histogram:
    """Latencies in buckets that grow by 5%. Quantiles are accurate to half of that, in constant memory.

    New values are sorted into the buckets in batches. This takes one step per bucket instead of one per value.
    """

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._max = 0.0
        self.unsorted: list[float] = []

    def flush(self) -> None:
        """Sort the new values into the buckets."""
        new, begin = sorted(self.unsorted), 0
        self.unsorted.clear()
        self._max = max([self._max, *new[-1:]])
        while begin < len(new):
            bucket = int(math.log(new[begin] / _MIN_LATENCY) / _LOG_BUCKET_GROWTH) if new[begin] > _MIN_LATENCY else 0
            end = bisect.bisect_left(new, _MIN_LATENCY * math.exp((bucket + 1) * _LOG_BUCKET_GROWTH), begin + 1)
            self._buckets[bucket] += end - begin
            begin = end

    def compute_quantiles(self) -> Latency | None:
        self.flush()
        if not self._buckets:
            return None
        return Latency(
            self._compute_quantile(0.5), self._compute_quantile(0.9), self._compute_quantile(0.99), self._max
        )

    def _compute_quantile(self, quantile: float) -> float:
        wanted = quantile * self._buckets.total()
        buckets = sorted(self._buckets)
        ranks = itertools.accumulate(self._buckets[bucket] for bucket in buckets)
        bucket = next(bucket for bucket, rank in zip(buckets, ranks, strict=True) if rank >= wanted)
        return min(_MIN_LATENCY * math.exp((bucket + 0.5) * _LOG_BUCKET_GROWTH), self._max)
