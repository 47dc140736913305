"""The protocol between a bulk job and the store that records it, usually a ledger.

The store hands out the items that are left, and records the outcome of each.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

import attrs

from ..http.clocks import Moment
from .outcomes import Outcome
from .results import ItemT, SkippedItem

ItemT_co = TypeVar("ItemT_co", covariant=True)


@attrs.frozen
class JobSpec:
    """What must be equal when a job is resumed.

    Attributes:
        operation: The name of the operation, such as `delete`.
        by: The type of the IDs.
        base_url: The server.
        key_fingerprint: Distinguishes API keys and reveals nothing else about them.
        is_repeatable: Whether an item may be sent again no matter how long ago it was first sent.
    """

    operation: str
    by: str
    base_url: str
    key_fingerprint: str
    is_repeatable: bool


@attrs.frozen(repr=False)
class Source(Generic[ItemT]):
    """The items of a job and the functions that identify them.

    Attributes:
        items: The input.
        get_id: Returns the ID of an item's profile. Never raises.
        get_content: Returns everything that identifies an item, as text. Never raises.
    """

    items: Iterable[ItemT | SkippedItem[ItemT]] | AsyncIterable[ItemT | SkippedItem[ItemT]]
    get_id: Callable[[ItemT], str]
    get_content: Callable[[ItemT], str]


RemainingItem: TypeAlias = tuple[int, ItemT | SkippedItem[ItemT], Moment | None]
"""An item that is left: its position, the item, and when an earlier run may have sent it.

The time is None if no run sent the item. Otherwise the result of that request is unknown. ANY_TIME means that the item
may be sent again no matter how long ago that was. An item with such a time that is now skipped is `in_doubt`, because
it may have been sent. This is a tuple and not a class because one is created for each item of every job.
"""


class JobSession(Protocol[ItemT_co]):
    """One run of a job, as its store sees it: a context manager and an iterator over the items to send.

    An error that it raises ends the job after the requests in flight are complete.
    """

    @property
    def uncommitted_counts(self) -> Mapping[Outcome, int]:
        """The number of items, by outcome, whose outcome would be lost in a crash."""
        ...

    def next_nowait(self) -> RemainingItem[ItemT_co] | None:
        """Return the next entry if it is available without waiting, else None."""
        ...

    def decrement_unsent(self) -> None:
        """Subtract 1 from the items handed out but not sent: a request is about to be sent, or never will be."""
        ...

    def record_outcome(
        self, position: int, outcome: Outcome, *, status: int | None, attempts: int, exclude_list: str | None = None
    ) -> None:
        """Record an outcome.

        Args:
            position: The position of the item.
            outcome: Its final state.
            status: The status of the last response. None if there was none.
            attempts: The number of attempts in this run.
            exclude_list: The name of the list that excludes the item.
        """
        ...

    def release(self, position: int) -> None:
        """Record that an item was handed out but never sent in any run."""
        ...

    def set_write_error_callback(self, on_write_error: Callable[[Exception], object]) -> None:
        """Call `on_write_error` once if recorded data can't be written.

        This ends the job after the requests in flight are complete.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[RemainingItem[ItemT_co]]: ...

    async def __anext__(self) -> RemainingItem[ItemT_co]: ...


class JobStore(Protocol):
    """A store that keeps a job across processes. `adapty_async.ledger.Ledger` is one."""

    def start_run(self, job_spec: JobSpec, source: Source[ItemT]) -> JobSession[ItemT]:
        """Start the first run of the job, or the next one."""
        ...
