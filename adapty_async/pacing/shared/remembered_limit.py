"""The limit remembered in a state file, read without becoming a member."""

import contextlib
import time
from pathlib import Path
from typing import Final

from .codec import StateDecodeError
from .state import decode_limit
from .state_file import CorruptStateError, StateFile

_MAX_LOCK_ATTEMPTS: Final = 100
_LOCK_RETRY_SECONDS: Final = 0.01


def load_remembered_limit(path: Path) -> float | None:
    """Return the limit found within the last 24 hours, or None if there is none or the file can't be read."""
    if not path.exists():
        return None
    try:
        state = _read_state(path)
        return None if state is None else decode_limit(state, time.time())
    except (OSError, StateDecodeError, CorruptStateError):
        return None


def _read_state(path: Path) -> bytes | None:
    with contextlib.closing(StateFile(path)) as file:
        for _ in range(_MAX_LOCK_ATTEMPTS):
            if file.try_lock():
                try:
                    return file.read_new_state()
                finally:
                    file.unlock()
            time.sleep(_LOCK_RETRY_SECONDS)
    return None
