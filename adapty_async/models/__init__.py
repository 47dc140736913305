"""The values that the API receives and returns."""

from .common import UNSET, FrozenMapping, OpenEnum, Unset, is_uuid_text
from .profile import (
    AccessLevel,
    AttributeValue,
    AttStatus,
    Environment,
    Gender,
    InstallationMeta,
    NonSubscription,
    Offer,
    OfferCategory,
    OfferType,
    Platform,
    Profile,
    ProfileAttributes,
    Store,
    Subscription,
)

__all__ = [
    "UNSET",
    "AccessLevel",
    "AttStatus",
    "AttributeValue",
    "Environment",
    "FrozenMapping",
    "Gender",
    "InstallationMeta",
    "NonSubscription",
    "Offer",
    "OfferCategory",
    "OfferType",
    "OpenEnum",
    "Platform",
    "Profile",
    "ProfileAttributes",
    "Store",
    "Subscription",
    "Unset",
    "is_uuid_text",
]
