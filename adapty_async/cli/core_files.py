"""No core file of a command: it would hold the API key and ids."""

import contextlib


def leave_none() -> None:
    """Let a crash write no core file, of this process or what it starts.

    The process stays "dumpable" (Linux): otherwise no debugger or profiler of the same user, such as py-spy, could be
    attached to a job that seems to hang. So a crash handler that core_pattern names may still take a copy; those of
    systemd and Ubuntu keep to this limit.
    """
    with contextlib.suppress(ImportError):  # Windows has neither
        import resource

        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; the command works there, too
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
