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

from .chunks import HASH_BYTES
from .errors import LedgerAnonymizedError, LedgerMismatchError
from .files import open_regular_file

KEY_BYTES: Final = 32
_OWNER_ONLY_MODE: Final = 0o600


def get_key_path(ledger: Path) -> Path:
    """Return the path of a ledger's key file."""
    return ledger.with_name(f"{ledger.name}.key")


def build_anonymized_error(ledger: Path) -> LedgerAnonymizedError:
    """Return the error of a ledger without its key file."""
    return LedgerAnonymizedError(
        f"{ledger} was made anonymous: its key file {get_key_path(ledger).name} was removed, and without it no ID can "
        "be looked up and the job can't be resumed; if the file was only moved, put it back"
    )


class IdKey:
    """The ID key of a ledger, and the hashes made with it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._id_hasher = blake2b(key=key, person=b"name", digest_size=HASH_BYTES)

    @classmethod
    def read(cls, ledger: Path) -> "IdKey | None":
        """Read the key of a ledger. Return None if the file doesn't exist or wasn't written completely.

        Raise LedgerUnreadableError or OSError if the file can't be read.
        """
        with contextlib.suppress(FileNotFoundError):
            with open_regular_file(get_key_path(ledger)) as file:
                key = file.read(KEY_BYTES + 1)
            if len(key) == KEY_BYTES:
                return cls(key)
        return None

    @classmethod
    def create(cls, ledger: Path) -> "IdKey":
        """Make the key of a ledger, in a new file that only its owner can read.

        Raise LedgerMismatchError if the file exists and isn't empty. Raise OSError if it can't be written.
        """
        path = get_key_path(ledger)
        if path.exists() and path.stat().st_size:
            raise LedgerMismatchError(
                f"{path} already exists and isn't the key file of a ledger: choose another name for the ledger",
                "secret",
            )
        key = secrets.token_bytes(KEY_BYTES)
        temp_path = path.with_name(f"{path.name}.new")  # complete or absent, because half a key is easily guessed
        temp_path.unlink(missing_ok=True)
        descriptor = os.open(temp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY_MODE)
        try:
            if os.write(descriptor, key) != len(key):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
            temp_path.replace(path)
        except BaseException:  # an interrupt too, which would leave the new file
            with contextlib.suppress(OSError):
                temp_path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return cls(key)

    @property
    def fingerprint(self) -> bytes:
        """A value that identifies this key and doesn't reveal it."""
        return blake2b(key=self._key, person=b"check", digest_size=16).digest()

    def hash(self, id_text: str) -> bytes:
        """Return the hash of an ID."""
        return self.hash_all([id_text])

    def hash_all(self, ids: Iterable[str]) -> bytes:
        """Return the hashes of IDs, joined."""
        begun = self._id_hasher.copy  # takes a third less time than another keyed hash
        digests = []
        for id_text in ids:
            state = begun()
            state.update(id_text.encode("utf-8", "surrogatepass"))  # as in _bytes, without the call
            digests.append(state.digest())
        return b"".join(digests)

    def digest(self, contents: Sequence[str]) -> bytes:
        """Return a digest of items in their order, 32 bytes."""
        lengths = array("Q", map(len, contents))
        digest = blake2b(_encode("".join(contents)), key=self._key, person=b"contents", digest_size=32)
        digest.update(lengths.tobytes())
        return digest.digest()

    def digest_file(self, file: BinaryIO) -> bytes:
        """Return a digest of the whole file, 32 bytes. Raise OSError."""
        file.seek(0, os.SEEK_END)  # drops the buffer: another user of the descriptor may have moved its position
        file.seek(0)
        return hashlib.file_digest(
            file,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - its protocol requires more than it uses
            lambda: blake2b(key=self._key, person=b"file", digest_size=32),
        ).digest()

    def __repr__(self) -> str:
        return "<Secret>"


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
