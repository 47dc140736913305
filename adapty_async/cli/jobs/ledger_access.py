"""Name, open and lock ledgers for the command line, and turn their errors into messages."""

import asyncio
import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...escaping import quote_shell
from ...ledger import InputChangedError, LedgerError, LedgerLock, LedgerMismatchError, LedgerReader, Spool, lock_ledger
from ...ledger.files import resolve_link, translate_errors
from ..exit_status import CommandError, ExitStatus
from ..inputs.input_source import STDIN_PATH
from ..inputs.input_types import NO_EXCLUDED_IDS, ExcludedIds
from ..inputs.job_input import JobInput
from ..output.atomic_files import remove_partial_files
from ..output.command_output import show_note
from ..signals import defer_signals
from .client_from_env import format_key_advice
from .job_options import JobOptions, open_job_input

_STDIN_LEDGER: Final = Path("stdin.adapty.db")
_MISMATCH_MESSAGES: Final = {
    "server": "the job of this ledger uses another server: set ADAPTY_BASE_URL to its address",
    "key": "the job of this ledger was started with a different API key: {key_advice}; if it has "
    "been replaced or was wrong, add --new-key",
}
_CHANGE_MESSAGES: Final = {
    "differs": "isn't the input of this ledger any more: it first differs {place}; restore the original file",
    "rewritten": "isn't the input of this ledger any more: its IDs are the same, but the attributes differ {place}; "
    "restore the original file",
    "shorter": "is shorter than the input of this ledger: it ends {place}; restore the original file",
    "longer": "is longer than the input of this ledger: the new rows start {place}; if rows were only added at its "
    "end, add --allow-appended to resume",
}
_LEDGER_FILE_SUFFIXES: Final = (
    *(f"{name}{suffix}" for name in ("", ".new") for suffix in ("", "-wal", "-shm", "-journal")),
    *(".key", ".key.new", ".rescued", ".lock", ".spool", ".spool.part"),
)
"""The suffixes that the ledger, its key file, its lock and its copies add to the name of the ledger."""
_PROGRAM_ADVICE: Final = "run the Python program of the job again"


def derive_ledger_path(file: Path) -> Path:
    """Return the default ledger of an input: next to it, or in the working directory for a pipe."""
    return file.with_name(f"{file.name}.adapty.db") if is_rereadable(file) else _STDIN_LEDGER


def is_rereadable(file: Path) -> bool:
    """Return True if a file can be read again later. Standard input and pipes can't."""
    if file == STDIN_PATH:
        return False
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return True  # opening the file reports the error


def is_stdin(file: Path) -> bool:
    """Return True if a file is standard input, under any name."""
    return file == STDIN_PATH or _is_same_file(file, Path("/dev/stdin"))


def format_resume_command(ledger: Path) -> str:
    """Return the command that resumes a job, quoted for a shell."""
    return format_command("resume", ledger)


def get_resume_advice(reader: LedgerReader, ledger: Path | None = None) -> str:
    """Return the command that resumes a job, or a description if it was started from Python.

    `ledger`: the ledger as the command names it, if not by the path of the reader.
    """
    return format_resume_command(ledger or reader.path) if reader.job_options else _PROGRAM_ADVICE


@contextlib.contextmanager
def show_resume_hint_on_interrupt(ledger: Path, command: str = "resume") -> Iterator[None]:
    """If an interrupt ends the block and the ledger exists, show how to resume the job."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        if ledger.exists():
            show_note(f"To resume:\n  {format_command(command, ledger)}")
        raise


def format_command(name: str, path: Path, *options: str) -> str:
    """Return a command with a file argument, quoted for a shell."""
    operand = f"./{path}" if str(path).startswith("-") and path != STDIN_PATH else str(path)
    return " ".join(map(quote_shell, ["adapty-async", name, operand, *options]))


def format_mismatch(what: str) -> str:
    """Return the message about a server or a key that isn't that of the job. Return "" for any other difference."""
    return _MISMATCH_MESSAGES.get(what, "").format(key_advice=format_key_advice("that key"))


@contextlib.contextmanager
def translate_ledger_errors(job_input: JobInput | None = None) -> Iterator[None]:
    """Convert the errors of a ledger to CommandError with exit status 5. `job_input` names the line of a row."""
    try:
        yield
        return
    except InputChangedError as error:
        message = _format_change(error, job_input)
    except LedgerMismatchError as error:
        message = format_mismatch(error.what) or str(error)
    except LedgerError as error:
        message = str(error)
    raise CommandError(message, ExitStatus.LEDGER)


def _format_change(error: InputChangedError, job_input: JobInput | None) -> str:
    name = "the file" if job_input is None else job_input.name
    return f"{name} {_CHANGE_MESSAGES[error.kind].format(place=_describe_place(error, job_input))}"


def _describe_place(error: InputChangedError, job_input: JobInput | None) -> str:
    unit, first = _locate_row(error.position, job_input)
    if error.last > error.position:
        return f"somewhere in {unit}s {first} to {_locate_row(error.last, job_input)[1]}"
    return f"{'before' if error.kind == 'shorter' else 'at'} {unit} {first}"


def _locate_row(position: int, job_input: JobInput | None) -> tuple[str, str]:
    """Return the unit in which the input is counted, and the number at which a row starts."""
    line = None if job_input is None else job_input.find_line(position)
    return (
        ("row", f"{position + 1:,}")
        if job_input is None or line is None
        else (job_input.read_schema().unit, f"{line:,}")
    )


@contextlib.contextmanager
def acquire_ledger_lock(path: Path) -> Iterator[LedgerLock]:
    """Lock a ledger for the block. Raises CommandError if another process uses it.

    Signals are postponed while the lock is acquired or released, because they would leave the lock file behind.
    """
    with contextlib.ExitStack() as stack:
        with defer_signals(), translate_ledger_errors():
            lock = stack.enter_context(lock_ledger(path))
        try:
            yield lock
        finally:
            with defer_signals():
                stack.close()


@contextlib.contextmanager
def open_ledger(path: Path) -> Iterator[LedgerReader]:
    """Open the ledger of a job for reading. Raises CommandError.

    Partial files that a killed process left are removed: spools of the input and files of failed rows.
    """
    with translate_ledger_errors(), translate_errors(path):
        Spool(path).sweep()
        is_there = path.exists()
    if not is_there:
        raise CommandError(f"{path} doesn't exist: check the name of the ledger")
    with translate_ledger_errors(), LedgerReader(path) as reader:
        _remove_partial_failures(reader)
        yield reader


def _remove_partial_failures(reader: LedgerReader) -> None:
    with contextlib.suppress(CommandError):  # a ledger of the library, or damaged: reported when the options are needed
        failures = read_job_options(reader).failures
        if failures is not None:
            remove_partial_files(failures)


@contextlib.contextmanager
def open_input(reader: LedgerReader, path: Path | None = None) -> Iterator[JobInput]:
    """Open the input of a ledger, which may have been moved to `path`. Raises CommandError if the input has changed."""
    with open_unchecked_input(reader, read_job_options(reader), path) as job_input:
        with translate_ledger_errors(job_input):
            if not reader.is_input_file(job_input.file):
                for _ in reader.rows_with_ids(job_input.iter_raw_ids()):
                    pass
        yield job_input


@contextlib.contextmanager
def open_unchecked_input(
    reader: LedgerReader,
    job_options: JobOptions,
    path: Path | None = None,
    *,
    excluded_ids: ExcludedIds = NO_EXCLUDED_IDS,
) -> Iterator[JobInput]:
    """Open the input of a ledger without comparing the two. Raises CommandError."""
    file = path or get_input_path(reader.path, job_options)
    if path is None and file.exists() and not is_rereadable(file):
        raise CommandError(
            f"{file} isn't a regular file any more: restore the input of {reader.path}, or name it with --input"
        )
    if not file.exists():
        with translate_ledger_errors():
            reader.check_key()  # --input can't be used without the key file
        raise _build_missing_input_error(reader, file, is_copy=path is None and job_options.file is None)
    with open_job_input(job_options, file, excluded_ids=excluded_ids) as job_input:
        yield job_input


def _build_missing_input_error(reader: LedgerReader, file: Path, *, is_copy: bool) -> CommandError:
    if is_copy:
        return CommandError(
            f"the copy of the input of {reader.path} is gone, because it is removed once the job is done: if the IDs "
            "are needed, put the same rows into a file and name it with --input"
        )
    return CommandError(f"{file}, the input of {reader.path}, is gone: if it was moved, name it with --input")


def get_input_path(ledger: Path, job_options: JobOptions) -> Path:
    """Return the input of a job: its file, or the spool of an input that can't be read twice."""
    return job_options.file or Spool(ledger).path


def read_job_options(reader: LedgerReader) -> JobOptions:
    """Return the job options. Raises CommandError if the job was started from Python or the ledger is damaged."""
    if not reader.job_options:
        raise CommandError(
            f"{reader.path} belongs to a job that was started from Python: resume it there", ExitStatus.LEDGER
        )
    try:
        return JobOptions.from_dict(reader.job_options, reader.path)
    except (AttributeError, CommandError, KeyError, TypeError, ValueError):  # incomplete, malformed or invalid
        message = f"{reader.path} is damaged: restore it from a copy, or start again with another ledger"
    raise CommandError(message, ExitStatus.LEDGER)


def list_input_files(reader: LedgerReader) -> list[Path]:
    """Return the files that a job reads: its input and exclude lists. Empty if the job was started from Python."""
    if not reader.job_options:
        return []
    job_options = read_job_options(reader)
    return [*([] if job_options.file is None else [job_options.file]), *job_options.exclude.values()]


def refuse_job_file(path: Path, ledger: Path, *files: Path) -> None:
    """Refuse to write to the ledger, a file that belongs to it, or one of `files`. Raises CommandError."""
    if any(_is_same_file(path, own) for own in [*_list_ledger_files(ledger), *files]):
        raise CommandError(f"{path} is needed by the job itself: name another file")


def refuse_ledger_file(file: Path, ledger: Path) -> None:
    """Refuse to read a file that belongs to the ledger. Raises CommandError."""
    if any(_is_same_file(file, own) for own in _list_ledger_files(ledger)):
        raise CommandError(f"{file} has a name that {ledger} uses for its own files: name another ledger with --ledger")


def _list_ledger_files(ledger: Path) -> list[Path]:
    return [
        own.with_name(f"{own.name}{suffix}")
        for own in {ledger, resolve_link(ledger)}
        for suffix in _LEDGER_FILE_SUFFIXES
    ]


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them doesn't exist
        return path.resolve() == other.resolve()
