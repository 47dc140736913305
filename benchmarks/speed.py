"""A benchmark of the library against hand-written code: the cost of retries, pacing, outcomes, a ledger, and a call.

In speed_bench, bulk.py compares bulk deletions, single.py single calls of one or many callers, and loading.py the
parsing of responses. scale.py measures jobs of increasing size, and startup.py the time until the first output or
request. rounds.py runs them, server.py responds to them, and bars.py defines the targets. pictures.py and report.py
write the results.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.speed_bench import bulk, loading, scale, single, startup
from benchmarks.speed_bench.bars import asked_table, misses
from benchmarks.speed_bench.part import Part
from benchmarks.speed_bench.report import all_figures, machine, section, write
from benchmarks.speed_bench.server import static_server

_Run: TypeAlias = Callable[[argparse.Namespace, str], Part]
"""Runs a part with the given arguments, against the server at a URL."""

PARTS: Final[Mapping[str, _Run]] = {
    "bulk": lambda arguments, url: bulk.part(url, arguments.rounds, arguments.ids),
    "single": lambda arguments, url: single.part(url, arguments.rounds, arguments.calls),
    "loading": lambda arguments, url: loading.part(arguments.rounds),
    "scale": lambda arguments, url: scale.part(arguments.rounds, largest=arguments.largest),
    "startup": lambda arguments, url: startup.part(2 * arguments.rounds),
}


def run(arguments: argparse.Namespace, url: str) -> Iterator[Part]:
    """Run the requested parts and print each."""
    for name in arguments.only or PARTS:
        part = PARTS[name](arguments, url)
        print(*section(part), sep="\n", flush=True)
        yield part


def main() -> int:
    """Parse the arguments, measure, and print. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=5, help="processes per measurement, twice as many in startup (default: 5)"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--ids", type=int, default=20_000, help="IDs of a bulk deletion (default: 20,000)")
    parser.add_argument("--calls", type=int, default=20_000, help="calls of each operation in single (default: 20,000)")
    parser.add_argument("--largest", action="store_true", help=f"one job of {scale.LARGEST:,} items in scale as well")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument(
        "--results",
        type=Path,
        help="write the results with pictures to this folder, and update the documentation",
    )
    arguments = parser.parse_args()
    if arguments.results and arguments.only:
        parser.error("--results are of all parts")
    with static_server() as (url, server):
        print(f"{machine()}; the server is {server}")
        parts = list(run(arguments, url))
    figures = all_figures(parts)
    print("", *asked_table(figures), sep="\n")
    if arguments.results:
        write(arguments.results, parts, server)
    missed = list(misses(figures)) if arguments.check else []
    for miss in missed:
        print(f"not met: {miss}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
