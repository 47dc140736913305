"""The reader of a job's input. It returns the available items of a slow input, and all items before an error."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_YIELD_INTERVAL: Final = 0.005
_ITEMS_PER_CLOCK_CHECK: Final = 8
"""Items to read between two looks at the clock."""


class LoopYielder:
    """Lets the event loop run from time to time during work that doesn't wait."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._yield_at = 0.0

    async def yield_if_due(self) -> None:
        """Yield to the event loop if it hasn't run for a while."""
        if self._loop.time() >= self._yield_at:
            await asyncio.sleep(0)
            self._yield_at = self._loop.time() + _YIELD_INTERVAL


class InputReader(Generic[T]):
    """Reads an input, no further than requested.

    An error of the input is raised after all items before it were returned. `has_ended` is True when all items were
    returned.
    """

    def __init__(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        self._async_items = aiter(items) if isinstance(items, AsyncIterable) else None
        self._sync_items = None if isinstance(items, AsyncIterable) else iter(items)
        self._loop = asyncio.get_running_loop()
        self._yielder = LoopYielder()
        self._items: list[T] = []  # read and not yet returned
        self._min_items = 0
        self._min_waiter: asyncio.Future[None] | None = None  # for a caller that waits for `_min_items` items
        self._fill_task: asyncio.Task[None] | None = None  # reads an async input; cancelling it would end a generator
        self._is_exhausted = False
        self._error: BaseException | None = None

    @property
    def has_ended(self) -> bool:
        """Whether all items were returned."""
        return self._is_exhausted and not self._items

    async def read(self, max_items: int, min_items: int, *, deadline: float, wait_for_min: bool) -> list[T]:
        """Return the next `max_items` items, or fewer if the input ends, fails or is slow.

        Of an input that is slow at `deadline`, on the loop's clock, the available items are returned if there are
        `min_items` of them. If there are fewer, a `wait_for_min` caller waits for them or gets the error of the input.
        Other callers get an empty list.
        """
        if self._fill_task is not None and self._fill_task.done():
            self._on_filled(self._fill_task)
        if not self._is_exhausted and self._error is None:
            if self._sync_items is not None:
                await self._fill_sync(
                    self._sync_items, max_items - len(self._items), min_items, deadline, wait_for_min=wait_for_min
                )
            if self._async_items is not None:
                await self._fill_async(
                    self._async_items, max_items - len(self._items), min_items, deadline, wait_for_min=wait_for_min
                )
        if len(self._items) < min_items and not self._is_exhausted:
            if self._error is not None and wait_for_min:
                raise self._error
            return []
        items, self._items = self._items, []
        return items

    async def close(self) -> None:
        """Stop reading."""
        if self._fill_task is not None:
            self._fill_task.cancel()
            await asyncio.wait([self._fill_task])

    async def _fill_sync(
        self, source: Iterator[T], max_items: int, min_items: int, deadline: float, *, wait_for_min: bool
    ) -> None:
        """Read an input that doesn't wait."""
        items, end = self._items, len(self._items) + max_items
        try:
            while len(items) < end:
                count = min(_ITEMS_PER_CLOCK_CHECK, end - len(items))
                before = len(items)
                items.extend(itertools.islice(source, count))
                if len(items) < before + count:
                    self._is_exhausted = True
                    return
                await self._yielder.yield_if_due()
                if self._loop.time() >= deadline and (len(items) >= min_items or not wait_for_min):
                    return
        except Exception as error:  # noqa: BLE001 - of the caller's code: raised after the items before it
            self._error = error

    async def _fill_async(
        self, source: AsyncIterator[T], max_items: int, min_items: int, deadline: float, *, wait_for_min: bool
    ) -> None:
        """Start reading if necessary, and wait until there are enough items."""
        fill_task = self._fill_task
        if fill_task is None:
            fill_task = self._fill_task = self._loop.create_task(self._read_async_items(source, max_items))
            fill_task.add_done_callback(self._on_filled)
        await asyncio.wait([fill_task], timeout=max(0.0, deadline - self._loop.time()))
        if wait_for_min and not fill_task.done() and len(self._items) < min_items:
            self._min_items, self._min_waiter = min_items, self._loop.create_future()
            await asyncio.wait([fill_task, self._min_waiter], return_when=asyncio.FIRST_COMPLETED)
            self._min_waiter = None
        if fill_task.done():  # its callback may not have run yet
            self._on_filled(fill_task)

    def _on_filled(self, fill_task: "asyncio.Task[None]") -> None:
        """Record how reading ended. Repeated calls have no effect."""
        if fill_task is self._fill_task:
            self._fill_task = None
        if fill_task.cancelled():  # something that the input awaited was cancelled
            self._error = self._error or asyncio.CancelledError()
        else:
            self._error = self._error or fill_task.exception()

    async def _read_async_items(self, source: AsyncIterator[T], max_items: int) -> None:
        try:
            for _ in range(max_items):
                item = await anext(source)
                self._items.append(item)  # not a local name: `read` replaces the list
                if self._min_waiter is not None and len(self._items) >= self._min_items and not self._min_waiter.done():
                    self._min_waiter.set_result(None)
        except StopAsyncIteration:
            self._is_exhausted = True
