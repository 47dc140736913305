"""The key file beside a ledger: without it, nothing in the ledger leads to an id.

Whoever holds both can test whether an id that he guesses is in the ledger, and what became of it.
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
    """Where the key of a ledger lies."""
    return ledger.with_name(f"{ledger.name}.key")


class Secret:
    """The key of a ledger, and the hashes made with it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._name = blake2b(key=key, person=b"name", digest_size=HASH)

    @classmethod
    def read(cls, ledger: Path) -> "Secret | None":
        """Read the key of a ledger; None where it is gone, or was never written to its end.

        Raises LedgerUnreadableError, OSError.
        """
        with contextlib.suppress(FileNotFoundError):
            with open_regular(key_path(ledger)) as file:
                key = file.read(LENGTH + 1)
            if len(key) == LENGTH:
                return cls(key)
        return None

    @classmethod
    def make(cls, ledger: Path) -> "Secret":
        """Make the key of a ledger, in a new file that only its owner may read.

        Raises OSError; LedgerMismatchError where there is a file already, but one that was never written to.
        """
        path = key_path(ledger)
        if path.exists() and path.stat().st_size:
            raise LedgerMismatchError(
                f"{path} is there already, and isn't the key file of a ledger: give the ledger another name", "secret"
            )
        key = secrets.token_bytes(LENGTH)
        part = path.with_name(f"{path.name}.new")  # it is there whole or not at all: half of one is easily guessed
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        try:
            if os.write(descriptor, key) != len(key):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
            part.replace(path)
        except BaseException:  # an interrupt, too: it would stay behind
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return cls(key)

    @property
    def check(self) -> bytes:
        """What tells this key from another, and doesn't lead back to it."""
        return blake2b(key=self._key, person=b"check", digest_size=16).digest()

    def hash(self, name: str) -> bytes:
        """Give the bytes that stand for an id."""
        return self.hashes([name])

    def hashes(self, names: Iterable[str]) -> bytes:
        """Give the bytes that stand for ids, one after the other."""
        begun = self._name.copy  # a third less than to begin anew with the key
        digests = []
        for name in names:
            state = begun()
            state.update(name.encode("utf-8", "surrogatepass"))  # as in _bytes, without a call
            digests.append(state.digest())
        return b"".join(digests)

    def digest(self, contents: Sequence[str]) -> bytes:
        """Give the 32 bytes that stand for a series of items, in their order."""
        lengths = array("Q", map(len, contents))
        digest = blake2b(_bytes("".join(contents)), key=self._key, person=b"contents", digest_size=32)
        digest.update(lengths.tobytes())
        return digest.digest()

    def file_digest(self, file: BinaryIO) -> bytes:
        """Give the 32 bytes that stand for all of a file. Raises OSError."""
        file.seek(0, os.SEEK_END)  # forgets its buffer: who shares its descriptor may have moved that meanwhile
        file.seek(0)
        return hashlib.file_digest(
            file,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - its protocol asks for more than it uses
            lambda: blake2b(key=self._key, person=b"file", digest_size=32),
        ).digest()

    def __repr__(self) -> str:
        return "<Secret>"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
