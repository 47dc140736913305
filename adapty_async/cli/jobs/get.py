"""The command `get`: export the profiles of a file's IDs to standard output, as one JSON object per row."""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from ... import bulk
from ...bulk import Outcome, StopRules
from ...bulk.api import By
from ...client import AdaptyClient
from ...errors import AdaptyAPIError
from ...escaping import to_json
from ...models import FrozenMapping, Profile
from ...pacing import Pacer
from ..exit_codes import CommandError, ExitStatus
from ..inputs.allowances import Allowances
from ..inputs.files import STDIN
from ..inputs.ids import Ids, open_ids
from ..inputs.rows import Format, Row
from ..output.screen import PlainScreen, screen_for, summary, tell
from ..output.streams import say
from ..signals import Interrupts, run_event_loop
from .client import client_of_environment
from .outcome_counter import Books
from .pace import Pace
from .preflight import has_terminal, settle_rounded
from .result import Ended, conduct

_RULES: Final = StopRules(failure_share=None)
"""No limit for failed rows: an export reports every row, even if most profiles don't exist."""


@attrs.frozen(kw_only=True)
class Wanted:
    """The arguments of the command."""

    file: Path
    by: By
    column: str | None
    format: Format | None
    accept_damaged: bool
    allows: Allowances
    concurrency: int
    timeout: float
    pace: Pace


def get(wanted: Wanted) -> ExitStatus:
    """Export the profiles. Raises CommandError if no request was sent."""
    with contextlib.ExitStack() as stack:
        client = client_of_environment(wanted.timeout)
        ids = stack.enter_context(
            open_ids(
                wanted.file,
                by=wanted.by,
                column=wanted.column,
                accept_damaged=wanted.accept_damaged,
                allow_invisible=wanted.allows.invisible,
                format=wanted.format,
            )
        )
        checked = ids.check()
        settle_rounded(
            ids.name,
            checked.rounded,
            allowed=wanted.allows.rounded,
            may_ask=wanted.file != STDIN and has_terminal(),
        )
        pacer = stack.enter_context(wanted.pace.pacer(client))
        getting = _Getting(client, ids, Books(checked.rows), wanted.concurrency, pacer)
        run_event_loop(getting.run)
        ended = getting.end()
    tell(summary(ended.standing, ended.report), sys.stderr)
    if ended.reason is not None:
        tell(f"\nstopped: {ended.reason}", sys.stderr)
    if ended.is_cut:
        say("interrupted")
    return ended.status


class _Getting:
    """A job that gets profiles and writes a line for each row when its outcome is known."""

    def __init__(self, client: AdaptyClient, ids: Ids, books: Books, concurrency: int, pacer: Pacer) -> None:
        self._client = client
        self._pacer = pacer
        self._books = books
        self._out = _Lines()
        self._rows = enumerate(ids.rows())
        self._under_way: dict[int, tuple[int, Row]] = {}
        self._trouble: CommandError | None = None
        self._job = bulk.get_profiles(
            client, self._to_send(), by=ids.by, concurrency=concurrency, pacer=pacer, stop=_RULES
        )

    async def run(self, interrupts: Interrupts) -> None:
        """Run until all rows are done, a stop rule applies or an interrupt arrives. Raises only CancelledError."""
        # On a terminal that also shows the exported lines, a progress bar would overwrite them.
        screen = PlainScreen(sys.stderr) if sys.stdout.isatty() else screen_for(sys.stderr)
        async with self._client:
            self._trouble = await conduct(
                self._work, self._job.stop, self._books, screen, interrupts, job=self._job, pacer=self._pacer
            )

    def end(self) -> Ended:
        """Write the rows that have no outcome yet. Return how the job ended."""
        is_cut = False
        try:
            for position, row in itertools.chain(self._under_way.values(), self._rows):
                self._write(position, row, row.outcome or Outcome.NOT_ATTEMPTED, row.reason)
        except KeyboardInterrupt:
            is_cut = True
            self._books.enter_unread()
        return Ended(self._books.standing, self._job.report, self._out.close() or self._trouble, is_cut=is_cut)

    async def _to_send(self) -> AsyncIterator[str]:
        sent = itertools.count()
        for position, row in self._rows:
            if row.outcome is None:
                self._under_way[next(sent)] = (position, row)
                yield row.id
            else:
                self._write(position, row, row.outcome, row.reason)
                await asyncio.sleep(0)

    async def _work(self) -> None:
        async with self._job:
            async for result in self._job:
                position, row = self._under_way.pop(result.position)
                status = result.error.status if isinstance(result.error, AdaptyAPIError) else None
                reason = "" if result.error is None else str(result.error)
                self._write(position, row, result.outcome, reason, status, result.value)

    def _write(
        self,
        position: int,
        row: Row,
        outcome: Outcome,
        reason: str = "",
        status: int | None = None,
        profile: Profile | None = None,
    ) -> None:
        self._books.enter(outcome)
        line = {
            "position": position,
            "line": row.line,
            "id": row.id,
            "outcome": outcome,
            "profile": None if profile is None else _as_json(profile),
        }
        if outcome.is_failure:
            line |= {"reason": reason, "status": status}
        self._out.write(to_json(line))
        if self._out.trouble is not None:
            self._job.stop()


class _Lines:
    """Standard output. `trouble`: why writing failed, or None. After a failure, nothing more is written."""

    def __init__(self) -> None:
        self.trouble: CommandError | None = None
        if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (>&-)
            raise CommandError("there is no standard output to write to: send it to a file")

    def write(self, line: str) -> None:
        if self.trouble is None:
            self._do(lambda: print(line))

    def close(self) -> CommandError | None:
        """Flush the output. Return the error, if there was one."""
        if self.trouble is None:
            self._do(sys.stdout.flush)
        return self.trouble

    def _do(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BrokenPipeError:
            self.trouble = CommandError("the reader of standard output has closed it", ExitStatus.INTERRUPTED)
        except OSError as error:
            sentence = f"standard output can't be written ({error.strerror}): make room for it"
            self.trouble = CommandError(sentence, ExitStatus.LEDGER)
        else:
            return
        # The interpreter flushes the rest of the buffer when it exits; that must not fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _as_json(profile: Profile) -> dict[str, Any]:
    return attrs.asdict(profile, value_serializer=_plain)


def _plain(_: object, __: object, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return dict(value) if isinstance(value, FrozenMapping) else value
