"""One mass deletion: rows into the job, outcomes into the books."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Final

import attrs

from .. import bulk
from ..bulk import BulkReport, Outcome, StopReason
from ..client import AdaptyClient
from ..pacing import Pacer
from .books import Books, Standing
from .exits import CommandError, ExitStatus, as_bug
from .inputs import Ids, Row
from .interrupts import Interrupts
from .screen import Screen, saying, showing

_STATUSES: Final = {
    StopReason.CREDENTIALS: ExitStatus.CREDENTIALS,
    StopReason.PERMISSION: ExitStatus.CREDENTIALS,
    StopReason.REQUESTED: ExitStatus.INTERRUPTED,
}

_REASONS: Final = {
    StopReason.MAX_FAILURES: "too many of the rows failed: find out why before you go on",
    StopReason.FAILURE_SHARE: "too many of the rows failed: find out why before you go on",
    StopReason.ABSENT_SHARE: "Adapty doesn't know most of these ids: check the key's app, --by and --column",
    StopReason.OUTAGE: "Adapty has answered nothing but errors for too long: go on later",
    StopReason.THROTTLED_FOR: "Adapty has throttled everything for too long: go on later, or with a lower --max-rate",
    StopReason.CREDENTIALS: "Adapty doesn't accept the key (401): set ADAPTY_API_KEY to the secret key of the app",
    StopReason.PERMISSION: "the key may not delete profiles (403): set ADAPTY_API_KEY to the secret key of the app",
    StopReason.REQUESTED: "by Ctrl-C or SIGTERM",
}


@attrs.frozen
class Ended:
    """How a deletion ended. `trouble`: what stopped it on our side."""

    standing: Standing
    report: BulkReport
    trouble: CommandError | None

    @property
    def status(self) -> ExitStatus:
        """The exit status: the first that applies."""
        stopped = self.report.stopped
        if stopped is not None and _STATUSES.get(stopped) is ExitStatus.CREDENTIALS:
            return ExitStatus.CREDENTIALS
        if self.trouble is not None:
            return self.trouble.status
        if stopped is not None:
            return _STATUSES.get(stopped, ExitStatus.STOPPED)
        return ExitStatus.FAILED if self.standing.failed else ExitStatus.DONE

    @property
    def reason(self) -> str | None:
        """Why it was stopped, and what to do."""
        if self.trouble is not None:
            return str(self.trouble)
        stopped = self.report.stopped
        return None if stopped is None else f"{stopped}: {_REASONS[stopped]}"


class Deletion:
    """Delete the profiles of `ids`, and enter what becomes of every row: first `run`, then `end`."""

    def __init__(
        self, client: AdaptyClient, ids: Ids, books: Books, *, concurrency: int = 100, pacer: Pacer | None = None
    ) -> None:
        self._books = books
        self._rows = ids.rows()
        self._under_way: dict[int, Row] = {}
        self._trouble: CommandError | None = None
        self._job = bulk.delete_profiles(client, self._to_send(), by=ids.by, concurrency=concurrency, pacer=pacer)

    async def run(self, screen: Screen, interrupts: Interrupts) -> None:
        """Run until the rows are done, a rule stops it, or an interrupt. Raises a cancellation, nothing else."""

        def stop() -> None:
            self._job.stop()
            screen.say("Stopping: what is under way comes to its end, in 30 seconds at most. Once more: at once.")

        async with showing(self._books, screen):
            with saying(screen), interrupts.first_to(stop):
                try:
                    await self._run()
                except CommandError as error:
                    self._trouble = error
                except Exception as error:  # noqa: BLE001 - what was sent before must be summed up nevertheless
                    self._trouble = as_bug(error)
                except asyncio.CancelledError:
                    if not interrupts.aborted:
                        raise
                    interrupts.go_on()

    def end(self) -> Ended:
        """Enter the rows that have no outcome yet, and tell how it ended."""
        for row in self._under_way.values():
            self._books.enter(row, Outcome.IN_DOUBT, "aborted while its request was under way")
        try:
            for row in self._rows:
                self._books.enter(row, row.outcome or Outcome.NOT_ATTEMPTED, row.reason)
        except CommandError as error:
            self._trouble = error
        self._books.enter_unread()
        return Ended(self._books.standing, self._job.report, self._trouble or self._books.trouble)

    async def _to_send(self) -> AsyncIterator[str]:
        position = itertools.count()
        for row in self._rows:
            if row.outcome is None:
                self._under_way[next(position)] = row
                yield row.id
            else:
                self._enter(row, row.outcome, row.reason)
                await asyncio.sleep(0)  # a million duplicates in a row must not hold the requests under way

    async def _run(self) -> None:
        async with self._job:
            async for result in self._job:
                row = self._under_way.pop(result.position)
                self._enter(row, result.outcome, str(result.error or ""))

    def _enter(self, row: Row, outcome: Outcome, reason: str) -> None:
        self._books.enter(row, outcome, reason)
        if self._books.trouble is not None:
            self._job.stop()
