"""The options --pace and --max-rate: which pacer they stand for, and where commands share what they find out."""

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from ..client import AdaptyClient, sender_of
from ..pacing import AdaptivePacer, FixedPacer, Pacer, SharedPacer
from .exits import CommandError

FULL: Final = "full"
BACKGROUND: Final = "background"


@attrs.frozen
class Pace:
    """How fast a job may go. `wanted`: "full", "background", or requests a second. `most`: never more a second."""

    wanted: str | float
    most: float | None

    @classmethod
    def of(cls, pace: str, max_rate: float | None) -> "Pace":
        """Read the two options. Raises CommandError."""
        if max_rate is not None and not 0 < max_rate < math.inf:
            raise CommandError("--max-rate must be a positive number of requests a second")
        if pace in (FULL, BACKGROUND):
            return cls(pace, max_rate)
        try:
            rate = float(pace)
        except ValueError:
            rate = math.nan
        if not 0 < rate < math.inf:
            raise CommandError(f"--pace must be {FULL}, {BACKGROUND}, or a positive number of requests a second")
        return cls(rate, max_rate)

    @contextlib.contextmanager
    def pacer(self, client: AdaptyClient) -> Iterator[Pacer]:
        """Give the pacer for the time of the block."""
        if isinstance(self.wanted, float):
            yield FixedPacer(min(self.wanted, self.most or self.wanted))
            return
        file = state_file(client)
        if file is None:
            yield AdaptivePacer(max_rate=self.most) if self.wanted == FULL else AdaptivePacer.background(self.most)
            return
        make = SharedPacer if self.wanted == FULL else SharedPacer.background
        with contextlib.closing(make(file, max_rate=self.most)) as pacer:
            yield pacer


def state_file(client: AdaptyClient) -> Path | None:
    """Give where the commands of this user share what they find out about the limit of a key at a server."""
    home = _state_home()
    if home is None:
        return None
    server = hashlib.sha256(client.base_url.encode()).hexdigest()[:8]
    return home / "adapty-async" / f"pace-{sender_of(client).transport.key_fingerprint}-{server}"


def _state_home() -> Path | None:
    # https://specifications.freedesktop.org/basedir-spec/latest/: what isn't absolute is to be ignored.
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    if named.is_absolute():
        return named
    with contextlib.suppress(RuntimeError):  # a user without a home, as in a container
        return Path("~/.local/state").expanduser()
    return None
