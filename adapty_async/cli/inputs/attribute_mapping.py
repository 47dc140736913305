"""The options that define what update and create write: --attributes, --set, --null, --empty."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from ..exit_codes import CommandError
from .attributes import CUSTOM, META, Target, Value, build, target_of

NO_NAMES: Final = "none"
HOW_NAMED: Final = "as in email, custom.team, custom.age:number, custom.vip:bool or installation_meta.device_id"

Pair = tuple[Target, Value]


@attrs.frozen
class Assignment:
    """The sources of the attributes of a row.

    `names`: the columns that are attributes; None means all except the ID column. `fixed`: `key=value` pairs for all
    rows. `null`, `empty`: the texts that mean null and an empty text. Any other empty cell leaves its attribute
    unchanged.
    """

    names: tuple[str, ...] | None = None
    fixed: tuple[str, ...] = ()
    null: str | None = None
    empty: str | None = None

    @classmethod
    def of(cls, *, names: str | None, fixed: Sequence[str], null: str | None, empty: str | None) -> "Assignment":
        """Parse the options. Raises CommandError."""
        if null is not None and null == empty:
            raise CommandError("--null and --empty contradict each other: give each a text of its own")
        asked = cls(None if names is None else _split(names), tuple(fixed), null, empty)
        for name in asked.names or ():
            if target_of(name) is None and name not in (CUSTOM, META):
                raise CommandError(f"--attributes: {name!r} isn't an attribute: name it {HOW_NAMED}")
        asked.fixed_pairs()
        return asked

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Assignment":
        """Return the inverse of `attrs.asdict`."""
        names = data["names"]
        return cls(None if names is None else tuple(names), tuple(data["fixed"]), data["null"], data["empty"])

    def fixed_pairs(self) -> list[Pair]:
        """Return the attributes set on all rows. Raises CommandError."""
        pairs = [self._fixed_pair(text) for text in self.fixed]
        labels = [(target.group, target.name) for target, _ in pairs]
        if len(set(labels)) < len(labels):
            raise CommandError("--set names an attribute twice: leave one of them out")
        return pairs

    @property
    def reads_empty(self) -> bool:
        """Return True if an empty cell sets its attribute instead of leaving it unchanged."""
        return "" in (self.null, self.empty)

    def read(self, target: Target, text: str) -> Value:
        """Convert a text to a value. Raises ValueError, naming the attribute."""
        if text == self.null:
            return None
        try:
            return target.read("" if text == self.empty else text)
        except ValueError as error:
            sentence = str(error)
        raise ValueError(f"{target.label} {sentence}")

    def for_cells(self) -> list[str]:
        """Return the options that only affect table cells, because no --set has their text."""
        fixed = {text.partition("=")[2] for text in self.fixed}
        pairs = (("--null", self.null), ("--empty", self.empty))
        return [name for name, text in pairs if text is not None and text not in fixed]

    def options(self) -> list[str]:
        """Return the equivalent command-line options."""
        named = ("--attributes", None if self.names is None else ",".join(self.names) or NO_NAMES)
        pairs: Iterable[tuple[str, str | None]] = (
            named,
            *(("--set", text) for text in self.fixed),
            ("--null", self.null),
            ("--empty", self.empty),
        )
        return [word for name, value in pairs if value is not None for word in (name, value)]

    def _fixed_pair(self, text: str) -> Pair:
        key, separator, value = text.partition("=")
        target = target_of(key)
        if not separator or target is None:
            raise CommandError(f"--set wants KEY=VALUE, where KEY is an attribute, {HOW_NAMED}")
        try:
            pair = (target, self.read(target, value))
            if target.group != META:
                build([pair])
        except ValueError as error:
            sentence = str(error)
        else:
            return pair
        raise CommandError(f"--set: {sentence}")


def refuse_both(fixed: Iterable[Pair], named: Collection[Target]) -> None:
    """Refuse an attribute that is set by both --set and a column. Raises CommandError."""
    places = {(target.group, target.name) for target in named}
    for target, _ in fixed:
        if (target.group, target.name) in places:
            raise CommandError(f"{target.label} is set by --set, and by a column too: leave one of them out")


def _split(names: str) -> tuple[str, ...]:
    return () if names == NO_NAMES else tuple(name.strip() for name in names.split(","))
