"""The arguments and options that commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias
from uuid import UUID

import typer


class FormatName(StrEnum):
    """The format of a file."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    IDS = "ids"
    PARQUET = "parquet"


class Purpose(StrEnum):
    """The operation that a file is meant for."""

    DELETE = "delete"
    UPDATE = "update"
    CREATE = "create"
    GET = "get"


class IdKind(StrEnum):
    """The type of IDs."""

    CUSTOMER_USER_ID = "customer_user_id"
    PROFILE_ID = "profile_id"


File: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", show_default=False, help="File of ids; - is standard input.")
]
LedgerFile: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="LEDGER", show_default=False, help="The ledger of the job, as in people.csv.adapty.db."),
]
By: TypeAlias = Annotated[IdKind, typer.Option(help="What the ids are; also the column they stand in.")]
Column: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="The column they stand in.")]
FileFormat: TypeAlias = Annotated[
    FormatName | None,
    typer.Option("--format", help="What FILE is, where its name doesn't tell; else it is read as CSV."),
]
OtherColumn: TypeAlias = Annotated[
    str | None, typer.Option("--column", metavar="NAME", help="The column of the ids, where it was renamed.")
]
Exclude: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="File of ids that must not be sent, as of people under legal hold; again for more."
    ),
]
AcceptDamaged: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--accept-damaged", help="Leave out rows with a damaged id, as 1.23E+15, instead of refusing the file."
    ),
]
AllowInvisible: TypeAlias = Annotated[
    bool, typer.Option("--allow-invisible", help="Send ids with invisible characters in them, such as U+200B.")
]
AllowRounded: TypeAlias = Annotated[
    bool, typer.Option("--allow-rounded", help="Send ids of 16 digits and more although all of them end in 0.")
]
AllowUnmatchedExclude: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-unmatched-exclude",
        help="Proceed although no id of an exclude list is in FILE, or one differs only by case or white space.",
    ),
]
Concurrency: TypeAlias = Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Most requests under way.")]
OtherConcurrency: TypeAlias = Annotated[
    int | None, typer.Option(min=1, max=1000, metavar="N", help="Most requests under way.")
]
TIMEOUT = typer.Option(min=0.1, max=600, metavar="SECONDS", help="How long a request may take.")
Timeout: TypeAlias = Annotated[float, TIMEOUT]
OtherTimeout: TypeAlias = Annotated[float | None, TIMEOUT]
PACE = typer.Option(
    metavar="PACE",
    help="background: 7 tenths of the limit, the rest is for your app; full: all of it; or requests a second.",
)
Pace: TypeAlias = Annotated[str, PACE]
OtherPace: TypeAlias = Annotated[str | None, PACE]
MaxRate: TypeAlias = Annotated[
    str | None, typer.Option(metavar="RATE", show_default=False, help="Never more requests a second than this.")
]
Failures: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="New file for the rows that failed, with all their columns; feed it back later."),
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Don't ask first; up to 10,000 profiles.")]
Expect: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Go on only where it is N profiles; plan prints the number.")
]
Max: TypeAlias = Annotated[
    int | None, typer.Option("--max", min=1, metavar="N", help="Go on only where it is N profiles at most.")
]
MaxFailures: TypeAlias = Annotated[
    str | None, typer.Option(metavar="N|N%", help="Stop a run when more rows fail; without it, when more than 20% do.")
]
MaxAbsent: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="N%", help="Stop when more rows have no profile; without it, when more than 50% have none."),
]
NoCanary: TypeAlias = Annotated[
    bool,
    typer.Option("--no-canary", help="Don't wait for the first 100 of more than 1,000 to be judged before the rest."),
]
App: TypeAlias = Annotated[
    UUID | None, typer.Option(metavar="UUID", help="Make sure first that a listed person is of this app.")
]
Ledger: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="LEDGER", show_default="FILE.adapty.db", help="New file that keeps what becomes of it."),
]
NoLedger: TypeAlias = Annotated[
    bool, typer.Option("--no-ledger", help="Keep nothing: what is ended can't be gone on with.")
]
Operator: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="For the record: who does it.")]
Request: TypeAlias = Annotated[str | None, typer.Option(metavar="TEXT", help="For the record: on whose request.")]
Input: TypeAlias = Annotated[
    Path | None, typer.Option("--input", metavar="FILE", help="The input of the job, where it was moved.")
]
NewKey: TypeAlias = Annotated[
    bool, typer.Option("--new-key", help="The key was exchanged; a listed person must be of the same app as before.")
]
Known: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        show_default=False,
        help="Somebody who exists in the app, for --new-key where no listed one does; - reads the id from standard "
        "input, so that no shell keeps it.",
    ),
]

Attributes: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="The columns that are attributes, or none; without it all are, but for the ids'.",
        show_default=False,
    ),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set an attribute in all rows; again for more.", show_default=False
    ),
]
Null: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Cells with this text mean null: the attribute is cleared. In JSON lines write null.",
        show_default=False,
    ),
]
Empty: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Cells with this text mean an empty text.", show_default=False)
]
