"""Which file lies at a path."""

from pathlib import Path
from typing import TypeAlias

Identity: TypeAlias = tuple[int, int]
"""The device and the inode of a file."""


def identity_of(path: Path) -> Identity | None:
    """Return the identity of what lies at a path, a link itself too, or None if there is nothing. Raise OSError."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
