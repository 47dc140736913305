"""The types as a user of the client sees them. This is checked by mypy and pyright, and never run.

Each ignored line must be an error: both checkers report an ignore comment that isn't needed.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

from adapty_async import (
    UNSET,
    AdaptyAPIError,
    AdaptyClient,
    AdaptyConnectionError,
    AdaptyError,
    AdaptyTimeoutError,
    Attempt,
    FieldErrors,
    FixedPacer,
    LocalRateLimitError,
    Profile,
    ProfileAttributes,
    Request,
    Response,
    RetryPolicy,
)


async def settings() -> None:
    client = AdaptyClient(
        "key", base_url="https://x", timeout=5, retry=RetryPolicy.none(), pacer=FixedPacer(5), ssl=None
    )
    async with client as entered:
        assert_type(entered, AdaptyClient)
    assert_type(AdaptyClient.from_env(timeout=5.0, retry=RetryPolicy(max_attempts=2)), AdaptyClient)
    assert_type(client.with_options(timeout=1.0, pacer=None), AdaptyClient)
    AdaptyClient("key", "https://x")  # type: ignore[call-arg]
    AdaptyClient("key", timeout="5")  # type: ignore[arg-type]
    AdaptyClient.from_env(api_key="key")  # type: ignore[call-arg]
    client.with_options(session=None)  # type: ignore[call-arg]
    RetryPolicy().max_attempts = 5  # type: ignore[misc]


async def profiles(client: AdaptyClient, attributes: ProfileAttributes) -> None:
    assert_type(await client.profiles.get(customer_user_id="u1"), Profile)
    assert_type(await client.profiles.get(profile_id=UUID(int=1)), Profile)
    assert_type(await client.profiles.create(customer_user_id="u1", profile_id="x", platform="iOS"), Profile)
    assert_type(await client.profiles.update(attributes, customer_user_id="u1"), Profile)
    assert_type(await client.profiles.delete(customer_user_id="u1", missing_ok=True), bool)
    await client.profiles.get("u1")  # type: ignore[call-arg]
    await client.profiles.get(customer_user_id=7)  # type: ignore[arg-type]
    await client.profiles.create(customer_user_id="u1", platform="ios")  # type: ignore[arg-type]
    await client.profiles.update(customer_user_id="u1")  # type: ignore[call-arg]
    await client.profiles.update({"first_name": "Ann"}, customer_user_id="u1")  # type: ignore[arg-type]


def attributes() -> ProfileAttributes:
    ProfileAttributes(first_name=7)  # type: ignore[arg-type]
    ProfileAttributes(gender="x")  # type: ignore[arg-type]
    return ProfileAttributes(first_name="Ann", last_name=None, gender=UNSET, custom_attributes={"height": 180})


async def anything_else(client: AdaptyClient) -> None:
    request = Request("PUT", "/x", query={"a": 1}, headers={"b": "c"}, body={"d": [None, 1.5]}, idempotent=True)
    response = await client.send(request)
    assert_type(response, Response)
    assert_type(response.status, int)
    assert_type(response.headers, Mapping[str, str])
    assert_type(response.body, bytes)
    assert_type(response.json(), Any)
    Request("GET", "/x", {"a": 1})  # type: ignore[call-arg]
    Request("GET", "/x", query={"a": 1.5})  # type: ignore[dict-item]


async def errors(client: AdaptyClient) -> None:
    try:
        await client.profiles.delete(customer_user_id="u1")
    except AdaptyAPIError as error:
        assert_type(error.status, int)
        assert_type(error.code, str | None)
        assert_type(error.errors, tuple[FieldErrors, ...])
        assert_type(error.request_id, str | None)
        assert_type(error.retry_after, float | None)
    except LocalRateLimitError as error:
        assert_type(error.retry_after, float)
        error.status  # type: ignore[attr-defined]  # noqa: B018 - it isn't a response of the API
    except (AdaptyConnectionError, AdaptyTimeoutError) as error:
        assert_type(error.sent, bool)
    except AdaptyError as error:
        assert_type(error.attempts, int)
        assert_type(error.maybe_executed, bool)


def observer(attempt: Attempt) -> None:
    assert_type(attempt.status, int | None)
    assert_type(attempt.error, str | None)
    assert_type(attempt.retry_in, float | None)


def observing() -> AdaptyClient:
    AdaptyClient("key", on_attempt=lambda: None)  # type: ignore[misc, arg-type]
    return AdaptyClient("key", on_attempt=observer)


def narrowing(attributes: ProfileAttributes, profile: Profile, at: datetime) -> None:
    if attributes.first_name is not UNSET:
        assert_type(attributes.first_name, str | None)
    assert_type(profile.has_access("premium", at=at), bool)
