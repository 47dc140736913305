"""What a mass job asks of a journal: to be told which items are still to be done, and to tell what became of them."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

import attrs

from ..clock import Moment
from .results import Decided, ItemT, Outcome

ItemT_co = TypeVar("ItemT_co", covariant=True)


@attrs.frozen
class Undertaking:
    """What a job does, to whom: what must be the same when it goes on.

    `operation`: delete, update or create. `key_fingerprint` tells one API key from another, and no more. `repeatable`:
    an item may be sent again however long ago it was sent first.
    """

    operation: str
    by: str
    base_url: str
    key_fingerprint: str
    repeatable: bool


@attrs.frozen(repr=False)
class Source(Generic[ItemT]):
    """The items of a job, and how to tell them apart.

    `name`: the id of an item's profile. `content`: all that makes an item what it is. Neither raises.
    """

    items: Iterable[ItemT | Decided[ItemT]] | AsyncIterable[ItemT | Decided[ItemT]]
    name: Callable[[ItemT], str]
    content: Callable[[ItemT], str]


Entry: TypeAlias = tuple[int, ItemT | Decided[ItemT], Moment | None]
"""An item that is to be done: its position, itself, and when an earlier run may have sent it, None where none did.

Nobody knows what came of such a request. ANY_TIME: the item may be sent again, however long ago that was. An item that
is Decided by now is `in_doubt`: that it wasn't sent is more than anybody knows. No class, for one is made for each item
of every job.
"""


class Entries(Protocol[ItemT_co]):
    """One run of a job, as its journal sees it: opened and left as a context, iterated over for what is to be sent.

    Whatever it raises ends the job, after what is under way.
    """

    @property
    def uncommitted(self) -> Mapping[Outcome, int]:
        """How many items have an outcome that a crash would still lose."""
        ...

    def ready(self) -> Entry[ItemT_co] | None:
        """Give the next entry, where that needs no waiting."""
        ...

    def left(self) -> None:
        """Take note that a request leaves for an entry, or that none ever will."""
        ...

    def settle(
        self, position: int, outcome: Outcome, *, status: int | None, attempts: int, exclude_list: str | None = None
    ) -> None:
        """Take down an outcome. `status`: of the last answer, None where there was none. `attempts`: of this run.

        `exclude_list`: the name of the list that excludes the item.
        """
        ...

    def release(self, position: int) -> None:
        """Take down that an item was handed out, but never sent by any run."""
        ...

    def watch(self, failed: Callable[[Exception], object]) -> None:
        """Call `failed`, once, where what was taken down can't be written: it ends the job, after what is under way."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Entry[ItemT_co]]: ...

    async def __anext__(self) -> Entry[ItemT_co]: ...


class Journal(Protocol):
    """What remembers a job over the end of its process; `adapty_async.ledger.Ledger` is one."""

    def entries(self, undertaking: Undertaking, source: Source[ItemT]) -> Entries[ItemT]:
        """Begin a run of the job, or go on where an earlier one ended."""
        ...
