"""The checks of an input that the operator has turned off."""

import attrs


@attrs.frozen(kw_only=True)
class Allowances:
    """Findings that don't refuse a job.

    `invisible`: invisible characters in IDs. `rounded`: long IDs that end in zeros. `unmatched_exclude`: an exclude
    list without any ID of the input, or with one that is nearly the same as an ID of the input.
    """

    invisible: bool = False
    rounded: bool = False
    unmatched_exclude: bool = False

    def __or__(self, other: "Allowances") -> "Allowances":
        """Return the union of two sets of allowances."""
        return Allowances(
            invisible=self.invisible or other.invisible,
            rounded=self.rounded or other.rounded,
            unmatched_exclude=self.unmatched_exclude or other.unmatched_exclude,
        )

    def to_cli_options(self) -> list[str]:
        """Return the command-line options for these allowances."""
        given = attrs.asdict(self)
        return [f"--allow-{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
