"""The reader of a job's input. It returns the available items of a slow input, and all items before an error."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_BREATH: Final = 0.005
_ITEMS_A_LOOK: Final = 8
"""Items to read between two looks at the clock."""


class Breath:
    """Lets the event loop run from time to time during work that doesn't wait."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = 0.0

    async def draw(self) -> None:
        """Yield to the event loop if it hasn't run for a while."""
        if self._loop.time() >= self._due:
            await asyncio.sleep(0)
            self._due = self._loop.time() + _BREATH


class Feed(Generic[T]):
    """Reads an input, no further than requested.

    An error of the input is raised after all items before it were returned. `ended` is True when all items were
    returned.
    """

    def __init__(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        self._async = aiter(items) if isinstance(items, AsyncIterable) else None
        self._plain = None if isinstance(items, AsyncIterable) else iter(items)
        self._loop = asyncio.get_running_loop()
        self._breath = Breath()
        self._items: list[T] = []  # read and not yet returned
        self._least = 0
        self._enough: asyncio.Future[None] | None = None  # for a caller that waits for `_least` items
        self._filling: asyncio.Task[None] | None = None  # reads an async input; cancelling it would end a generator
        self._is_read = False
        self._error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether all items were returned."""
        return self._is_read and not self._items

    async def read(self, most: int, least: int, *, until: float, patient: bool) -> list[T]:
        """Return the next `most` items, or fewer if the input ends, fails or is slow.

        Of an input that is slow at `until`, on the loop's clock, the available items are returned if there are `least`
        of them. If there are fewer, a `patient` caller waits for them or gets the error of the input. Other callers get
        an empty list.
        """
        if self._filling is not None and self._filling.done():
            self._have_filled(self._filling)
        if not self._is_read and self._error is None:
            if self._plain is not None:
                await self._fill_at_once(self._plain, most - len(self._items), least, until, patient=patient)
            if self._async is not None:
                await self._wait(self._async, most - len(self._items), least, until, patient=patient)
        if len(self._items) < least and not self._is_read:
            if self._error is not None and patient:
                raise self._error
            return []
        items, self._items = self._items, []
        return items

    async def close(self) -> None:
        """Stop reading."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])

    async def _fill_at_once(self, source: Iterator[T], most: int, least: int, until: float, *, patient: bool) -> None:
        """Read an input that doesn't wait."""
        items, end = self._items, len(self._items) + most
        try:
            while len(items) < end:
                asked = min(_ITEMS_A_LOOK, end - len(items))
                before = len(items)
                items.extend(itertools.islice(source, asked))
                if len(items) < before + asked:
                    self._is_read = True
                    return
                await self._breath.draw()
                if self._loop.time() >= until and (len(items) >= least or not patient):
                    return
        except Exception as error:  # noqa: BLE001 - of the caller's code: raised after the items before it
            self._error = error

    async def _wait(self, source: AsyncIterator[T], most: int, least: int, until: float, *, patient: bool) -> None:
        """Start reading if necessary, and wait until there are enough items."""
        filling = self._filling
        if filling is None:
            filling = self._filling = self._loop.create_task(self._fill(source, most))
            filling.add_done_callback(self._have_filled)
        await asyncio.wait([filling], timeout=max(0.0, until - self._loop.time()))
        if patient and not filling.done() and len(self._items) < least:
            self._least, self._enough = least, self._loop.create_future()
            await asyncio.wait([filling, self._enough], return_when=asyncio.FIRST_COMPLETED)
            self._enough = None
        if filling.done():  # its callback may not have run yet
            self._have_filled(filling)

    def _have_filled(self, filling: "asyncio.Task[None]") -> None:
        """Record how reading ended. Repeated calls have no effect."""
        if filling is self._filling:
            self._filling = None
        if filling.cancelled():  # something that the input awaited was cancelled
            self._error = self._error or asyncio.CancelledError()
        else:
            self._error = self._error or filling.exception()

    async def _fill(self, source: AsyncIterator[T], most: int) -> None:
        try:
            for _ in range(most):
                item = await anext(source)
                self._items.append(item)  # not a local name: `read` replaces the list
                if self._enough is not None and len(self._items) >= self._least and not self._enough.done():
                    self._enough.set_result(None)
        except StopAsyncIteration:
            self._is_read = True
