"""Write the record of a job to a file or to standard output."""

import sys
from pathlib import Path
from typing import Final, Literal

from ...ledger import JobRecord, build_record
from ...pluralization import format_count
from ..exit_status import CommandError, ExitStatus, is_disk_full
from ..output.atomic_files import READABLE_MODE, create_partial_file
from ..output.command_output import echo
from ..output.standard_streams import open_stdout, print_error
from .ledger_access import format_command, get_resume_advice, list_input_files, open_ledger, refuse_job_file

_STDOUT_PATH: Final = Path("-")


def write_record(path: Path, record_format: Literal["json", "md"], output: Path, *, force: bool = False) -> ExitStatus:
    """Write the record of a job. Return FAILED if a verification found profiles.

    Args:
        path: The ledger.
        record_format: JSON or Markdown.
        output: The file to write, or `-` for standard output.
        force: Overwrite an existing file.

    Raises:
        CommandError: If the record can't be made or written.
    """
    with open_ledger(path) as reader:
        if output != _STDOUT_PATH:
            refuse_job_file(output, path, *list_input_files(reader))
            if output.is_file() and not force:
                raise CommandError(
                    f"{output} exists and may be a record: name another file, or add --force to replace it"
                )
        # The record may be filed elsewhere, so that it names the ledger without its directory.
        how = None if reader.is_running() else get_resume_advice(reader)
        how_in_record = None if how is None else get_resume_advice(reader, Path(path.name))
        record = build_record(reader, resume_command=how_in_record)
    _write_text(output, record.as_json() if record_format == "json" else record.as_markdown())
    _show_open_items(record, how)
    present = 0 if record.verified is None else record.verified.present
    if not present:
        return ExitStatus.OK
    what = format_count(
        present,
        "profile was present when it was verified; to write its row to a file:",
        "profiles were present when they were verified; to write their rows to a file:",
    )
    print_error(what)
    echo(f"  {format_command('verify', path, '--present', 'present.csv')}", sys.stderr)
    return ExitStatus.FAILED


def _show_open_items(record: JobRecord, resume_advice: str | None) -> None:
    if record.open:
        how = "" if resume_advice is None else f" To resume it:\n  {resume_advice}"
        echo(f"The job isn't finished: {format_count(record.open, 'item is', 'items are')} open.{how}", sys.stderr)


def _write_text(path: Path, text: str) -> None:
    text = text.encode(errors="backslashreplace").decode()  # file names may contain bytes that aren't UTF-8
    if path == _STDOUT_PATH:
        with open_stdout() as stream:
            stream.write(text)
        return
    try:
        if path.exists() and not path.is_file():  # a pipe must be written to, not replaced by a file
            path.write_text(text, encoding="utf-8")
        else:
            _replace_file(path.resolve(), text)
    except OSError as error:
        reason, status = error.strerror, ExitStatus.LEDGER if is_disk_full(error) else ExitStatus.USAGE
    else:
        return
    raise CommandError(f"{path} can't be written: {reason}: make room, or name another file", status)


def _replace_file(path: Path, text: str) -> None:
    """Write a file completely or not at all. Raises OSError."""
    with create_partial_file(path, READABLE_MODE) as (part, descriptor):
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(text)
        part.replace(path)
