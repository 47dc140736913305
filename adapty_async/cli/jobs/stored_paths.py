"""Find the files of a job, even after its folder was moved, copied or mounted elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs


def dump_path(path: Path, ledger: Path) -> dict[str, str | None]:
    """Return the path of a file as a JSON object, both as given and relative to the folder of a ledger."""
    folder, parent = (os.path.realpath(place.parent) for place in (ledger, path))
    try:
        beside = str(Path(os.path.relpath(parent, folder), path.name))
    except ValueError:  # on another drive of Windows
        beside = None
    return {"path": str(path), "beside": beside}


def get_real_path(ledger: Path) -> str:
    """Return the real path of a ledger, which shows later whether the ledger was moved."""
    return os.path.realpath(ledger)


@attrs.frozen
class FileLocator:
    """The places of a job's files, relative to its ledger.

    `original_ledger`: the ledger's path when they were stored.
    """

    ledger: Path
    original_ledger: str

    @property
    def is_moved(self) -> bool:
        """Whether the ledger has been moved."""
        return get_real_path(self.ledger) != self.original_ledger

    def find(self, entry: Mapping[str, Any]) -> Path:
        """Return the path of a file. If it doesn't exist, return the path at which it is expected."""
        path, folder = Path(entry["path"]), Path(get_real_path(self.ledger)).parent
        near = [Path(os.path.normpath(folder / name)) for name in (entry["beside"], path.name) if name is not None]
        candidates = [*near, path] if self.is_moved else [path, *near]
        is_gone = path if folder not in candidates[0].parents else candidates[0]
        return next((place for place in candidates if place.exists()), is_gone)

    def is_original(self, entry: Mapping[str, Any], path: Path) -> bool:
        """Return True if a file is at its original path, so that it is the same file, possibly with new content."""
        return not self.is_moved and path == Path(entry["path"])
