"""The command demo."""

from ..command_runner import run_and_exit
from ..signals import run_event_loop


def demo() -> None:
    """Delete made-up profiles in a simulator

    \b
    Examples:
      # Watch a deletion
      adapty-async demo
      # Write the summary to a file
      adapty-async demo > summary.txt

    The command deletes 20,000 profiles in a simulator of Adapty's API on this machine, within a minute. It needs no API
    key and removes its files when it ends.
    """
    from ..jobs.demo import run_demo

    run_and_exit(lambda: run_event_loop(run_demo))
