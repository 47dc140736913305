"""The identity of the file at a path."""

from pathlib import Path
from typing import TypeAlias

Identity: TypeAlias = tuple[int, int]
"""The device and the inode of a file."""


def get_identity(path: Path) -> Identity | None:
    """Return the identity of the file at a path, or None if there is none. Links aren't followed. Raise OSError."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
