"""The thread that commits a ledger session, so that the event loop never waits for the disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .session_state import SessionState

T = TypeVar("T")


async def wait_through_cancellation(future: "asyncio.Future[T]") -> T:
    """Wait for work that is done soon, even if the caller is cancelled. Then raise the cancellation."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # retrieved, so that asyncio doesn't log it
        raise cancelled
    return future.result()


class CommitThread:
    """Makes one commit at a time and reads between commits. Changes made during a commit go into the next one.

    If a commit fails, all of its callers get the error. The next commit tries to write the same changes too.
    """

    def __init__(self, open_session_state: Callable[[], SessionState]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open_session_state = open_session_state
        self._thread = ThreadPoolExecutor(1, "adapty_async ledger writer")
        self._current: asyncio.Future[None] | None = None  # for the callers of the current commit
        self._next: asyncio.Future[None] | None = None  # for the callers of the next one

    async def start(self) -> SessionState:
        """Open the ledger session. Raise LedgerError."""
        opening = self._loop.run_in_executor(self._thread, self._open_session_state)
        try:
            self._session_state = await wait_through_cancellation(opening)
        except BaseException:  # also on cancellation: the thread and an opened session would remain
            if not opening.cancelled() and opening.exception() is None:
                opening.result().close()
            self._thread.shutdown()
            raise
        return self._session_state

    def run_between_commits(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """Run a function that reads from the disk, between two commits."""
        return self._loop.run_in_executor(self._thread, function)

    def commit(self) -> "asyncio.Future[None]":
        """Return a future that is done when all present changes are on the disk. It fails with LedgerError."""
        future = self._next
        if future is None:
            future = self._next = self._loop.create_future()
        if self._current is None:
            self._start_commit()
        return future

    async def close(self) -> None:
        """Commit the remaining changes, close the ledger session and end the thread. Raise LedgerError."""
        try:
            await wait_through_cancellation(self.commit())
        finally:
            await wait_through_cancellation(self._loop.run_in_executor(self._thread, self._session_state.close))
            self._thread.shutdown()

    def _start_commit(self) -> None:
        future, self._next = self._next, None
        assert future is not None
        commit_data = self._session_state.prepare_commit()
        if commit_data is None:
            future.set_result(None)
            return
        self._current = future
        writes = self._loop.run_in_executor(self._thread, self._session_state.write, commit_data)
        writes.add_done_callback(self._on_written)

    def _on_written(self, writes: "asyncio.Future[None]") -> None:
        future, self._current = self._current, None
        assert future is not None
        error = writes.exception()
        if error is None:
            self._session_state.on_committed()
            future.set_result(None)
        else:
            self._session_state.on_commit_failed()
            future.set_exception(error)
            future.exception()  # retrieved, so that asyncio doesn't log it if no caller awaits it
        if self._next is not None:
            self._start_commit()
