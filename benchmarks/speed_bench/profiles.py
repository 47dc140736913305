"""The answers that are loaded: the API page's example with one subscription less, 1.7 kB, and one of 200 purchases."""

import json
from pathlib import Path
from typing import Any, Final

_PURCHASES: Final = 200
_EXAMPLE: Final = Path(__file__).parents[2] / "tests" / "data" / "get_profile_answer.json"


def _answer(subscriptions: int, non_subscriptions: int) -> bytes:
    """Give the example's answer with so many of its purchases, in turn; each with a transaction of its own."""
    answer = json.loads(_EXAMPLE.read_bytes())
    for name, count in (("subscriptions", subscriptions), ("non_subscriptions", non_subscriptions)):
        known: list[dict[str, Any]] = answer["data"][name]
        answer["data"][name] = [
            {**known[-1 - number % len(known)], "store_transaction_id": f"{2_000_000_815_013_007 + number}"}
            for number in range(count)
        ]
    return json.dumps(answer, separators=(",", ":")).encode()


SMALL: Final = _answer(1, 1)
LARGE: Final = _answer(_PURCHASES // 2, _PURCHASES // 2)
