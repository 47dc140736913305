"""Evaluate a run of mutmut: print the mutants that survived, and fail if too few were killed.

mutants.md explains why some may survive.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

REQUIRED: Final = 0.9


def mutmut(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own


def main() -> None:
    mutmut("export-cicd-stats")
    stats = json.loads(Path("mutants/mutmut-cicd-stats.json").read_text(encoding="utf-8"))
    for line in mutmut("results").splitlines():
        print(mutmut("show", line.strip().partition(":")[0]))
    killed = stats["killed"] + stats["timeout"]
    print(f"{killed} of {stats['total']} mutants killed, {killed / stats['total']:.1%}")
    sys.exit(killed < REQUIRED * stats["total"])


if __name__ == "__main__":
    main()
