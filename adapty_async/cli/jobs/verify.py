"""The command `verify`: check that deleted profiles are gone."""

import asyncio
import math
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ...bulk import BulkReport, Outcome, StopReason
from ...client import AdaptyClient
from ...escaping import one_line
from ...ledger import LedgerReader, Verified
from ...ledger import verify as verify_ledger
from ...ledger.verification import gone
from ...pacing import Pacer
from ..exit_codes import CommandError, ExitStatus
from ..inputs.bulk_input import Listing
from ..inputs.rows import Reading
from ..output.events import current
from ..output.progress import Sight, Standing
from ..output.screen import saying, screen_for, showing, tell
from ..signals import run_event_loop
from .client import client_of_environment
from .failed_rows import Failure, check_free, write_failures
from .failed_rows_command import feeding_back
from .keys import known_of, show_same_app
from .ledger_files import command, open_input, open_ledger, order_of, refuse_needed, refusing
from .options import Order
from .pace import Pace

_ALL: Final = "all"
_REST: Final = "rest"
_SAMPLE: Final = re.compile(r"(\d+(?:\.\d+)?)(%?)")
_STOPPED: Final = {
    StopReason.CREDENTIALS: "Adapty doesn't accept the key (401): set ADAPTY_API_KEY to the secret key of the app",
    StopReason.PERMISSION: "the key may not read profiles (403): set ADAPTY_API_KEY to the secret key of the app",
    StopReason.OUTAGE: "Adapty has answered only with errors for too long: verify later",
    StopReason.THROTTLED_FOR: "Adapty has rate-limited every request for too long: verify later, or with a lower "
    "--max-rate",
}
_WORDS: Final = {Outcome.FETCHED: "present", Outcome.NOT_FOUND: "absent"}


def verify(
    path: Path,
    sample: str,
    file: Path | None,
    pace: Pace,
    concurrency: int,
    timeout: float,
    present: Path | None = None,
    *,
    new_key: bool = False,
    known: str | None = None,
) -> ExitStatus:
    """Verify the deletions of a job.

    Args:
        path: The ledger.
        sample: How many profiles to check: "all", "rest", a number or a percentage.
        file: The new path of the input.
        pace: How fast to send.
        concurrency: The maximum number of requests in flight.
        timeout: The time limit of a request, in seconds.
        present: A new file for the rows whose profiles are present.
        new_key: Whether another key of the same app is accepted.
        known: The ID of a profile that exists in the app, or `-` to read it from standard input.

    Raises:
        CommandError: If nothing can be verified.
    """
    if present is not None:
        refuse_needed(present, path)
        check_free(present, "--present")
    with open_ledger(path) as reader:
        if reader.job.operation != "delete":
            raise CommandError(
                f"only deletions can be verified, but {path} is the ledger of the operation {reader.job.operation}: to "
                f"see the outcomes of its rows, run {command('report', path)}"
            )
        rest = sample == _REST
        with refusing():
            deleted = gone(reader, rest=rest)
        wanted = _wanted(sample, deleted)
        if not deleted:
            raise CommandError(
                f"{path} contains no accepted deletion {'left to verify' if rest else 'yet'}: nothing to verify"
            )
        client = client_of_environment(timeout)
        order = order_of(reader)
        known = known_of(known, file, order.allows)
        with open_input(reader, file) as ids, refusing(ids), pace.pacer(client) as pacer:
            if new_key:
                show_same_app(reader, ids, order, known, client)
            plain = ids.plain()
            try:
                found = run_event_loop(
                    lambda _: _verify(client, reader, plain, wanted, pacer, concurrency, rest=rest, new_key=new_key)
                )
            except (KeyboardInterrupt, asyncio.CancelledError):
                _show_rest(path)
                raise
            written = None if present is None else _write_present(path, ids, present)
            reading = ids.reading()
    _show(found)
    left = _present_in(path)
    if left:
        tell(f"\nThe record shows them, too:\n  {command('report', path)}", sys.stderr)
        _show_next(path, order, reading, written)
    if found.stopped is not None or found.unknown:
        _show_rest(path)
    return _status(found, left)


def _write_present(path: Path, ids: Listing, file: Path) -> Path | None:
    """Write the rows whose profiles were present when last checked. Return the file, or None if there are none."""
    with LedgerReader(path) as reader:
        times = {found.position: found.at for found in reader.presences() if found.present}
        if not times:
            return None
        failures = (
            Failure(row, known.standing, f"present at {datetime.fromtimestamp(times[known.position], UTC)}", None)
            for known, row in zip(reader.rows(), ids.as_written(), strict=False)
            if known.position in times
        )
        return write_failures(file, ids.reading(), failures).file


def _show_next(path: Path, order: Order, reading: Reading, written: Path | None) -> None:
    """Show what to do about profiles that are present."""
    if written is None:
        tell("To write the rows of these profiles to a file, to delete them again:", sys.stderr)
        tell(f"  {command('verify', path, 'all', '--present', 'present.csv')}", sys.stderr)
        return
    tell(
        f"{one_line(str(written))} contains the rows of the profiles present. To delete them again:",
        sys.stderr,
    )
    tell(f"  {feeding_back(order, written, reading)}", sys.stderr)


def _show_rest(path: Path) -> None:
    tell(f"\nTo verify the profiles that haven't been checked yet:\n  {command('verify', path, _REST)}", sys.stderr)


def _wanted(sample: str, deleted: int) -> int:
    """Return how many of the deleted profiles to check. Raises CommandError if `sample` is invalid."""
    if sample in (_ALL, _REST):
        return deleted
    match = _SAMPLE.fullmatch(sample)
    share = float(match[1]) / 100 if match and match[2] else None
    if match is None or not float(match[1]) or (share is None and not sample.isdecimal()) or (share or 0) > 1:
        raise CommandError("how many to verify must be all, rest, a number as in 500, or a share as in 5%")
    return min(deleted, int(sample) if share is None else math.ceil(share * deleted))


async def _verify(
    client: AdaptyClient,
    reader: LedgerReader,
    ids: Iterable[str],
    wanted: int,
    pacer: Pacer,
    concurrency: int,
    *,
    rest: bool,
    new_key: bool,
) -> Verified:
    report: BulkReport | None = None

    def note(now: BulkReport) -> None:
        nonlocal report
        report = now

    def look() -> Sight:
        standing = Standing(wanted, {} if report is None else report.counts, wanted=_WORDS)
        sight = Sight(standing=standing, errors=current().errors.shown(), words=_WORDS).of_pacing(pacer.snapshot())
        return sight if report is None else sight.of_requests(report)

    screen = screen_for(sys.stderr)
    async with client, showing(look, screen):
        with saying(screen):
            return await verify_ledger(
                client,
                reader.path,
                ids,
                sample=wanted,
                rest=rest,
                concurrency=concurrency,
                pacer=pacer,
                on_progress=note,
                new_key=new_key,
            )


def _show(found: Verified) -> None:
    lines = [
        f"{name:<20}{count:>12,}  {meaning}"
        for name, count, meaning in (
            ("present", found.present, "Adapty has such a profile"),
            ("absent", found.absent, "Adapty has no such profile"),
            ("unknown", found.unknown, "asked for, without a clear answer"),
        )
    ]
    stopped = None if found.stopped is None else f"{found.stopped}: {_STOPPED[found.stopped]}"
    if stopped is not None:
        lines.append(f"\nstopped: {stopped}")
    current().show("\n".join(lines), present=found.present, absent=found.absent, unknown=found.unknown, stopped=stopped)


def _present_in(path: Path) -> int:
    """Count the profiles that were present when last checked, in this verification or an earlier one."""
    with refusing(), LedgerReader(path) as reader:
        return sum(found.present for found in reader.presences())


def _status(found: Verified, present: int) -> ExitStatus:
    statuses = [ExitStatus.FAILED if present or found.unknown else ExitStatus.DONE]
    if found.stopped is not None:
        is_key = found.stopped in {StopReason.CREDENTIALS, StopReason.PERMISSION}
        statuses.append(ExitStatus.CREDENTIALS if is_key else ExitStatus.STOPPED)
    return ExitStatus.first_of(statuses)
