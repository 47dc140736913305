"""A benchmark of the pacers: how close they come to a hidden limit, and how many 429s that takes, in virtual time.

Goodput is accepted / allowed after the start, which is 20 s, or longer at high and very low limits. Refused is the
share of 429s among all requests, including the start. Both are means over the seeds; for all other figures the worst
seed counts. 90 % is the number of seconds until a period of 5 s begins in which 90% of the limit is accepted.

In pacing_bench, scenarios.py defines the scenarios and targets, contenders.py the pacers that are compared, and
figures.py the figures. results.py summarizes and judges them, table.py and pictures.py present them, and report.py
writes the files. loopback.py runs some scenarios over real sockets. callers.py simulates a web app with the default
pacer of a client. The simulation is in rate_simulation.py.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.pacing_bench.callers import callers_table
from benchmarks.pacing_bench.contenders import CONTENDERS, OURS
from benchmarks.pacing_bench.loopback import loopback_table
from benchmarks.pacing_bench.results import Result, run_all
from benchmarks.pacing_bench.table import long_table


def main() -> int:
    """Parse the arguments, simulate, and print. Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--scenario", default="", help="only scenarios whose name contains this")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--check", action="store_true", help="exit with 1 if our pacer misses a target")
    parser.add_argument("--loopback", action="store_true", help="only the jobs over real sockets, about 2 minutes")
    parser.add_argument("--callers", action="store_true", help="only the callers of a web app")
    parser.add_argument(
        "--results", type=Path, help="run everything and write the results with pictures to this folder"
    )
    arguments = parser.parse_args()
    if arguments.results and (arguments.scenario or arguments.contender or arguments.loopback or arguments.callers):
        parser.error("--results are of all scenarios and contenders")
    if arguments.callers:
        print(*callers_table(arguments.seeds), sep="\n")
        return 0
    if arguments.loopback:
        for line in asyncio.run(loopback_table()):
            print(line)
        return 0
    began = time.perf_counter()
    found: dict[str, list[Result]] = {}
    for contender, summed_up in run_all(
        arguments.contender or CONTENDERS, arguments.scenario, arguments.seeds, arguments.jobs
    ):
        found[contender] = summed_up
        print(f"\n{contender}\n", *long_table(summed_up), sep="\n", flush=True)
    print(f"\n{arguments.seeds} seeds; {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if arguments.results:
        from benchmarks.pacing_bench.report import write  # imported here because only this needs the extra `bench`

        write(arguments.results, found, arguments.seeds)
    missed = [result for result in found.get(OURS, []) if result.missed and not result.is_out_of_reach]
    for result in missed if arguments.check else ():
        print(f"not met: {result.scenario.name}: {', '.join(result.missed)}", file=sys.stderr)
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
