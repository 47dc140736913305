"""When the next request may leave: decisions, without a clock, I/O or randomness.

All is pure but for what a SharedPacer needs: shared.py, membership.py and state_file.py read and write its file.
"""

from .adaptive import AdaptivePacer
from .base import MAX_RETRY_AFTER, Pacer, Phase, Snapshot, Ticket, Verdict
from .fixed import UNPACED, FixedPacer, Unpaced
from .reactive import ReactivePacer
from .shared import SharedPacer

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
