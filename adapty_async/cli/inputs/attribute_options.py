"""The options that define what update and create write: --attributes, --set, --null, --empty."""

from collections.abc import Collection, Iterable
from typing import Final

import attrs

from ..exit_status import CommandError
from ..options import AttributeOptions
from .attribute_parser import CUSTOM_GROUP, META_GROUP, AttributeTarget, Value, build_attributes, parse_attribute_label

NO_ATTRIBUTES: Final = "none"
ATTRIBUTE_NAME_HINT: Final = (
    "as in email, custom.team, custom.age:number, custom.vip:bool or installation_meta.device_id"
)

AttributePair = tuple[AttributeTarget, Value]


@attrs.frozen
class AttributeMapping:
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
    def from_options(cls, options: AttributeOptions) -> "AttributeMapping":
        """Parse the options. Raises CommandError."""
        if options.null is not None and options.null == options.empty:
            raise CommandError("--null and --empty contradict each other: give each a text of its own")
        names = None if options.attributes is None else _split_names(options.attributes)
        for name in names or ():
            if parse_attribute_label(name) is None and name not in (CUSTOM_GROUP, META_GROUP):
                raise CommandError(f"--attributes: {name!r} isn't an attribute: name it {ATTRIBUTE_NAME_HINT}")
        mapping = cls(names, tuple(options.set or ()), options.null, options.empty)
        mapping.parse_fixed_pairs()
        return mapping

    def parse_fixed_pairs(self) -> list[AttributePair]:
        """Return the attributes set on all rows. Raises CommandError."""
        pairs = [self._parse_fixed_pair(text) for text in self.fixed]
        labels = [(target.group, target.name) for target, _ in pairs]
        if len(set(labels)) < len(labels):
            raise CommandError("--set names an attribute twice: leave one of them out")
        return pairs

    @property
    def has_empty_cell_value(self) -> bool:
        """Return True if an empty cell sets its attribute instead of leaving it unchanged."""
        return "" in (self.null, self.empty)

    def parse_value(self, target: AttributeTarget, text: str) -> Value:
        """Convert a text to a value. Raises ValueError, naming the attribute."""
        if text == self.null:
            return None
        try:
            return target.parse("" if text == self.empty else text)
        except ValueError as error:
            message = str(error)
        raise ValueError(f"{target.label} {message}")

    def list_cell_options(self) -> list[str]:
        """Return the options that only affect table cells, because no --set has their text."""
        fixed = {text.partition("=")[2] for text in self.fixed}
        pairs = (("--null", self.null), ("--empty", self.empty))
        return [name for name, text in pairs if text is not None and text not in fixed]

    def _parse_fixed_pair(self, text: str) -> AttributePair:
        key, separator, value = text.partition("=")
        target = parse_attribute_label(key)
        if not separator or target is None:
            raise CommandError(f"--set wants KEY=VALUE, where KEY is an attribute, {ATTRIBUTE_NAME_HINT}")
        try:
            pair = (target, self.parse_value(target, value))
            if target.group != META_GROUP:
                build_attributes([pair])
        except ValueError as error:
            message = str(error)
        else:
            return pair
        raise CommandError(f"--set: {message}")


def refuse_duplicate_targets(fixed: Iterable[AttributePair], targets: Collection[AttributeTarget]) -> None:
    """Refuse an attribute that is set by both --set and a column. Raises CommandError."""
    places = {(target.group, target.name) for target in targets}
    for target, _ in fixed:
        if (target.group, target.name) in places:
            raise CommandError(f"{target.label} is set by --set, and by a column too: leave one of them out")


def _split_names(names: str) -> tuple[str, ...]:
    return () if names == NO_ATTRIBUTES else tuple(name.strip() for name in names.split(","))
