"""The file of --exclude: ids that must not be sent, such as of people under legal hold."""

from collections.abc import Iterable
from pathlib import Path

from ..bulk.jobs import By, name_of
from .exits import CommandError
from .inputs import Excluded, InputError, Row, open_ids
from .ledgers import is_lasting
from .listing import Listing


def excluded_by(files: Iterable[Path], *, by: By, column: str | None) -> Excluded:
    """Read what names the ids in some files, each with the name of the first file that holds it. Raises CommandError.

    A row that isn't clear might be the very one that must not be sent: it refuses the file.
    """
    lists: dict[str, str] = {}
    try:
        for file in files:
            lists |= dict.fromkeys(_read(file, by, column) - lists.keys(), file.name)
        return lists
    except InputError as error:
        sentence, status = str(error), error.status
    raise CommandError(f"--exclude: {sentence}", status)


def _read(file: Path, by: By, column: str | None) -> set[str]:
    if not file.exists():
        raise InputError(f"{file} doesn't exist: check its name, or put it back, for nobody in it must be sent")
    name, names = name_of(by), set[str]()
    with open_ids(file, by=by, column=column) as ids:
        for row in ids.as_written():
            if reason := ids.refusal(row):
                raise InputError(f"{ids.name}, {ids.reading().unit} {row.line}: {reason}: correct it")
            names.add(name(row.id))
    if not names:
        raise InputError(f"{file} holds no ids: leave the option out if nobody is to be excluded")
    return names


def refuse_fleeting(files: Iterable[Path]) -> None:
    """Refuse what a later run of a job can't read again: nobody would be held back then. Raises CommandError."""
    for file in files:
        if not is_lasting(file):
            raise CommandError(
                f"--exclude: {file} can't be read again when the job goes on, and nobody in it must be sent then "
                "either: put the ids into a file"
            )


def is_excluded(ids: Listing, row: Row) -> bool:
    """Tell whether a row of an input is not to be sent, whatever became of it before."""
    return bool(ids.excluded) and name_of(ids.by)(row.id) in ids.excluded
