"""What an operator has said is right although it looks wrong."""

import attrs


@attrs.frozen(kw_only=True)
class Allowances:
    """What doesn't refuse a job. `invisible`: characters in ids that nobody sees. `rounded`: long ids that end in 0.

    `unmatched_exclude`: an exclude list of which no id is in the input, or one that is nearly another's.
    """

    invisible: bool = False
    rounded: bool = False
    unmatched_exclude: bool = False

    def __or__(self, other: "Allowances") -> "Allowances":
        """Allow what either does."""
        return Allowances(
            invisible=self.invisible or other.invisible,
            rounded=self.rounded or other.rounded,
            unmatched_exclude=self.unmatched_exclude or other.unmatched_exclude,
        )

    def options(self) -> list[str]:
        """Give the options that say so."""
        given = attrs.asdict(self)
        return [f"--allow-{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
