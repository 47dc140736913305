"""Where the files of a job are, also after its folder was moved, copied, or mounted elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs


def stored(path: Path, ledger: Path) -> dict[str, str | None]:
    """Return what JSON takes of the path of a file, which is also told as it is seen from the folder of a ledger."""
    folder, parent = (os.path.realpath(place.parent) for place in (ledger, path))
    try:
        beside = str(Path(os.path.relpath(parent, folder), path.name))
    except ValueError:  # on another drive of Windows
        beside = None
    return {"path": str(path), "beside": beside}


def home_of(ledger: Path) -> str:
    """Return by which path a ledger is known again as one that wasn't moved."""
    return os.path.realpath(ledger)


@attrs.frozen
class Places:
    """The places of a job's files, seen from its ledger. `home`: where the ledger was when they were stored."""

    ledger: Path
    home: str

    @property
    def is_moved(self) -> bool:
        """Tell whether the ledger is elsewhere than it was."""
        return home_of(self.ledger) != self.home

    def find(self, entry: Mapping[str, Any]) -> Path:
        """Return where a file is, or where it would be if it isn't there."""
        path, folder = Path(entry["path"]), Path(home_of(self.ledger)).parent
        near = [Path(os.path.normpath(folder / name)) for name in (entry["beside"], path.name) if name is not None]
        candidates = [*near, path] if self.is_moved else [path, *near]
        is_gone = path if folder not in candidates[0].parents else candidates[0]
        return next((place for place in candidates if place.exists()), is_gone)

    def is_home(self, entry: Mapping[str, Any], path: Path) -> bool:
        """Tell whether a file is where it was, so that it is the same one, though its content may be new."""
        return not self.is_moved and path == Path(entry["path"])
