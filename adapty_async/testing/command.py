"""The command that runs the simulator as a process."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .faults import Fault

if TYPE_CHECKING:
    from .simulator import Simulator


_EXAMPLES: Final = """\
examples:
  # Start with 1,000 profiles and a rate limit of 50 requests per second
  {program} --profiles 1000 --rate 50 > simulator.json
  # Send Retry-After with a 429, and answer 1% of the requests with 503
  {program} --rate 20 --retry-after 1 --fault unavailable=0.01
"""


def main(argv: Sequence[str] | None = None, program: str = "adapty-async simulator") -> int:
    """Run the simulator until SIGINT or SIGTERM, and return the exit status.

    When it is ready, it prints one line of JSON with `base_url` and `api_key`.

    Args:
        argv: The arguments. None means sys.argv[1:].
        program: The name of the program, for the help text.
    """
    parser = _make_parser(program)
    arguments = parser.parse_args(argv)
    arguments.fault_rates = dict(arguments.fault_rates)
    from .simulator import Simulator  # imported here because --help must not load aiohttp

    try:
        simulator = Simulator(**vars(arguments), record=0)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(simulator))
    except OSError as error:
        print(f"The simulator can't listen on port {arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _make_parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Run a simulator of Adapty's server-side API for profiles on this machine until interrupted.\n"
        "It prints its address and API key as one line of JSON.",
        epilog=_EXAMPLES.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="port to listen on (default: any free one)")
    add("--api-key", help="API key to accept (default: a random one)")
    add("--profiles", type=int, default=0, help="number of profiles to start with: user-000001@example.com and so on")
    add("--rate", type=float, help="rate limit in requests per second (default: none)")
    add("--burst", type=int, default=10, help="requests accepted above the rate (default: 10)")
    add("--retry-after", type=float, help="seconds in the Retry-After header of a 429")
    add("--retry-after-503", type=float, help="seconds in the Retry-After header of a 503")
    add("--delay", type=float, default=1.0, help="seconds by which the fault delay delays a response (default: 1)")
    faults = ", ".join(fault.value for fault in Fault)
    add(
        "--fault",
        dest="fault_rates",
        type=_parse_fault_rate,
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"a fault and the share of requests that suffer it, 0 to 1; may be repeated. The faults: {faults}",
    )
    add("--latency", type=float, default=0.0, help="seconds between the work and its response")
    add("--seed", type=int, default=0, help="seed of the faults and the profile IDs")
    return parser


def _parse_fault_rate(text: str) -> tuple[Fault, float]:
    name, _, rate = text.partition("=")
    try:
        return Fault(name), float(rate)
    except ValueError:
        raise argparse.ArgumentTypeError("must be the name of a fault, '=' and a number") from None


async def _serve(simulator: "Simulator") -> None:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, interrupted.set)
    async with simulator:
        print(json.dumps({"base_url": simulator.base_url, "api_key": simulator.api_key}), flush=True)
        await interrupted.wait()
