"""The API key that counts as the key of a job.

This is the last key that may have had an effect, or that was shown to belong to the job's app.
"""

import json
from collections.abc import Sequence
from typing import Final

from .store import JobRow, RunRow

APP_ID_NOTE: Final = "app_id"
"""The note of a run with the app that its key was shown to belong to."""
ABSENT_RATIO_NOTE: Final = "max_absent_ratio"
"""The note of a run with the share of absent profiles that its operator accepts."""


def get_last_key_fingerprint(job: JobRow, runs: Sequence[RunRow]) -> str:
    """Return the fingerprint of the job's key, or of the first key of the job if no key qualifies."""
    counting = (run.key_fingerprint for run in reversed(runs) if run.touched or APP_ID_NOTE in json.loads(run.notes))
    return next(counting, job.key_fingerprint)
