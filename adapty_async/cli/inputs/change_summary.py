"""Count how many values of each attribute an update or creation sets, clears or empties."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from ...models import ProfileAttributes
from ...models.common import set_fields
from .attributes import CUSTOM, META

_SET: Final = "set"
_CLEARED: Final = "cleared"
_EMPTIED: Final = "emptied"
_MOST_NAMES: Final = 100
"""The number of attributes shown. Custom attributes may have different names in every row."""
_OTHERS: Final = "all others"
_KINDS: Final = (_SET, _CLEARED, _EMPTIED)


class Effects:
    """The counts of each attribute, by name."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def note(self, attributes: ProfileAttributes) -> None:
        """Count the attributes of one profile."""
        for name, value in _values(attributes):
            kind = _CLEARED if value is None else _EMPTIED if value == "" else _SET
            known = name in self._counts or len(self._counts) < _MOST_NAMES
            self._counts.setdefault(name if known else _OTHERS, Counter())[kind] += 1

    def lines(self) -> Iterator[str]:
        """Yield a line for all attributes together, then one for each."""
        yield _shown(sum(self._counts.values(), Counter[str]()))
        for name, counts in self._counts.items():
            yield f"{name}: {_shown(counts)}"


def _values(attributes: ProfileAttributes) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that are sent, each member of a group separately."""
    for name in set_fields(attributes):
        value = getattr(attributes, name)
        if name == CUSTOM:
            yield from ((f"custom.{key}", part) for key, part in value.items())
        elif name == META:
            yield from ((f"{META}.{part}", getattr(value, part)) for part in set_fields(value))
        else:
            yield name, value


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in _KINDS)
