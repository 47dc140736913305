"""Name, open and lock ledgers for the command line, and turn their errors into messages."""

import asyncio
import contextlib
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...escaping import in_shell
from ...ledger import Held, InputChangedError, LedgerError, LedgerMismatchError, LedgerReader, Spool, holding
from ...ledger.files import real, translated
from ..exit_codes import CommandError, ExitStatus
from ..inputs.bulk_input import Listing
from ..inputs.files import STDIN
from ..inputs.rows import NOBODY, Excluded
from ..output.events import tell
from ..output.files import sweep
from ..signals import postponed
from .options import Order, open_listing

_OF_STDIN: Final = Path("stdin.adapty.db")
MISMATCHES: Final = {
    "server": "the job of this ledger uses another server: set ADAPTY_BASE_URL to its address",
    "key": "the job of this ledger was started with a different API key: set ADAPTY_API_KEY to that key; if it has "
    "been replaced or was wrong, add --new-key",
}
_CHANGES: Final = {
    "differs": "isn't the input of this ledger any more: it first differs {place}; restore the original file",
    "rewritten": "isn't the input of this ledger any more: its IDs are the same, but the attributes differ {place}; "
    "restore the original file",
    "shorter": "is shorter than the input of this ledger: it ends {place}; restore the original file",
    "longer": "is longer than the input of this ledger: the new rows start {place}; if rows were only added at its "
    "end, add --appended to resume",
}
_OWN_SUFFIXES: Final = (
    *(f"{name}{suffix}" for name in ("", ".new") for suffix in ("", "-wal", "-shm", "-journal")),
    *(".key", ".key.new", ".rescued", ".lock", ".spool", ".spool.part"),
)
"""The suffixes that the ledger, its key file, its lock and its copies add to the name of the ledger."""


def beside(file: Path) -> Path:
    """Return the default ledger of an input: next to it, or in the working directory for a pipe."""
    return file.with_name(f"{file.name}.adapty.db") if is_lasting(file) else _OF_STDIN


def is_lasting(file: Path) -> bool:
    """Return True if a file can be read again later. Standard input and pipes can't."""
    if file == STDIN:
        return False
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return True  # opening the file reports the error


def is_stdin(file: Path) -> bool:
    """Return True if a file is standard input, under any name."""
    return file == STDIN or _is_same(file, Path("/dev/stdin"))


def resume_command(ledger: Path) -> str:
    """Return the command that resumes a job, quoted for a shell."""
    return command("resume", ledger)


@contextlib.contextmanager
def telling_how_to_go_on(ledger: Path, name: str = "resume") -> Iterator[None]:
    """If an interrupt ends the block and the ledger exists, show how to resume the job."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        if ledger.exists():
            tell(f"To resume:\n  {command(name, ledger)}", sys.stderr)
        raise


def command(name: str, path: Path, *options: str) -> str:
    """Return a command with a file argument, quoted for a shell."""
    operand = f"./{path}" if str(path).startswith("-") and path != STDIN else str(path)
    return " ".join(map(in_shell, ["adapty-async", name, operand, *options]))


@contextlib.contextmanager
def refusing(ids: Listing | None = None) -> Iterator[None]:
    """Convert the errors of a ledger to CommandError with exit status 5. `ids` names the line of a row."""
    try:
        yield
        return
    except InputChangedError as error:
        sentence = _changed(error, ids)
    except LedgerMismatchError as error:
        sentence = MISMATCHES.get(error.what, str(error))
    except LedgerError as error:
        sentence = str(error)
    raise CommandError(sentence, ExitStatus.LEDGER)


def _changed(error: InputChangedError, ids: Listing | None) -> str:
    name = "the file" if ids is None else ids.name
    return f"{name} {_CHANGES[error.kind].format(place=_place(error, ids))}"


def _place(error: InputChangedError, ids: Listing | None) -> str:
    unit, first = _line_of(error.position, ids)
    if error.last > error.position:
        return f"somewhere in {unit}s {first} to {_line_of(error.last, ids)[1]}"
    return f"{'before' if error.kind == 'shorter' else 'at'} {unit} {first}"


def _line_of(position: int, ids: Listing | None) -> tuple[str, str]:
    """Return the unit in which the input is counted, and the number at which a row starts."""
    line = None if ids is None else ids.line_of(position)
    return ("row", f"{position + 1:,}") if ids is None or line is None else (ids.reading().unit, f"{line:,}")


@contextlib.contextmanager
def hold(path: Path) -> Iterator[Held]:
    """Lock a ledger for the block. Raises CommandError if another process uses it.

    Signals are postponed while the lock is acquired or released, because they would leave the lock file behind.
    """
    with contextlib.ExitStack() as stack:
        with postponed(), refusing():
            held = stack.enter_context(holding(path))
        try:
            yield held
        finally:
            with postponed():
                stack.close()


@contextlib.contextmanager
def open_ledger(path: Path) -> Iterator[LedgerReader]:
    """Open the ledger of a job for reading. Raises CommandError.

    Partial files that a killed process left are removed: spools of the input and files of failed rows.
    """
    with refusing(), translated(path):
        Spool(path).sweep()
        is_there = path.exists()
    if not is_there:
        raise CommandError(f"{path} doesn't exist: check the name of the ledger")
    with refusing(), LedgerReader(path) as reader:
        _sweep_failures(reader)
        yield reader


def _sweep_failures(reader: LedgerReader) -> None:
    with contextlib.suppress(CommandError):  # a ledger of the library, or damaged: reported when the options are needed
        failures = order_of(reader).failures
        if failures is not None:
            sweep(failures)


@contextlib.contextmanager
def open_input(reader: LedgerReader, path: Path | None = None) -> Iterator[Listing]:
    """Open the input of a ledger, which may have been moved to `path`. Raises CommandError if the input has changed."""
    with opened(reader, order_of(reader), path) as ids:
        with refusing(ids):
            if not reader.is_of(ids.file):
                for _ in reader.joined(ids.plain()):
                    pass
        yield ids


@contextlib.contextmanager
def opened(
    reader: LedgerReader, order: Order, path: Path | None = None, *, excluded: Excluded = NOBODY
) -> Iterator[Listing]:
    """Open the input of a ledger without comparing the two. Raises CommandError."""
    file = path or input_of(reader.path, order)
    if path is None and file.exists() and not is_lasting(file):
        raise CommandError(
            f"{file} isn't a regular file any more: restore the input of {reader.path}, or name it with --input"
        )
    if not file.exists():
        with refusing():
            reader.check_key()  # --input can't be used without the key file
        raise _gone(reader, file, is_copy=path is None and order.file is None)
    with open_listing(order, file, excluded=excluded) as ids:
        yield ids


def _gone(reader: LedgerReader, file: Path, *, is_copy: bool) -> CommandError:
    if is_copy:
        return CommandError(
            f"the copy of the input of {reader.path} is gone, because it is removed once the job is done: if the IDs "
            "are needed, put the same rows into a file and name it with --input"
        )
    return CommandError(f"{file}, the input of {reader.path}, is gone: if it was moved, name it with --input")


def input_of(ledger: Path, order: Order) -> Path:
    """Return the input of a job: its file, or the spool of an input that can't be read twice."""
    return order.file or Spool(ledger).path


def order_of(reader: LedgerReader) -> Order:
    """Return the job options. Raises CommandError if the job was started from Python or the ledger is damaged."""
    if not reader.order:
        raise CommandError(
            f"{reader.path} belongs to a job that was started from Python: resume it there", ExitStatus.LEDGER
        )
    try:
        return Order.from_json(reader.order, reader.path)
    except (AttributeError, KeyError, TypeError, ValueError):  # the stored options are incomplete or malformed
        sentence = f"{reader.path} is damaged: restore it from a copy, or start again with another ledger"
    raise CommandError(sentence, ExitStatus.LEDGER)


def inputs_of(reader: LedgerReader) -> list[Path]:
    """Return the files that a job reads: its input and exclude lists. Empty if the job was started from Python."""
    if not reader.order:
        return []
    order = order_of(reader)
    return [*([] if order.file is None else [order.file]), *order.exclude.values()]


def refuse_needed(path: Path, ledger: Path, *files: Path) -> None:
    """Refuse to write to the ledger, a file that belongs to it, or one of `files`. Raises CommandError."""
    if any(_is_same(path, own) for own in [*_own_files(ledger), *files]):
        raise CommandError(f"{path} is needed by the job itself: name another file")


def refuse_own(file: Path, ledger: Path) -> None:
    """Refuse to read a file that belongs to the ledger. Raises CommandError."""
    if any(_is_same(file, own) for own in _own_files(ledger)):
        raise CommandError(f"{file} has a name that {ledger} uses for its own files: name another ledger with --ledger")


def _own_files(ledger: Path) -> list[Path]:
    return [own.with_name(f"{own.name}{suffix}") for own in {ledger, real(ledger)} for suffix in _OWN_SUFFIXES]


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them doesn't exist
        return path.resolve() == other.resolve()
