"""Loading a profile: the library's model, json.loads alone, and pydantic and msgspec with the same fields.

Run as `python -m benchmarks.speed_bench.loading LOOPS`, it prints the microseconds of each as JSON. Unknown enum values
must be accepted, so pydantic and msgspec read enums as text.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

import msgspec
import pydantic

from adapty_async.models.codec import load_profile
from benchmarks.speed_bench.part import Chart, Part, table
from benchmarks.speed_bench.profiles import LARGE, SMALL
from benchmarks.speed_bench.rounds import Figures, run_apart, together

AttributeValue: TypeAlias = str | float | None

OURS: Final = "adapty_async"
BODIES: Final = {"1.7 kB": SMALL, "200 purchases": LARGE}
_TURNS: Final = 10


class _PydanticAttribute(pydantic.BaseModel):
    key: str
    value: AttributeValue


class _PydanticOffer(pydantic.BaseModel):
    category: str | None = None
    type: str | None = None
    id: str | None = None


class _PydanticPurchase(pydantic.BaseModel):
    store: str | None = None
    store_product_id: str | None = None
    store_base_plan_id: str | None = None
    store_transaction_id: str | None = None
    store_original_transaction_id: str | None = None
    environment: str | None = None
    purchased_at: datetime | None = None


class _PydanticSubscription(_PydanticPurchase):
    offer: _PydanticOffer | None = None
    originally_purchased_at: datetime | None = None
    expires_at: datetime | None = None
    renewal_cancelled_at: datetime | None = None
    billing_issue_detected_at: datetime | None = None
    is_in_grace_period: bool | None = False
    cancellation_reason: str | None = None


class _PydanticAccessLevel(_PydanticSubscription):
    access_level_id: str | None = None
    starts_at: datetime | None = None


class _PydanticNonSubscription(_PydanticPurchase):
    purchase_id: UUID | None = None
    is_refund: bool | None = False
    is_consumable: bool | None = False


class _PydanticProfile(pydantic.BaseModel):
    app_id: UUID
    profile_id: UUID
    customer_user_id: str | None = None
    total_revenue_usd: float | None = 0.0
    segment_hash: str | None = ""
    timestamp: int | None = 0
    custom_attributes: tuple[_PydanticAttribute, ...] | None = ()
    access_levels: tuple[_PydanticAccessLevel, ...] | None = ()
    subscriptions: tuple[_PydanticSubscription, ...] | None = ()
    non_subscriptions: tuple[_PydanticNonSubscription, ...] | None = ()


class _PydanticAnswer(pydantic.BaseModel):
    data: _PydanticProfile


class _StructAttribute(msgspec.Struct):
    key: str
    value: AttributeValue


class _StructOffer(msgspec.Struct):
    category: str | None = None
    type: str | None = None
    id: str | None = None


class _StructPurchase(msgspec.Struct):
    store: str | None = None
    store_product_id: str | None = None
    store_base_plan_id: str | None = None
    store_transaction_id: str | None = None
    store_original_transaction_id: str | None = None
    environment: str | None = None
    purchased_at: datetime | None = None


class _StructSubscription(_StructPurchase):
    offer: _StructOffer | None = None
    originally_purchased_at: datetime | None = None
    expires_at: datetime | None = None
    renewal_cancelled_at: datetime | None = None
    billing_issue_detected_at: datetime | None = None
    is_in_grace_period: bool | None = False
    cancellation_reason: str | None = None


class _StructAccessLevel(_StructSubscription):
    access_level_id: str | None = None
    starts_at: datetime | None = None


class _StructNonSubscription(_StructPurchase):
    purchase_id: UUID | None = None
    is_refund: bool | None = False
    is_consumable: bool | None = False


class _StructProfile(msgspec.Struct):
    app_id: UUID
    profile_id: UUID
    customer_user_id: str | None = None
    total_revenue_usd: float | None = 0.0
    segment_hash: str | None = ""
    timestamp: int | None = 0
    custom_attributes: tuple[_StructAttribute, ...] | None = ()
    access_levels: tuple[_StructAccessLevel, ...] | None = ()
    subscriptions: tuple[_StructSubscription, ...] | None = ()
    non_subscriptions: tuple[_StructNonSubscription, ...] | None = ()


class _StructAnswer(msgspec.Struct):
    data: _StructProfile


_decoder: Final = msgspec.json.Decoder(_StructAnswer)

LOADERS: Final[dict[str, Callable[[bytes], object]]] = {
    OURS: load_profile,
    "json.loads": json.loads,
    "pydantic": lambda body: _PydanticAnswer.model_validate_json(body).data,
    "msgspec": lambda body: _decoder.decode(body).data,
}


def measure(loops: int) -> dict[str, Figures]:
    """Run the loaders in turn on each body."""
    spent = {key_of(size, loader): 0.0 for size in BODIES for loader in LOADERS}
    for size, body in BODIES.items():
        for load in LOADERS.values():
            load(body)
        for number in range(_TURNS):
            for name in LOADERS if number % 2 else reversed(LOADERS):
                spent[key_of(size, name)] += _time(LOADERS[name], body, loops)
    return {key: {"us": seconds / (_TURNS * loops) * 1e6} for key, seconds in spent.items()}


def _time(load: Callable[[bytes], object], body: bytes, loops: int) -> float:
    began = time.process_time()
    for _ in range(loops):
        load(body)
    return time.process_time() - began


def key_of(size: str, loader: str) -> str:
    """Return the name of the figure of a loader and a body."""
    return f"{size}, {loader}"


def part(rounds: int, loops: int = 200) -> Part:
    """Measure in several processes."""
    found = together(run_apart("loading", loops) for _ in range(rounds))
    medians = {loader: [found.median("us", key_of(size, loader)) for size in BODIES] for loader in LOADERS}
    ratios = {
        loader: [found.ratio("us", key_of(size, loader), key_of(size, "json.loads")) for size in BODIES]
        for loader in LOADERS
    }
    return Part(
        title="Loading a profile",
        says=f"From the bytes of a response to a model, compared with json.loads, which creates no model, in {rounds} "
        "processes. pydantic and msgspec parse the JSON themselves, in Rust and C.",
        table=table(
            ["", *(f"{size}, µs" for size in BODIES), *(f"{size} / json.loads" for size in BODIES)],
            [
                [loader, *(f"{each:.1f}" for each in medians[loader]), *(f"{each:.2f}" for each in ratios[loader])]
                for loader in LOADERS
            ],
        ),
        figures={f"load {size}": each for size, each in zip(BODIES, ratios[OURS], strict=True)},
        charts=[
            Chart(
                file="loading.png",
                title="Loading a profile, compared with json.loads",
                unit="times json.loads",
                groups=list(BODIES),
                bars=ratios,
            )
        ],
    )


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
