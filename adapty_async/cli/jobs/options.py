"""The job options: the arguments of the command line, which the ledger stores so that the job can be resumed."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from ...bulk.operations import DELETE, OPERATIONS, AnyOperation, IdType
from ..exit_codes import CommandError
from ..inputs.allowances import Allowances
from ..inputs.attribute_mapping import AttributeOptions
from ..inputs.bulk_input import JobInput
from ..inputs.changes import ChangeInput
from ..inputs.ids import open_id_input
from ..inputs.json_objects import JsonIdInput
from ..inputs.rows import NO_EXCLUDED_IDS, ExcludedIds, Format
from .guards import Guards
from .pace import Pace
from .stored_paths import FileLocator, dump_path, get_real_path


@attrs.frozen(kw_only=True)
class JobOptions:
    """The options of a bulk job.

    Attributes:
        operation: The name of the operation.
        assignment: The attributes to write, or None if the operation writes none.
        file: The input, or None if it is the spool next to the ledger.
        by: The type of the IDs.
        column: The column of the IDs.
        pace: How fast to send.
        concurrency: The maximum number of requests in flight.
        timeout: The time limit of a request, in seconds.
        guards: The guards of the job.
        exclude: The exclude lists by name.
        exclude_column: The column of the IDs in the exclude lists.
        accept_damaged: Whether rows with a damaged ID are skipped instead of refusing the file.
        allows: Which suspicious input is accepted.
        format: The format of the input, or None to derive it from the file's name.
        operator: Who runs the job, for the record.
        request: Who requested the job, for the record.
        failures: The file for the failed rows.
    """

    operation: str = DELETE.name
    assignment: AttributeOptions | None = None
    file: Path | None
    by: IdType
    column: str | None
    pace: Pace
    concurrency: int = 100
    timeout: float = 30.0
    guards: Guards = attrs.field(factory=Guards)
    exclude: Mapping[str, Path] = attrs.field(factory=dict[str, Path])
    exclude_column: str | None = None
    accept_damaged: bool = False
    allows: Allowances = attrs.field(factory=Allowances)
    format: Format | None = None
    operator: str | None = None
    request: str | None = None
    failures: Path | None = None

    @property
    def operation_spec(self) -> AnyOperation:
        """The operation on each profile."""
        return OPERATIONS[self.operation]

    def with_exclude_lists(self, files: Iterable[Path]) -> "JobOptions":
        """Add exclude lists. Each is named after its file, or after its path if the name is taken."""
        lists = dict(self.exclude)
        for file in files:
            if file not in lists.values():
                name = _escape_name(file.name)
                lists[_escape_name(str(file)) if name in lists else name] = file
        return attrs.evolve(self, exclude=lists)

    def to_dict(self, ledger: Path) -> dict[str, Any]:
        """Return the options as a JSON object, to be stored in the ledger."""

        def convert_value(_: object, __: object, value: Any) -> Any:
            return dump_path(value, ledger) if isinstance(value, Path) else value

        return {**attrs.asdict(self, value_serializer=convert_value), "ledger": get_real_path(ledger)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], ledger: Path) -> "JobOptions":
        """Read the result of `to_dict`, with the current paths of the files."""
        fields = dict(data)
        locator = FileLocator(ledger, fields.pop("ledger"))
        return cls(
            **{
                **fields,
                "file": None if data["file"] is None else locator.find(data["file"]),
                "pace": Pace(**data["pace"]),
                "guards": Guards(**data["guards"]),
                "allows": Allowances(**data["allows"]),
                "exclude": {name: locator.find(entry) for name, entry in data["exclude"].items()},
                "assignment": None if data["assignment"] is None else AttributeOptions.from_dict(data["assignment"]),
                "format": None if data["format"] is None else Format(data["format"]),
                "failures": None if data["failures"] is None else locator.find(data["failures"]),
            }
        )


def _escape_name(name: str) -> str:
    """Return a file name as printable text. It may contain bytes that aren't UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def check_id_type(operation: str, by: IdType) -> None:
    """Refuse a type of ID that the operation doesn't support. Raises CommandError."""
    spec = OPERATIONS[operation]
    if by not in spec.id_types:
        label = spec.id_types[0].replace("_id", " ID").replace("_", " ")
        raise CommandError(f"profiles can only be {spec.participle} by {label}: pass --by {spec.id_types[0]}")


def build_input_cli_options(job_options: JobOptions) -> list[str]:
    """Return the options that determine how the rows are read."""
    column = [] if job_options.column is None else ["--column", job_options.column]
    format_ = [] if job_options.format is None else ["--format", job_options.format]
    attribute_options = [] if job_options.assignment is None else job_options.assignment.to_cli_options()
    allows = attrs.evolve(job_options.allows, unmatched_exclude=False)  # doesn't affect how the rows are read
    return ["--by", job_options.by, *column, *format_, *attribute_options, *allows.to_cli_options()]


def build_exclude_cli_options(job_options: JobOptions) -> list[str]:
    """Return the options that name the exclude lists. One that can't be read again, as from <(...), is called FILE."""
    allows = Allowances(unmatched_exclude=job_options.allows.unmatched_exclude and bool(job_options.exclude))
    files = ("FILE" if file.exists() and not file.is_file() else str(file) for file in job_options.exclude.values())
    return [*(word for file in files for word in ("--exclude", file)), *allows.to_cli_options()]


@contextlib.contextmanager
def open_job_input(
    job_options: JobOptions,
    file: Path,
    *,
    excluded_ids: ExcludedIds = NO_EXCLUDED_IDS,
    name: str | None = None,
    implied_format: Format | None = None,
) -> Iterator[JobInput]:
    """Open the input of a job.

    `implied_format`: the format if `--format` isn't given. The rest as in `open_id_input`.
    """
    with open_id_input(
        file,
        by=job_options.by,
        column=job_options.column,
        skip_damaged=job_options.accept_damaged,
        allow_invisible=job_options.allows.invisible,
        excluded_ids=excluded_ids,
        format=job_options.format or implied_format,
        name=name,
    ) as id_input:
        if job_options.assignment is None:
            yield id_input
            return
        if id_input.read_schema().format is Format.JSONL:
            id_input = JsonIdInput(
                id_input.file,
                id_input.name,
                by=job_options.by,
                column=job_options.column,
                skip_damaged=job_options.accept_damaged,
                allow_invisible=job_options.allows.invisible,
                excluded_ids=excluded_ids,
            )
        yield ChangeInput(
            id_input, job_options.assignment, may_be_empty=not job_options.operation_spec.needs_attributes
        )
