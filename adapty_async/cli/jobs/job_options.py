"""The job options: the options of the command line, which the ledger stores so that the job can be resumed."""

import contextlib
import types
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import attrs

from ...bulk.operations import DELETE, OPERATIONS, AnyOperation, IdType
from ..exit_status import CommandError
from ..inputs.attribute_options import AttributeMapping
from ..inputs.change_input import ChangeInput
from ..inputs.id_input import open_id_input
from ..inputs.input_types import NO_EXCLUDED_IDS, ExcludedIds, Format, parse_format
from ..inputs.job_input import JobInput
from ..inputs.json_lines_with_attributes import JsonLinesWithAttributes
from ..option_group_conversion import to_cli_options
from ..options import (
    Allowances,
    AttributeOptions,
    GuardOptions,
    InputOptions,
    PlanOptions,
    RecordOptions,
    SpeedOptions,
    StartOptions,
)
from .guards import Guards
from .pace import Pace
from .stored_paths import FileLocator, dump_path, get_real_path


@attrs.frozen(kw_only=True)
class JobOptions:
    """The options of a bulk job. Raises CommandError if one is invalid.

    Attributes:
        operation: The name of the operation.
        file: The input, or None if it is the spool next to the ledger.
        by: The type of the IDs.
        input_options: How the input is read.
        attribute_options: The attributes to write, or None if the operation writes none.
        speed_options: How fast to send.
        guard_options: The guards of the job.
        exclude: The exclude lists by name.
        exclude_column: The column of the IDs in the exclude lists.
        allowances: Which suspicious input is accepted.
        app: The ID of the app that the profiles must belong to.
        record_options: The entries of the record.
        failures: The file for the failed rows.
    """

    operation: str = DELETE.name
    file: Path | None
    by: IdType
    input_options: InputOptions = attrs.field(factory=InputOptions)
    attribute_options: AttributeOptions | None = None
    speed_options: SpeedOptions = attrs.field(factory=SpeedOptions)
    guard_options: GuardOptions = attrs.field(factory=GuardOptions)
    exclude: Mapping[str, Path] = attrs.field(factory=dict[str, Path])
    exclude_column: str | None = None
    allowances: Allowances = attrs.field(factory=Allowances)
    app: str | None = None
    record_options: RecordOptions = attrs.field(factory=RecordOptions)
    failures: Path | None = None

    def __attrs_post_init__(self) -> None:
        _ = self.attribute_mapping, self.pace, self.guards

    @classmethod
    def from_options(cls, operation: str, options: StartOptions | PlanOptions) -> "JobOptions":
        """Return the options of a new job. Raises CommandError."""
        spec = OPERATIONS[operation]
        if options.by.value not in spec.id_types:
            label = spec.id_types[0].replace("_id", " ID").replace("_", " ")
            raise CommandError(f"profiles can only be {spec.participle} by {label}: pass --by {spec.id_types[0]}")
        job_options = cls(
            operation=operation,
            file=None,
            by=options.by.value,
            input_options=options.input_options,
            attribute_options=options.attribute_options if spec.has_attributes else None,
            speed_options=options.speed_options,
            exclude_column=options.input_options.column,
            allowances=options.allowances,
        )
        if isinstance(options, StartOptions):
            job_options = attrs.evolve(
                job_options,
                guard_options=options.guard_options,
                app=None if options.app is None else str(options.app),
                record_options=options.record_options,
                failures=options.failures,
            )
        return job_options.with_exclude_lists(options.exclude or ())

    @property
    def operation_spec(self) -> AnyOperation:
        """The operation on each profile."""
        return OPERATIONS[self.operation]

    @property
    def attribute_mapping(self) -> AttributeMapping | None:
        """The attributes to write, or None if the operation writes none."""
        return None if self.attribute_options is None else AttributeMapping.from_options(self.attribute_options)

    @property
    def pace(self) -> Pace:
        """The pace of the requests."""
        return Pace.from_options(self.speed_options.pace, self.speed_options.max_rate)

    @property
    def guards(self) -> Guards:
        """The guards of the job."""
        return Guards(self.guard_options)

    def with_exclude_lists(self, files: Iterable[Path]) -> "JobOptions":
        """Add exclude lists. Each is named after its file, or after its path if the name is taken."""
        lists = dict(self.exclude)
        for file in files:
            if file not in lists.values():
                name = _escape_name(file.name)
                lists[_escape_name(str(file)) if name in lists else name] = file
        return attrs.evolve(self, exclude=lists)

    def with_rounded_allowed(self, is_allowed: bool) -> "JobOptions":
        """Allow rounded IDs in later runs, too, if they were allowed once."""
        allowances = attrs.evolve(self.allowances, rounded=self.allowances.rounded or is_allowed)
        return attrs.evolve(self, allowances=allowances)

    def with_absolute_paths(self) -> "JobOptions":
        """Make the paths independent of the working directory."""
        failures = None if self.failures is None else self.failures.absolute()
        job_options = attrs.evolve(self, exclude={}, failures=failures)
        return job_options.with_exclude_lists(file.absolute() for file in self.exclude.values())

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
        job_options = _load_value(cls, fields, locator)
        assert isinstance(job_options, cls)
        return job_options


def _load_value(type_: Any, value: Any, locator: FileLocator) -> Any:
    """Read a stored value of a type. Raises KeyError, TypeError or ValueError if it is malformed."""
    if get_origin(type_) is Annotated:
        return _load_value(get_args(type_)[0], value, locator)
    if get_origin(type_) in (Union, types.UnionType):
        (type_,) = (each for each in get_args(type_) if each is not types.NoneType)
        return None if value is None else _load_value(type_, value, locator)
    if get_origin(type_) is Mapping:
        return {name: _load_value(get_args(type_)[1], each, locator) for name, each in value.items()}
    if isinstance(type_, type) and attrs.has(type_):
        fields = attrs.fields_dict(type_)
        return type_(**{name: _load_value(fields[name].type, each, locator) for name, each in value.items()})
    if type_ is Path:
        return locator.find(value)
    return type_(value) if isinstance(type_, type) and issubclass(type_, Enum) else value


def _escape_name(name: str) -> str:
    """Return a file name as printable text. It may contain bytes that aren't UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def build_input_cli_options(job_options: JobOptions) -> list[str]:
    """Return the options that determine how the rows are read."""
    attribute_options = job_options.attribute_options or AttributeOptions()
    allowances = attrs.evolve(job_options.allowances, damaged=False, unmatched_exclude=False)  # not how they are read
    groups = (job_options.input_options, attribute_options, allowances)
    return ["--by", job_options.by, *(word for group in groups for word in to_cli_options(group))]


def build_exclude_cli_options(job_options: JobOptions) -> list[str]:
    """Return the options that name the exclude lists. One that can't be read again, as from <(...), is called FILE."""
    allowances = Allowances(unmatched_exclude=job_options.allowances.unmatched_exclude and bool(job_options.exclude))
    files = ("FILE" if file.exists() and not file.is_file() else str(file) for file in job_options.exclude.values())
    return [*(word for file in files for word in ("--exclude", file)), *to_cli_options(allowances)]


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
    mapping = job_options.attribute_mapping
    with open_id_input(
        file,
        by=job_options.by,
        column=job_options.input_options.column,
        skip_damaged=job_options.allowances.damaged,
        allow_invisible=job_options.allowances.invisible,
        excluded_ids=excluded_ids,
        format=parse_format(job_options.input_options.format) or implied_format,
        name=name,
    ) as id_input:
        if mapping is None:
            yield id_input
            return
        if id_input.read_schema().format is Format.JSONL:
            id_input = JsonLinesWithAttributes(
                id_input.file,
                id_input.name,
                by=job_options.by,
                column=job_options.input_options.column,
                skip_damaged=job_options.allowances.damaged,
                allow_invisible=job_options.allowances.invisible,
                excluded_ids=excluded_ids,
            )
        yield ChangeInput(id_input, mapping, may_be_empty=not job_options.operation_spec.needs_attributes)
