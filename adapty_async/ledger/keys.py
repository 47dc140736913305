"""With which API key a job goes on: the last of which something may have come, or that was shown to be of its app."""

import json
from collections.abc import Sequence
from typing import Final

from .store import JobRow, RunRow

APP_ID: Final = "app_id"
"""The note of a run whose key was seen to be of that app."""
ABSENT_SHARE: Final = "absent_share"
"""The note of a run with the share of absent profiles that its operator accepts."""


def last_key(job: JobRow, runs: Sequence[RunRow]) -> str:
    """Give the fingerprint of the last key that counts; where none does, of the one that the job was begun with."""
    counting = (run.key_fingerprint for run in reversed(runs) if run.touched or APP_ID in json.loads(run.notes))
    return next(counting, job.key_fingerprint)
