"""What may be shown of an id: enough for its owner to know it by, not for anybody else."""

from typing import Final

from ..escaping import one_line

_SHORT: Final = 8


def masked(id_: str) -> str:
    """Give the first and the last character of an id, and its length; of a short one the length alone."""
    ends = "…" if len(id_) < _SHORT else one_line(f"{id_[0]}…{id_[-1]}")
    return f"{ends} ({len(id_):,} characters)"
