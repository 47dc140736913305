"""Bulk jobs over an API that takes one profile per request: concurrent, lazy, in constant memory."""

from .api import create_profiles, delete_profiles, get_profiles, job_spec, run, update_profiles
from .engine import BulkJob
from .job_store import JobSpec, JobStore
from .outcomes import Outcome
from .results import BulkReport, ItemResult, Latency, SkippedItem
from .stop_rules import StopReason, StopRules

__all__ = [
    "BulkJob",
    "BulkReport",
    "ItemResult",
    "JobSpec",
    "JobStore",
    "Latency",
    "Outcome",
    "SkippedItem",
    "StopReason",
    "StopRules",
    "create_profiles",
    "delete_profiles",
    "get_profiles",
    "job_spec",
    "run",
    "update_profiles",
]
