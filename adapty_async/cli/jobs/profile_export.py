"""The command `get`: export the profiles of a file's IDs to standard output, as one JSON object per row."""

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import attrs

from ... import bulk
from ...bulk import Outcome, StopRules
from ...client import AdaptyClient
from ...errors import AdaptyAPIError
from ...escaping import dump_json
from ...models import FrozenMapping, Profile
from ...pacing import Pacer
from ..exit_status import CommandError, ExitStatus
from ..inputs.id_input import IdInput, open_id_input
from ..inputs.input_source import STDIN_PATH
from ..inputs.input_types import Row, parse_format
from ..options import GetOptions
from ..output.command_output import echo
from ..output.progress_screen import create_screen, format_summary
from ..output.standard_streams import print_error
from ..signals import InterruptHandler, run_event_loop
from .client_from_env import create_client_from_env
from .confirmation import confirm_rounded_ids, has_terminal
from .job_result import JobResult
from .outcome_counter import OutcomeCounter
from .pace import Pace
from .run import run_job

_STOP_RULES: Final = StopRules(max_failure_ratio=None)
"""No limit for failed rows: an export reports every row, even if most profiles don't exist."""


def export_profiles(get_options: GetOptions) -> ExitStatus:
    """Export the profiles. Raises CommandError if no request was sent."""
    speed_options, allowances = get_options.speed_options, get_options.allowances
    pace = Pace.from_options(speed_options.pace, speed_options.max_rate)
    with contextlib.ExitStack() as stack:
        client = create_client_from_env(speed_options.timeout)
        id_input = stack.enter_context(
            open_id_input(
                get_options.file,
                by=get_options.by.value,
                column=get_options.input_options.column,
                skip_damaged=allowances.damaged,
                allow_invisible=allowances.invisible,
                format=parse_format(get_options.input_options.format),
            )
        )
        input_summary = id_input.check()
        confirm_rounded_ids(
            id_input.name,
            input_summary.rounded_count,
            is_allowed=allowances.rounded,
            can_ask=get_options.file != STDIN_PATH and has_terminal(),
        )
        pacer = stack.enter_context(pace.open_pacer(client))
        outcome_counter = OutcomeCounter(input_summary.row_count)
        get_job = _GetJob(client, id_input, outcome_counter, speed_options.concurrency, pacer)
        run_event_loop(get_job.run)
        result = get_job.finish()
    echo(format_summary(result.outcome_counts, result.report), sys.stderr)
    if result.stop_message is not None:
        echo(f"\nstopped: {result.stop_message}", sys.stderr)
    if result.is_output_truncated:
        print_error("interrupted")
    return result.status


class _GetJob:
    """A job that gets profiles and writes a line for each row when its outcome is known."""

    def __init__(
        self, client: AdaptyClient, id_input: IdInput, outcome_counter: OutcomeCounter, concurrency: int, pacer: Pacer
    ) -> None:
        self._client = client
        self._pacer = pacer
        self._outcome_counter = outcome_counter
        self._writer = _StdoutWriter()
        self._rows = enumerate(id_input.iter_rows())
        self._in_flight: dict[int, tuple[int, Row]] = {}
        self._error: CommandError | None = None
        self._job = bulk.get_profiles(
            client, self._iter_ids_to_send(), by=id_input.by, concurrency=concurrency, pacer=pacer, stop=_STOP_RULES
        )

    async def run(self, interrupt_handler: InterruptHandler) -> None:
        """Run until all rows are done, a stop rule applies or an interrupt arrives. Raises only CancelledError."""
        # On a terminal that also shows the exported lines, a progress bar would overwrite them.
        screen = create_screen(sys.stderr, can_redraw=not sys.stdout.isatty())
        async with self._client:
            self._error = await run_job(
                self._run_job,
                self._job.stop,
                self._outcome_counter,
                screen,
                interrupt_handler,
                job=self._job,
                pacer=self._pacer,
            )

    def finish(self) -> JobResult:
        """Write the rows that have no outcome yet. Return how the job ended."""
        is_truncated = False
        try:
            for position, row in itertools.chain(self._in_flight.values(), self._rows):
                self._write_row(position, row, row.outcome or Outcome.NOT_ATTEMPTED, row.reason)
        except KeyboardInterrupt:
            is_truncated = True
            self._outcome_counter.count_unread()
        return JobResult(
            self._outcome_counter.outcome_counts,
            self._job.report,
            self._writer.close() or self._error,
            is_output_truncated=is_truncated,
        )

    async def _iter_ids_to_send(self) -> AsyncIterator[str]:
        sent = itertools.count()
        for position, row in self._rows:
            if row.outcome is None:
                self._in_flight[next(sent)] = (position, row)
                yield row.id
            else:
                self._write_row(position, row, row.outcome, row.reason)
                await asyncio.sleep(0)

    async def _run_job(self) -> None:
        async with self._job:
            async for result in self._job:
                position, row = self._in_flight.pop(result.position)
                status = result.error.status if isinstance(result.error, AdaptyAPIError) else None
                reason = "" if result.error is None else str(result.error)
                self._write_row(position, row, result.outcome, reason, status, result.value)

    def _write_row(
        self,
        position: int,
        row: Row,
        outcome: Outcome,
        reason: str = "",
        status: int | None = None,
        profile: Profile | None = None,
    ) -> None:
        self._outcome_counter.count(outcome)
        line = {
            "position": position,
            "line": row.line,
            "id": row.id,
            "outcome": outcome,
            "profile": None if profile is None else _convert_profile(profile),
        }
        if outcome.is_failure:
            line |= {"reason": reason, "status": status}
        self._writer.write(dump_json(line))
        if self._writer.error is not None:
            self._job.stop()


class _StdoutWriter:
    """Standard output. `error`: why writing failed, or None. After a failure, nothing more is written."""

    def __init__(self) -> None:
        self.error: CommandError | None = None
        if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed (>&-)
            raise CommandError("there is no standard output to write to: send it to a file")

    def write(self, line: str) -> None:
        if self.error is None:
            self._try_output(lambda: print(line))

    def close(self) -> CommandError | None:
        """Flush the output. Return the error, if there was one."""
        if self.error is None:
            self._try_output(sys.stdout.flush)
        return self.error

    def _try_output(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            self.error = CommandError("the reader of standard output has closed it", ExitStatus.INTERRUPTED)
        except OSError as error:
            message = f"standard output can't be written ({error.strerror}): make room for it"
            self.error = CommandError(message, ExitStatus.LEDGER)
        else:
            return
        # The interpreter flushes the rest of the buffer when it exits; that must not fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _convert_profile(profile: Profile) -> dict[str, Any]:
    return attrs.asdict(profile, value_serializer=_convert_value)


def _convert_value(_: object, __: object, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return dict(value) if isinstance(value, FrozenMapping) else value
