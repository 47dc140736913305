"""The arguments and options that commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import typer


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
Column: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column of the IDs, if it has another name.")
]
FileFormat: TypeAlias = Annotated[
    FormatName | None,
    typer.Option("--format", show_default="by the file name, otherwise CSV", help="Format of FILE."),
]
ColumnOverride: TypeAlias = Annotated[
    str | None, typer.Option("--column", metavar="NAME", help="The new name of the ID column, if it was renamed.")
]
Exclude: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="File of IDs that must not be sent, such as a legal hold. Can be repeated."),
]
SkipDamaged: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--skip-damaged",
        help="Skip rows with an ID shortened by a spreadsheet (1.23E+15), instead of refusing the file.",
    ),
]
AllowInvisible: TypeAlias = Annotated[
    bool, typer.Option("--allow-invisible", help="Send IDs that contain invisible characters, such as U+200B.")
]
AllowRounded: TypeAlias = Annotated[
    bool, typer.Option("--allow-rounded", help="Send IDs of 16 or more digits even if all of them end in 0.")
]
AllowUnmatchedExclude: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-unmatched-exclude",
        help="Proceed even if no ID of an exclude list is in FILE, or one differs only by case or white space.",
    ),
]
Concurrency: TypeAlias = Annotated[
    int, typer.Option(min=1, max=1000, metavar="N", help="Maximum number of requests in flight.")
]
ConcurrencyOverride: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=1000, metavar="N", help="Maximum number of requests in flight.")
]
TIMEOUT_OPTION = typer.Option(min=0.1, max=600, metavar="SECONDS", help="Time limit of a request.")
Timeout: TypeAlias = Annotated[float, TIMEOUT_OPTION]
TimeoutOverride: TypeAlias = Annotated[float | None, TIMEOUT_OPTION]
PACE_OPTION = typer.Option(
    metavar="PACE",
    help="How fast to send: background (70% of the rate limit), full (all of it), or a number of requests per second.",
)
Pace: TypeAlias = Annotated[str, PACE_OPTION]
PaceOverride: TypeAlias = Annotated[str | None, PACE_OPTION]
MaxRate: TypeAlias = Annotated[
    str | None, typer.Option(metavar="RATE", show_default=False, help="Upper limit, in requests per second.")
]
Failures: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write failed rows to this new file, with all their columns, so that they can be retried."
    ),
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation (up to 10,000 profiles).")]
Expect: TypeAlias = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Stop unless there are exactly N profiles (plan prints the number)."),
]
MaxProfiles: TypeAlias = Annotated[
    int | None, typer.Option("--max", min=1, metavar="N", help="Stop if there are more than N profiles.")
]
_MAX_FAILURES: Final = "Stop when more than N rows, or N% of them, have failed."
MaxFailures: TypeAlias = Annotated[str | None, typer.Option(metavar="N|N%", show_default="20%", help=_MAX_FAILURES)]
OtherMaxFailures: TypeAlias = Annotated[str | None, typer.Option(metavar="N|N%", help=_MAX_FAILURES)]
_MAX_ABSENT: Final = "Stop when more than N% of the rows have no profile."
MaxAbsent: TypeAlias = Annotated[str | None, typer.Option(metavar="N%", show_default="50%", help=_MAX_ABSENT)]
OtherMaxAbsent: TypeAlias = Annotated[str | None, typer.Option(metavar="N%", help=_MAX_ABSENT)]
NoCanary: TypeAlias = Annotated[
    bool,
    typer.Option("--no-canary", help="Don't wait for the first 100 results (jobs of more than 1,000 profiles)."),
]
App: TypeAlias = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="First check that a listed profile belongs to this app.")
]
Ledger: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="LEDGER", show_default="FILE.adapty.db", help="New file that records the job."),
]
NoLedger: TypeAlias = Annotated[bool, typer.Option("--no-ledger", help="Keep no ledger: the job can't be resumed.")]
Operator: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="Your name, for the record.")]
Request: TypeAlias = Annotated[str | None, typer.Option(metavar="TEXT", help="Who requested the job, for the record.")]
Input: TypeAlias = Annotated[
    Path | None, typer.Option("--input", metavar="FILE", help="The input of the job, if it was moved.")
]
NewKey: TypeAlias = Annotated[
    bool, typer.Option("--new-key", help="Use another key of the same app, which is checked with a listed profile.")
]
WitnessId: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        show_default=False,
        help="ID of a profile that exists in the app, for --new-key if no listed one does; - reads it from standard "
        "input, which keeps it out of the shell history.",
    ),
]

Attributes: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Columns that are attributes, or none.",
        show_default="all except the ID column",
    ),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set an attribute in all rows. Can be repeated.", show_default=False
    ),
]
Null: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Cells with this text mean null, which clears the attribute. In JSON lines, write null.",
        show_default=False,
    ),
]
Empty: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Cells with this text mean an empty string.", show_default=False)
]
