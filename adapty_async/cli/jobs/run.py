"""Run a bulk job: show its progress, handle signals, and return the error that ended it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ...bulk import BulkJob
from ...pacing import Pacer
from ..exit_status import CommandError
from ..output.command_output import build_internal_error, get_output
from ..output.progress import LiveStatus, ProgressSource
from ..output.progress_screen import Screen, show_log_messages, show_progress
from ..signals import InterruptHandler

logger: Final = logging.getLogger("adapty_async")


def build_live_status(
    progress_source: ProgressSource, job: BulkJob[Any, Any] | None, pacer: Pacer | None
) -> LiveStatus:
    """Return the live status of a job."""
    live_status = LiveStatus(
        outcome_counts=progress_source.outcome_counts,
        is_paused=job is not None and job.is_paused,
        errors=get_output().recent_errors.format_lines(),
    )
    if job is not None:
        live_status = live_status.with_requests(job.report)
    return live_status if pacer is None else live_status.with_pacer_state(pacer.snapshot())


async def run_job(
    run: Callable[[], Awaitable[object]],
    stop_job: Callable[[], object],
    progress_source: ProgressSource,
    screen: Screen,
    interrupt_handler: InterruptHandler,
    *,
    job: BulkJob[Any, Any] | None = None,
    pacer: Pacer | None = None,
) -> CommandError | None:
    """Run a job until it ends, is stopped or is interrupted. Return our own error, if there was one.

    Args:
        run: Runs the job.
        stop_job: Stops the job; called on the first interrupt.
        progress_source: Knows the outcomes of the rows.
        screen: Shows the progress.
        interrupt_handler: Handles the signals.
        job: The job that SIGUSR1 pauses and SIGUSR2 unpauses, and whose requests are shown.
        pacer: The pacer whose state is shown.

    Raises:
        asyncio.CancelledError: If the task was cancelled by something other than `interrupt_handler`. Nothing else is
        raised.
    """

    def stop() -> None:
        stop_job()
        logger.info("Stopping: waiting for requests in flight (up to --timeout). Press Ctrl-C again to abort.")

    async with show_progress(lambda: build_live_status(progress_source, job, pacer), screen):
        with contextlib.ExitStack() as stack:
            stack.enter_context(show_log_messages(screen))
            stack.enter_context(interrupt_handler.on_first_signal(stop))
            if job is not None:
                stack.enter_context(interrupt_handler.on_pause_signals(job.pause, job.unpause))
            try:
                await run()
            except CommandError as error:
                return error
            except Exception as error:  # noqa: BLE001 - the summary of the requests sent must still be printed
                return build_internal_error(error)
            except asyncio.CancelledError:
                if not interrupt_handler.is_aborted:
                    raise
                interrupt_handler.reset_cancellation()
    return None
