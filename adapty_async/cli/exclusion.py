"""The file of --exclude: ids that must not be sent, such as of people under legal hold."""

from pathlib import Path

from ..bulk import Outcome
from ..bulk.jobs import By
from .csv_records import InputError
from .exits import CommandError
from .inputs import Row, digest_of, open_ids
from .listing import Listing


def excluded_by(file: Path | None, *, by: By, column: str | None) -> frozenset[bytes]:
    """Read what stands for the ids in a file; none where there is no file. Raises CommandError.

    A row that isn't clear might be the very one that must not be sent: it refuses the file.
    """
    if file is None:
        return frozenset()
    try:
        return _read(file, by, column)
    except InputError as error:
        sentence = str(error)
    raise CommandError(f"--exclude: {sentence}")


def _read(file: Path, by: By, column: str | None) -> frozenset[bytes]:
    digest, digests = digest_of(by), set[bytes]()
    with open_ids(file, by=by, column=column) as ids:
        for row in ids.rows():
            if row.outcome is Outcome.INVALID:
                raise InputError(f"{ids.name}, line {row.line}: {row.reason}: correct the line")
            digests.add(digest(row.id))
    if not digests:
        raise InputError(f"{file} holds no ids: leave the option out if nobody is to be excluded")
    return frozenset(digests)


def is_excluded(ids: Listing, row: Row) -> bool:
    """Tell whether a row of an input is not to be sent, whatever became of it before."""
    return bool(ids.excluded) and digest_of(ids.by)(row.id) in ids.excluded
