"""Counts with a noun in the singular or plural, such as "1 row" and "1,234 rows"."""


def format_count(count: int, singular: str, plural: str | None = None) -> str:
    """Return a number and the counted noun, such as `1 row is invalid`.

    Args:
        count: The number.
        singular: The text after the number 1.
        plural: The text after any other number. None adds an `s` to `singular`.
    """
    if count == 1:
        return f"1 {singular}"
    return f"{count:,} {f'{singular}s' if plural is None else plural}"
