"""The responses to load: the example of the API page with one subscription less (1.7 kB), and 200 purchases."""

import json
from pathlib import Path
from typing import Any, Final

_PURCHASES: Final = 200
_EXAMPLE: Final = Path(__file__).parents[2] / "tests" / "data" / "get_profile_answer.json"


def _answer(subscriptions: int, non_subscriptions: int) -> bytes:
    """Return the example with the given numbers of purchases, each with its own transaction."""
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
