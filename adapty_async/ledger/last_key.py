"""The API key of a job.

This is the last key that may have had an effect, or that was shown to belong to the job's app.
"""

import json
from collections.abc import Sequence
from typing import Final

from .store import JobRow, RunRow

APP_ID: Final = "app_id"
"""The note of a run with the app that its key was shown to belong to."""
ABSENT_SHARE: Final = "absent_share"
"""The note of a run with the share of absent profiles that its operator accepts."""


def last_key(job: JobRow, runs: Sequence[RunRow]) -> str:
    """Return the fingerprint of the job's key, or of the first key of the job if no key qualifies."""
    counting = (run.key_fingerprint for run in reversed(runs) if run.touched or APP_ID in json.loads(run.notes))
    return next(counting, job.key_fingerprint)
