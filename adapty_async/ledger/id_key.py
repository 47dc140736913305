"""The ID key of a ledger, in a file next to it. Without it, nothing in the ledger leads to an ID.

With the ledger and the key file, you can test whether a guessed ID is in the ledger, and read its outcome.
"""

import contextlib
import errno
import hashlib
import os
import secrets
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from .chunks import HASH
from .errors import LedgerMismatchError
from .files import open_regular

LENGTH: Final = 32
_OWNER_ONLY: Final = 0o600


def key_path(ledger: Path) -> Path:
    """Return the path of a ledger's key file."""
    return ledger.with_name(f"{ledger.name}.key")


class Secret:
    """The ID key of a ledger, and the hashes made with it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._name = blake2b(key=key, person=b"name", digest_size=HASH)

    @classmethod
    def read(cls, ledger: Path) -> "Secret | None":
        """Read the key of a ledger. Return None if the file doesn't exist or wasn't written completely.

        Raise LedgerUnreadableError or OSError if the file can't be read.
        """
        with contextlib.suppress(FileNotFoundError):
            with open_regular(key_path(ledger)) as file:
                key = file.read(LENGTH + 1)
            if len(key) == LENGTH:
                return cls(key)
        return None

    @classmethod
    def make(cls, ledger: Path) -> "Secret":
        """Make the key of a ledger, in a new file that only its owner can read.

        Raise LedgerMismatchError if the file exists and isn't empty. Raise OSError if it can't be written.
        """
        path = key_path(ledger)
        if path.exists() and path.stat().st_size:
            raise LedgerMismatchError(
                f"{path} already exists and isn't the key file of a ledger: choose another name for the ledger",
                "secret",
            )
        key = secrets.token_bytes(LENGTH)
        part = path.with_name(f"{path.name}.new")  # complete or absent, because half a key is easily guessed
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        try:
            if os.write(descriptor, key) != len(key):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
            part.replace(path)
        except BaseException:  # an interrupt too, which would leave the new file
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return cls(key)

    @property
    def check(self) -> bytes:
        """A value that identifies this key and doesn't reveal it."""
        return blake2b(key=self._key, person=b"check", digest_size=16).digest()

    def hash(self, name: str) -> bytes:
        """Return the hash of an ID."""
        return self.hashes([name])

    def hashes(self, names: Iterable[str]) -> bytes:
        """Return the hashes of IDs, joined."""
        begun = self._name.copy  # takes a third less time than another keyed hash
        digests = []
        for name in names:
            state = begun()
            state.update(name.encode("utf-8", "surrogatepass"))  # as in _bytes, without the call
            digests.append(state.digest())
        return b"".join(digests)

    def digest(self, contents: Sequence[str]) -> bytes:
        """Return a digest of items in their order, 32 bytes."""
        lengths = array("Q", map(len, contents))
        digest = blake2b(_bytes("".join(contents)), key=self._key, person=b"contents", digest_size=32)
        digest.update(lengths.tobytes())
        return digest.digest()

    def file_digest(self, file: BinaryIO) -> bytes:
        """Return a digest of the whole file, 32 bytes. Raise OSError."""
        file.seek(0, os.SEEK_END)  # drops the buffer: another user of the descriptor may have moved its position
        file.seek(0)
        return hashlib.file_digest(
            file,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - its protocol requires more than it uses
            lambda: blake2b(key=self._key, person=b"file", digest_size=32),
        ).digest()

    def __repr__(self) -> str:
        return "<Secret>"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
