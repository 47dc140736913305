"""A plain HTTP caller of the simulator that compares every response with the documented facts."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from adapty_async.testing import Simulator
from tests.testing.facts import violations

PROFILE_PATH = "/api/v2/server-side-api/profile/"


def port(simulator: Simulator) -> int:
    """Return the port of a simulator."""
    return int(simulator.base_url.rpartition(":")[2])


def raw_request(simulator: Simulator, method: str, customer_user_id: bytes, *more: bytes) -> bytes:
    """Return the bytes of a request with a simulator's key and further header lines."""
    lines = [
        f"{method} {PROFILE_PATH} HTTP/1.1".encode(),
        b"Host: simulator",
        f"Authorization: Api-Key {simulator.api_key}".encode(),
        b"adapty-customer-user-id: " + customer_user_id,
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def until(condition: Callable[[], bool]) -> None:
    """Run the loop until a condition is true."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Reply:
    """A response with its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The whole body."""
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The profile in the body."""
        return self.json["data"]

    @property
    def code(self) -> str:
        """The short error name."""
        code: str = self.json["error_code"]
        return code

    @property
    def sources(self) -> list[str | None]:
        """The fields with errors."""
        return [error["source"] for error in self.json["errors"]]

    def departures(self) -> list[str]:
        """Return the deviations from the documentation."""
        if "Request-Id" not in self.headers:
            return ["no Request-Id"]
        if self.status == 204:
            return ["a body"] if self.body else []
        if self.headers.get("Content-Type") != "application/json":
            return ["not declared as JSON"]
        if self.status == 200:
            return violations(self.json, "ProfileResponse")
        return violations(self.json, "Error") or ["status_code"] * (self.json["status_code"] != self.status)


@dataclass(frozen=True)
class Caller:
    """Sends requests with a simulator's key, and fails the test if a response isn't as `documented`."""

    session: aiohttp.ClientSession

    async def __call__(
        self,
        simulator: Simulator,
        method: str,
        customer_user_id: str | None = None,
        profile_id: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        path: str = PROFILE_PATH,
        json: Any = None,
        data: bytes | None = None,
        documented: bool = True,
    ) -> Reply:
        sent = {"Authorization": f"Api-Key {simulator.api_key}", **(headers or {})}
        if customer_user_id is not None:
            sent["adapty-customer-user-id"] = customer_user_id
        if profile_id is not None:
            sent["adapty-profile-id"] = profile_id
        url = simulator.base_url + path
        async with self.session.request(
            method, url, headers=sent, json=json, data=data, allow_redirects=False
        ) as answer:
            reply = Reply(answer.status, answer.headers.copy(), await answer.read())
        if documented:
            assert reply.departures() == []
        return reply
