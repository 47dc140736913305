"""The format of a failed rows file, and the command that sends it as a new job."""

from pathlib import Path

import attrs

from ..inputs.allowances import Allowances
from ..inputs.formats import format_of_name
from ..inputs.json_objects import JsonReading
from ..inputs.rows import Format, Reading
from .ledger_files import command
from .options import Order, exclude_options, options_of


def format_of_failures(reading: Reading) -> Format:
    """Return the format in which the failed rows of an input are written."""
    return Format.JSONL if isinstance(reading, JsonReading) else Format.CSV


def feeding_back(order: Order, failures: Path, reading: Reading) -> str:
    """Return a shell command that sends the failed rows and reads them as they were read in the input."""
    format_ = format_of_failures(reading)
    is_told = format_ is (format_of_name(failures) or Format.CSV)
    # Excluded IDs are never among the failed rows.
    allows = order.allows | Allowances(unmatched_exclude=True)
    fed = attrs.evolve(order, format=None if is_told else format_, allows=allows)
    return command(order.operation, failures, *options_of(fed), *exclude_options(fed))
