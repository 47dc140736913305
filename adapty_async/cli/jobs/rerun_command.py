"""The command that sends a failed rows file as a new job."""

from pathlib import Path

import attrs

from ..inputs.format_detection import infer_format
from ..inputs.input_types import Format, InputSchema
from ..options import FormatName
from .failed_rows_file import get_failures_format
from .job_options import JobOptions, build_exclude_cli_options, build_input_cli_options
from .ledger_access import format_command


def format_rerun_command(job_options: JobOptions, failures: Path, schema: InputSchema) -> str:
    """Return a shell command that sends the failed rows and reads them as they were read in the input."""
    format_ = get_failures_format(schema)
    is_implied = format_ is (infer_format(failures) or Format.CSV)
    # Excluded IDs are never among the failed rows.
    rerun_options = attrs.evolve(
        job_options,
        input_options=attrs.evolve(job_options.input_options, format=None if is_implied else FormatName(format_)),
        allowances=attrs.evolve(job_options.allowances, unmatched_exclude=True),
    )
    return format_command(
        job_options.operation,
        failures,
        *build_input_cli_options(rerun_options),
        *build_exclude_cli_options(rerun_options),
    )
