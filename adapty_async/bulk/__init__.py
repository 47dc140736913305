"""Bulk jobs over an API that takes one profile per request: concurrent, lazy, in constant memory."""

from .api import create_profiles, delete_profiles, get_profiles, run, update_profiles
from .engine import BulkJob
from .results import BulkReport, Decided, ItemResult, Latency, Outcome, StopReason, StopRules

__all__ = [
    "BulkJob",
    "BulkReport",
    "Decided",
    "ItemResult",
    "Latency",
    "Outcome",
    "StopReason",
    "StopRules",
    "create_profiles",
    "delete_profiles",
    "get_profiles",
    "run",
    "update_profiles",
]
