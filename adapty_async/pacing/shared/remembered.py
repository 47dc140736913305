"""Reading the limit remembered in a state file, without becoming a member."""

import contextlib
import time
from pathlib import Path
from typing import Final

from .codec import MisfitError
from .state import limit_in
from .state_file import BrokenError, StateFile

_TRIES: Final = 100
_PAUSE: Final = 0.01


def remembered_limit(path: Path) -> float | None:
    """Return the limit found within the last 24 hours, or None if there is none or the file can't be read."""
    if not path.exists():
        return None
    try:
        state = _state(path)
        return None if state is None else limit_in(state, time.time())
    except (OSError, MisfitError, BrokenError):
        return None


def _state(path: Path) -> bytes | None:
    with contextlib.closing(StateFile(path)) as file:
        for _ in range(_TRIES):
            if file.try_lock():
                try:
                    return file.changed()
                finally:
                    file.unlock()
            time.sleep(_PAUSE)
    return None
