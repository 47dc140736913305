"""Turn off core dumps (core files), which would contain IDs and the API key."""

import contextlib


def disable_core_files() -> None:
    """Disable core files for this process and its children.

    The process stays "dumpable" (Linux). Otherwise the user couldn't attach a debugger or a profiler such as py-spy to
    a job that seems to hang. A crash handler in core_pattern may therefore still write a copy; those of systemd and
    Ubuntu respect this limit.
    """
    with contextlib.suppress(ImportError):  # Windows has neither
        import resource

        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; the command works without
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
