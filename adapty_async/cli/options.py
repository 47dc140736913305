"""The arguments and options of the commands. Each is declared here once, in a group if several commands share it.

Annotations must not be postponed here, because the groups are read when the commands are declared.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias
from uuid import UUID

import attrs
import typer

from .option_group_conversion import Overrides, Without


class FormatName(StrEnum):
    """The format of a file."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    IDS = "ids"
    PARQUET = "parquet"


class TargetCommand(StrEnum):
    """The operation that a file is meant for."""

    DELETE = "delete"
    UPDATE = "update"
    CREATE = "create"
    GET = "get"


class IdTypeName(StrEnum):
    """The type of IDs."""

    CUSTOMER_USER_ID = "customer_user_id"
    PROFILE_ID = "profile_id"


File: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", show_default=False, help="File of IDs; - is standard input.")
]
LedgerFile: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="LEDGER", show_default=False, help="Ledger of the job, such as people.csv.adapty.db."),
]
By: TypeAlias = Annotated[IdTypeName, typer.Option(help="Type of the IDs, and the column they are in.")]
Exclude: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="File of IDs that must not be sent, such as a legal hold. Can be repeated."),
]
Failures: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write failed rows to this new file, with all their columns, so that they can be retried."
    ),
]
App: TypeAlias = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="First check that a listed profile belongs to this app.")
]
Input: TypeAlias = Annotated[
    Path | None, typer.Option("--input", metavar="FILE", help="The input of the job, if it was moved.")
]


@attrs.frozen(kw_only=True)
class InputOptions:
    """How FILE is read."""

    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of the IDs, if it has another name.")
    ] = None
    format: Annotated[
        FormatName | None, typer.Option(show_default="by the file name, otherwise CSV", help="Format of FILE.")
    ] = None


@attrs.frozen(kw_only=True)
class AttributeOptions:
    """The attributes of the profiles that update and create write."""

    attributes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Columns that are attributes, or none.", show_default="all except the ID column"
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Set an attribute in all rows. Can be repeated.", show_default=False),
    ] = None
    null: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Cells with this text mean null, which clears the attribute. In JSON lines, write null.",
            show_default=False,
        ),
    ] = None
    empty: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Cells with this text mean an empty string.", show_default=False)
    ] = None


@attrs.frozen(kw_only=True)
class Allowances:
    """Findings that don't refuse a file.

    `damaged`: rows with damaged IDs, which are skipped. `invisible`: invisible characters in IDs. `rounded`: long IDs
    that end in zeros. `unmatched_exclude`: an exclude list without any ID of the input, or with one that is nearly the
    same as an ID of the input.
    """

    damaged: Annotated[
        bool,
        typer.Option(
            "--skip-damaged",
            help="Skip rows with an ID shortened by a spreadsheet (1.23E+15), instead of refusing the file.",
        ),
    ] = False
    invisible: Annotated[
        bool, typer.Option("--allow-invisible", help="Send IDs that contain invisible characters, such as U+200B.")
    ] = False
    rounded: Annotated[
        bool, typer.Option("--allow-rounded", help="Send IDs of 16 or more digits even if all of them end in 0.")
    ] = False
    unmatched_exclude: Annotated[
        bool,
        typer.Option(
            "--allow-unmatched-exclude",
            help="Proceed even if no ID of an exclude list is in FILE, or one differs only by case or white space.",
        ),
    ] = False


@attrs.frozen(kw_only=True)
class SpeedOptions:
    """How fast requests are sent, and how long each may take."""

    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Maximum number of requests in flight.")
    ] = 100
    timeout: Annotated[float, typer.Option(min=0.1, max=600, metavar="SECONDS", help="Time limit of a request.")] = 30.0
    pace: Annotated[
        str,
        typer.Option(
            metavar="PACE",
            help="How fast to send: background (70% of the rate limit), full (all of it), or a number of requests per "
            "second.",
        ),
    ] = "background"
    max_rate: Annotated[
        str | None, typer.Option(metavar="RATE", show_default=False, help="Upper limit, in requests per second.")
    ] = None


@attrs.frozen(kw_only=True)
class GuardOptions:
    """The limits that stop a job or refuse it."""

    expect: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop unless there are exactly N profiles (plan prints the number)."),
    ] = None
    max_profiles: Annotated[
        int | None, typer.Option("--max", min=1, metavar="N", help="Stop if there are more than N profiles.")
    ] = None
    max_failures: Annotated[
        str | None,
        typer.Option(
            metavar="N|N%", show_default="20%", help="Stop when more than N rows, or N% of them, have failed."
        ),
    ] = None
    max_absent: Annotated[
        str | None,
        typer.Option(metavar="N%", show_default="50%", help="Stop when more than N% of the rows have no profile."),
    ] = None
    no_canary: Annotated[
        bool,
        typer.Option("--no-canary", help="Don't wait for the first 100 results (jobs of more than 1,000 profiles)."),
    ] = False


@attrs.frozen(kw_only=True)
class LedgerOptions:
    """The ledger of a new job."""

    ledger: Annotated[
        Path | None,
        typer.Option(metavar="LEDGER", show_default="FILE.adapty.db", help="New file that records the job."),
    ] = None
    no_ledger: Annotated[bool, typer.Option("--no-ledger", help="Keep no ledger: the job can't be resumed.")] = False


@attrs.frozen(kw_only=True)
class RecordOptions:
    """The notes of a run for the record."""

    operator: Annotated[str | None, typer.Option(metavar="NAME", help="Your name, for the record.")] = None
    request: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Who or what requested the job, such as a ticket, for the record."),
    ] = None


@attrs.frozen(kw_only=True)
class NewKeyOptions:
    """Whether a job may be resumed or verified with another key."""

    new_key: Annotated[
        bool,
        typer.Option("--new-key", help="Use another key of the same app, which is checked with a listed profile."),
    ] = False
    witness_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            show_default=False,
            help="ID of a profile that exists in the app, for --new-key if no listed one does; - reads it from "
            "standard input, which keeps it out of the shell history.",
        ),
    ] = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class DebugOptions:
    """How errors are shown."""

    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors, without values.")] = False


@attrs.frozen(kw_only=True)
class ScreenOptions:
    """What a command shows while it runs."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only errors and the summary.")] = False


@attrs.frozen(kw_only=True)
class OutputOptions:
    """The output of a command that runs a job."""

    json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON lines: progress, log messages, and the end.")
    ] = False
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            metavar="FILE",
            help="Append a log to this private file: failed attempts, pauses, stops; no IDs.",
        ),
    ] = None


@attrs.frozen(kw_only=True)
class StartOptions:
    """The options of the commands that start a job: delete, update and create."""

    file: File
    by: By
    input_options: InputOptions = attrs.field(factory=InputOptions)
    attribute_options: AttributeOptions = attrs.field(factory=AttributeOptions)
    speed_options: SpeedOptions = attrs.field(factory=SpeedOptions)
    failures: Failures = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation (up to 10,000 profiles).")] = (
        False
    )
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Check the file as plan does, and send nothing.")] = (
        False
    )
    guard_options: GuardOptions = attrs.field(factory=GuardOptions)
    exclude: Exclude = None
    app: App = None
    allowances: Allowances = attrs.field(factory=Allowances)
    ledger_options: LedgerOptions = attrs.field(factory=LedgerOptions)
    record_options: RecordOptions = attrs.field(factory=RecordOptions)


@attrs.frozen(kw_only=True)
class ResumeOptions:
    """The options of resume and retry-failed. What isn't given keeps its value from the earlier run."""

    ledger: LedgerFile
    file: Input = None
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The new name of the ID column, if it was renamed.")
    ] = None
    allow_appended: Annotated[
        bool, typer.Option("--allow-appended", help="Also send rows that were added at the end of the input.")
    ] = False
    new_key_options: NewKeyOptions = attrs.field(factory=NewKeyOptions)
    speed_options: Overrides[SpeedOptions] = attrs.field(factory=Overrides)
    failures: Failures = None
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --allow-appended: send the added rows without asking.")
    ] = False
    guard_options: Overrides[GuardOptions] = attrs.field(factory=Overrides)
    exclude: Exclude = None
    allowances: Annotated[Overrides[Allowances], Without("damaged")] = attrs.field(factory=Overrides)
    app: App = None
    record_options: Overrides[RecordOptions] = attrs.field(factory=Overrides)


@attrs.frozen(kw_only=True)
class PlanOptions:
    """The options of plan."""

    file: File
    by: By
    target_command: Annotated[TargetCommand, typer.Option("--for", help="Check the file as this command would.")] = (
        TargetCommand.DELETE
    )
    input_options: InputOptions = attrs.field(factory=InputOptions)
    attribute_options: AttributeOptions = attrs.field(factory=AttributeOptions)
    exclude: Exclude = None
    allowances: Allowances = attrs.field(factory=Allowances)
    speed_options: Annotated[SpeedOptions, Without("concurrency", "timeout")] = attrs.field(factory=SpeedOptions)
    probe: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, metavar="N", show_default=False, help="Get N of the profiles, from the whole file."
        ),
    ] = None


@attrs.frozen(kw_only=True)
class GetOptions:
    """The options of get."""

    file: File
    by: By
    input_options: InputOptions = attrs.field(factory=InputOptions)
    speed_options: SpeedOptions = attrs.field(factory=SpeedOptions)
    allowances: Annotated[Allowances, Without("unmatched_exclude")] = attrs.field(factory=Allowances)
