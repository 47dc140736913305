"""`python -m adapty_async.testing`: the simulator as a process."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main(program="python -m adapty_async.testing"))
