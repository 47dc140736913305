"""Pacers, which decide when the next request may be sent, without a clock, I/O or randomness.

Only SharedPacer is an exception: it reads and writes a file.
"""

from .adaptive import AdaptivePacer
from .base import MAX_RETRY_AFTER, Pacer, Phase, Snapshot, Ticket, Verdict
from .fixed import UNPACED, FixedPacer, Unpaced
from .reactive import ReactivePacer
from .shared.pacer import SharedPacer

__all__ = [
    "MAX_RETRY_AFTER",
    "UNPACED",
    "AdaptivePacer",
    "FixedPacer",
    "Pacer",
    "Phase",
    "ReactivePacer",
    "SharedPacer",
    "Snapshot",
    "Ticket",
    "Unpaced",
    "Verdict",
]
