"""The protocol between a bulk job and the store that records it, usually a ledger.

The store hands out the items that are left, and records the outcome of each.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

import attrs

from ..http.clock import Moment
from .results import Decided, ItemT, Outcome

ItemT_co = TypeVar("ItemT_co", covariant=True)


@attrs.frozen
class Undertaking:
    """What must be equal when a job is resumed.

    Attributes:
        operation: `delete`, `update` or `create`.
        by: The type of the IDs.
        base_url: The server.
        key_fingerprint: Distinguishes API keys and reveals nothing else about them.
        repeatable: Whether an item may be sent again no matter how long ago it was first sent.
    """

    operation: str
    by: str
    base_url: str
    key_fingerprint: str
    repeatable: bool


@attrs.frozen(repr=False)
class Source(Generic[ItemT]):
    """The items of a job and the functions that identify them.

    Attributes:
        items: The input.
        name: Returns the ID of an item's profile. Never raises.
        content: Returns everything that identifies an item, as text. Never raises.
    """

    items: Iterable[ItemT | Decided[ItemT]] | AsyncIterable[ItemT | Decided[ItemT]]
    name: Callable[[ItemT], str]
    content: Callable[[ItemT], str]


Entry: TypeAlias = tuple[int, ItemT | Decided[ItemT], Moment | None]
"""An item that is left: its position, the item, and when an earlier run may have sent it.

The time is None if no run sent the item. Otherwise the result of that request is unknown. ANY_TIME means that the item
may be sent again no matter how long ago that was. An item with such a time that is now skipped is `in_doubt`, because
it may have been sent. This is a tuple and not a class because one is created for each item of every job.
"""


class Entries(Protocol[ItemT_co]):
    """One run of a job, as its store sees it: a context manager and an iterator over the items to send.

    An error that it raises ends the job after the requests in flight are complete.
    """

    @property
    def uncommitted(self) -> Mapping[Outcome, int]:
        """The number of items, by outcome, whose outcome would be lost in a crash."""
        ...

    def ready(self) -> Entry[ItemT_co] | None:
        """Return the next entry if it is available without waiting, else None."""
        ...

    def left(self) -> None:
        """Record that a request for an entry is about to be sent, or that none will ever be."""
        ...

    def settle(
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

    def watch(self, failed: Callable[[Exception], object]) -> None:
        """Call `failed` once if recorded data can't be written.

        This ends the job after the requests in flight are complete.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Entry[ItemT_co]]: ...

    async def __anext__(self) -> Entry[ItemT_co]: ...


class Journal(Protocol):
    """A store that keeps a job across processes. `adapty_async.ledger.Ledger` is one."""

    def entries(self, undertaking: Undertaking, source: Source[ItemT]) -> Entries[ItemT]:
        """Start the first run of the job, or the next one."""
        ...
