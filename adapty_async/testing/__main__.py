"""Run the simulator as a process: `python -m adapty_async.testing`."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main(program="python -m adapty_async.testing"))
