"""The input of a job on its way into chunks: as much as there is of a slow one, and what came before its failure."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_BREATH: Final = 0.005
_ITEMS_A_LOOK: Final = 8
"""So many items are read between two looks at the clock."""


class Breath:
    """Let the loop run now and then, in work that waits for nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due = 0.0

    async def draw(self) -> None:
        """Let the loop run, if it hasn't for a while."""
        if self._loop.time() >= self._due:
            await asyncio.sleep(0)
            self._due = self._loop.time() + _BREATH


class Feed(Generic[T]):
    """Read an input, no further than it is asked for.

    What it raises is raised when all that came before was given. `ended`: all of it was given.
    """

    def __init__(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        self._async = aiter(items) if isinstance(items, AsyncIterable) else None
        self._plain = None if isinstance(items, AsyncIterable) else iter(items)
        self._loop = asyncio.get_running_loop()
        self._breath = Breath()
        self._items: list[T] = []  # read, and not given yet
        self._least = 0
        self._enough: asyncio.Future[None] | None = None  # for who waits for so many
        self._filling: asyncio.Task[None] | None = None  # of an async input: to stop it would end a generator
        self._is_read = False
        self._error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is left of it."""
        return self._is_read and not self._items

    async def read(self, most: int, least: int, *, until: float, patient: bool) -> list[T]:
        """Give the next `most` items; fewer where the input ends or fails, or `least` where it is slow.

        `until`: when it is slow, on the loop's clock. Who is `patient` waits on where it hasn't given `least` by then,
        and is raised whatever the input does; who isn't gets nothing.
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
        """Read no more."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])

    async def _fill_at_once(self, source: Iterator[T], most: int, least: int, until: float, *, patient: bool) -> None:
        """Read what needs no waiting."""
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
        except Exception as error:  # noqa: BLE001 - of the caller's code: it is raised when its turn comes
            self._error = error

    async def _wait(self, source: AsyncIterator[T], most: int, least: int, until: float, *, patient: bool) -> None:
        """See to it that it is read, and wait until it is enough."""
        filling = self._filling
        if filling is None:
            filling = self._filling = self._loop.create_task(self._fill(source, most))
            filling.add_done_callback(self._have_filled)
        await asyncio.wait([filling], timeout=max(0.0, until - self._loop.time()))
        if patient and not filling.done() and len(self._items) < least:
            self._least, self._enough = least, self._loop.create_future()
            await asyncio.wait([filling, self._enough], return_when=asyncio.FIRST_COMPLETED)
            self._enough = None
        if filling.done():  # it may be so by now, and its callback be still to come
            self._have_filled(filling)

    def _have_filled(self, filling: "asyncio.Task[None]") -> None:
        """Take note of what ended the reading; again, harmlessly."""
        if filling is self._filling:
            self._filling = None
        if filling.cancelled():  # what the input waited for was
            self._error = self._error or asyncio.CancelledError()
        else:
            self._error = self._error or filling.exception()

    async def _fill(self, source: AsyncIterator[T], most: int) -> None:
        try:
            for _ in range(most):
                item = await anext(source)
                self._items.append(item)  # what was read meanwhile may have been given, and this be another list
                if self._enough is not None and len(self._items) >= self._least and not self._enough.done():
                    self._enough.set_result(None)
        except StopAsyncIteration:
            self._is_read = True
