"""The requests that a simulator has received: counts and records."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counts:
    """Counts since the simulator was created.

    A request that is in none of `responses`, `resets` and `in_flight` was aborted by the caller or by the stop of the
    simulator.

    Attributes:
        requests: Requests whose headers have arrived.
        responses: The number of responses by method and status.
        resets: Requests whose connection was reset.
        in_flight: Requests that are being handled.
        max_in_flight: The maximum of `in_flight`.
        connections: Accepted connections.
    """

    requests: int = 0
    responses: Counter[tuple[str, int]] = field(default_factory=Counter)
    resets: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0

    def count_responses(self, status: int) -> int:
        """Return the number of responses with a status, over all methods.

        Args:
            status: The HTTP status.
        """
        return sum(number for (_, answered), number in self.responses.items() if answered == status)

    def count_request(self) -> None:
        """Count a request that has arrived."""
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def as_json(self) -> dict[str, Any]:
        """Return the counts for JSON, with `responses` as {method: {status: number}}."""
        responses: dict[str, dict[str, int]] = {}
        for (method, status), number in sorted(self.responses.items()):
            responses.setdefault(method, {})[str(status)] = number
        return {
            "requests": self.requests,
            "answers": responses,
            "resets": self.resets,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "connections": self.connections,
        }


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as received. The repr leaves out the headers and the body."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body, parsed as JSON. None if there is no body. Raises ValueError if it isn't JSON."""
        return json.loads(self.body) if self.body else None
