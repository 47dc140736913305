"""How near to a hidden limit the pacers come, and how many refusals that costs: scenarios in virtual time, as a table.

Goodput is accepted / allowed after the start (20 s, at high and very low limits more). Refused is the share of all
requests of the run, its start included. Both are means over the seeds; of all else the worst seed counts. 90 %: seconds
until 5 s begin in which 90 % of what is allowed is accepted.

In pacing_bench, scenarios.py says what happens and what is asked, contenders.py who is compared, figures.py what is
counted, results.py how it is summed up and judged; table.py and pictures.py show it, and report.py writes it down.
loopback.py does some of it over real sockets, and callers.py looks at a web app with the pacer that a client has by
default. The simulation is in rate_simulation.py.
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
    """Read the arguments, simulate, print; give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--scenario", default="", help="only those whose name has this in it")
    parser.add_argument("--contender", choices=CONTENDERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--check", action="store_true", help="exit with 1 where our pacer doesn't do what is asked")
    parser.add_argument("--loopback", action="store_true", help="only what goes over real sockets, about 2 minutes")
    parser.add_argument("--callers", action="store_true", help="only the callers of a web app")
    parser.add_argument("--results", type=Path, help="run all, loopback too, and write it with pictures to this folder")
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
        from benchmarks.pacing_bench.report import write  # here, since nothing else needs the extra bench

        write(arguments.results, found, arguments.seeds)
    missed = [result for result in found.get(OURS, []) if result.missed and not result.is_out_of_reach]
    for result in missed if arguments.check else ():
        print(f"not met: {result.scenario.name}: {', '.join(result.missed)}", file=sys.stderr)
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
