"""Count how many values of each attribute an update or creation sets, clears or empties."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from ...models import ProfileAttributes
from ...models.common import list_set_fields
from .attribute_parser import CUSTOM_GROUP, META_GROUP

_SET: Final = "set"
_CLEARED: Final = "cleared"
_EMPTIED: Final = "emptied"
_MAX_NAMES: Final = 100
"""The number of attributes shown. Custom attributes may have different names in every row."""
_OTHERS_LABEL: Final = "all others"
_EFFECTS: Final = (_SET, _CLEARED, _EMPTIED)


class AttributeCounter:
    """The counts of each attribute, by name."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def count(self, attributes: ProfileAttributes) -> None:
        """Count the attributes of one profile."""
        for name, value in _iter_values(attributes):
            kind = _CLEARED if value is None else _EMPTIED if value == "" else _SET
            known = name in self._counts or len(self._counts) < _MAX_NAMES
            self._counts.setdefault(name if known else _OTHERS_LABEL, Counter())[kind] += 1

    def iter_lines(self) -> Iterator[str]:
        """Yield a line for all attributes together, then one for each."""
        yield _format_counts(sum(self._counts.values(), Counter[str]()))
        for name, counts in self._counts.items():
            yield f"{name}: {_format_counts(counts)}"


def _iter_values(attributes: ProfileAttributes) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that are sent, each member of a group separately."""
    for name in list_set_fields(attributes):
        value = getattr(attributes, name)
        if name == CUSTOM_GROUP:
            yield from ((f"custom.{key}", part) for key, part in value.items())
        elif name == META_GROUP:
            yield from ((f"{META_GROUP}.{part}", getattr(value, part)) for part in list_set_fields(value))
        else:
            yield name, value


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in _EFFECTS)
