"""The options --pace and --max-rate: the pacer that they select, and the file in which commands share a rate limit."""

import contextlib
import hashlib
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from ...client import AdaptyClient, get_sender
from ...pacing import AdaptivePacer, FixedPacer, Pacer, SharedPacer
from ...pacing.shared.remembered_limit import load_remembered_limit
from ..exit_status import CommandError

logger: Final = logging.getLogger("adapty_async")

FULL: Final = "full"
BACKGROUND: Final = "background"
_UTILIZATION: Final = {FULL: 0.98, BACKGROUND: 0.7}
"""The share of the rate limit that the pacers use."""

_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")
_RATE_HINT: Final = "a positive number of requests per second, such as 50 or 0.5"


@attrs.frozen
class Pace:
    """How fast a job may send.

    Attributes:
        wanted: "full", "background", or a number of requests per second.
        most: The upper limit, in requests per second.
    """

    wanted: str | float
    most: float | None

    @classmethod
    def from_options(cls, pace: str, max_rate: str | None) -> "Pace":
        """Parse the two options. Raises CommandError."""
        max_value = None if max_rate is None else _parse_rate(max_rate)
        if max_rate is not None and max_value is None:
            raise CommandError(f"--max-rate must be {_RATE_HINT}")
        if pace in (FULL, BACKGROUND):
            return cls(pace, max_value)
        rate = _parse_rate(pace)
        if rate is None:
            raise CommandError(f"--pace must be {FULL}, {BACKGROUND}, or {_RATE_HINT}")
        return cls(rate, max_value)

    def estimate_rate(self, client: AdaptyClient | None) -> float | None:
        """Return the expected rate in requests per second, or None if it isn't known. `client`: None without a key."""
        if not isinstance(self.wanted, str):
            return min(self.wanted, self.most or self.wanted)
        file = None if client is None else find_state_file(client)
        limit = None if file is None else load_remembered_limit(file)
        return None if limit is None else min(_UTILIZATION[self.wanted] * limit, self.most or math.inf)

    @contextlib.contextmanager
    def open_pacer(self, client: AdaptyClient) -> Iterator[Pacer]:
        """Yield the pacer of a job, and close it after the block."""
        if isinstance(self.wanted, float):
            yield FixedPacer(min(self.wanted, self.most or self.wanted))
            return
        file = find_state_file(client)
        if file is None:
            yield AdaptivePacer(max_rate=self.most) if self.wanted == FULL else AdaptivePacer.background(self.most)
            return
        make = SharedPacer if self.wanted == FULL else SharedPacer.background
        with contextlib.closing(make(file, max_rate=self.most)) as pacer:
            yield pacer


def find_state_file(client: AdaptyClient) -> Path | None:
    """Return the file in which the commands of this user share the rate limit of a key at a server."""
    home = _find_state_home()
    if home is None:
        logger.warning("neither XDG_STATE_HOME nor HOME is the absolute path of a folder: this command paces alone")
        return None
    server = hashlib.sha256(client.base_url.encode()).hexdigest()[:8]
    return home / "adapty-async" / f"pace-{get_sender(client).transport.key_fingerprint}-{server}"


def _find_state_home() -> Path | None:
    # https://specifications.freedesktop.org/basedir-spec/latest/: relative paths must be ignored.
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    if configured.is_absolute():
        return configured
    if os.environ.get("HOME") == "":  # that would be the root folder
        return None
    try:
        home = Path("~").expanduser()
    except RuntimeError:  # a user without a home, as in a container
        return None
    return home / ".local" / "state" if home.is_absolute() else None


def _parse_rate(text: str) -> float | None:
    """Parse a decimal number. Return None if the text isn't one, or isn't a positive finite rate."""
    rate = float(text) if _NUMBER.fullmatch(text) else 0.0
    return rate if 0 < rate < math.inf else None
