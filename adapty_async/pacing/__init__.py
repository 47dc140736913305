"""When the next request may leave: pure decisions, without a clock, I/O or randomness."""

from .adaptive import AdaptivePacer
from .base import MAX_RETRY_AFTER, Pacer, Phase, Snapshot, Ticket, Verdict
from .fixed import UNPACED, FixedPacer, Unpaced

__all__ = [
    "MAX_RETRY_AFTER",
    "UNPACED",
    "AdaptivePacer",
    "FixedPacer",
    "Pacer",
    "Phase",
    "Snapshot",
    "Ticket",
    "Unpaced",
    "Verdict",
]
