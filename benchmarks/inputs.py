"""A benchmark of input checks: rows per second and peak memory, for each format, of a short and a long file.

Each check is the one of the command line, with its search for duplicates, in a process of its own. One of every 1,000
rows repeats an earlier ID.
"""

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from adapty_async.cli.inputs.id_input import open_id_input

SHORT: Final = 10_000
LONG: Final = 10_000_000
FORMATS: Final = ("csv", "jsonl", "parquet")
UNIT: Final = 1 if sys.platform == "darwin" else 1024
MOST_GROWTH: Final = 96.0
"""MiB of memory in addition to the short file's."""
MOST_CPU: Final = 3.0
"""Microseconds of CPU per row of the long file."""
_SPREAD: Final = 7_919_000_003
_REPEATED: Final = 1000
_ROW_GROUP: Final = 1_000_000


@attrs.frozen
class Cost:
    """The cost of a check: microseconds of CPU per row, seconds, and MiB."""

    cpu: float
    seconds: float
    memory: float


def ids(count: int) -> Iterator[str]:
    """Generate `count` IDs, distributed like those of a real list."""
    for number in range(count):
        which = number // 2 // _REPEATED * _REPEATED if number % _REPEATED == _REPEATED - 1 else number
        yield f"user-{which * _SPREAD % 10**12:012}@example.com"


def write(path: Path, count: int) -> None:
    """Write a file with `count` rows, in the format that its name implies."""
    if path.suffix == ".parquet":
        _write_parquet(path, count)
        return
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("name,customer_user_id\n")
            file.writelines(f"Ann,{id_}\n" for id_ in ids(count))
        else:
            file.writelines(f'{{"name": "Ann", "customer_user_id": "{id_}"}}\n' for id_ in ids(count))


def _write_parquet(path: Path, count: int) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    schema = arrow.schema([("name", arrow.string()), ("customer_user_id", arrow.string())])
    made = ids(count)
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, count, _ROW_GROUP):
            group = [next(made) for _ in range(min(_ROW_GROUP, count - start))]
            writer.write_table(arrow.table([["Ann"] * len(group), group], schema=schema))


def check(path: Path, count: int) -> Cost:
    """Check a file and return the cost."""
    cpu, began = time.process_time(), time.perf_counter()
    with open_id_input(path, by="customer_user_id") as opened:
        checked = opened.check()
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - began
    assert (checked.row_count, checked.duplicate_count) == (count, count // _REPEATED), checked
    return Cost(cpu / count * 1e6, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 2**20)


def apart(task: str, path: Path, count: int) -> str:
    """Run a task in a process of its own."""
    words = [sys.executable, __file__, "--alone", task, str(path), str(count)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - our own interpreter


def measure(kind: str, count: int, folder: Path) -> Cost:
    """Write a file and check it."""
    path = folder / f"{count}.{kind}"
    apart("write", path, count)
    cost = Cost(**json.loads(apart("check", path, count)))
    path.unlink()
    return cost


def main() -> int:
    """Parse the arguments, measure, and print. Return 1 if `--check` is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=LONG, help=f"rows of the long file (default: {LONG:,})")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--table", type=Path, help="also write the table to this file")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        task, path, count = arguments.alone
        if task == "write":
            write(Path(path), int(count))
        else:
            print(json.dumps(attrs.asdict(check(Path(path), int(count)))))
        return 0
    lines = [
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "",
        f"| format | rows | CPU, µs per row | rows per second | memory, MiB | more than for {SHORT:,} rows |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS:
            short = measure(kind, SHORT, Path(folder))
            long = measure(kind, arguments.rows, Path(folder))
            growth, rate = long.memory - short.memory, arguments.rows / long.seconds
            figures = f"{arguments.rows:,} | {long.cpu:.2f} | {rate:,.0f} | {long.memory:.0f} | {growth:.0f}"
            lines.append(f"| {kind} | {figures} |")
            print(lines[-1], flush=True)
            if growth > MOST_GROWTH:
                missed.append(f"{kind}: {growth:.0f} MiB more than the short file, more than {MOST_GROWTH:.0f}")
            if long.cpu > MOST_CPU:
                missed.append(f"{kind}: {long.cpu:.2f} microseconds of CPU per row, more than {MOST_CPU:.0f}")
    if arguments.table:
        arguments.table.parent.mkdir(parents=True, exist_ok=True)
        arguments.table.write_text("\n".join(lines) + "\n", "utf-8")
    for miss in missed:
        print(miss, file=sys.stderr)
    return 1 if missed and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
