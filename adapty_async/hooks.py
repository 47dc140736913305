"""What the caller gives to be called: a plain function, for nobody awaits what it returns."""

import functools
import inspect


def check_hook(name: str, hook: object) -> None:
    """Raise TypeError for what can't be called, or is async: called like this it would never run."""
    if hook is None:
        return
    if not callable(hook):
        raise TypeError(f"{name} must be callable")
    function: object = hook
    while isinstance(function, functools.partial):
        function = function.func
    # An object may be async in its __call__ alone.
    for call in (function, type(function).__call__):
        if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
            raise TypeError(f"{name} must be a plain function: what an async one does would never be awaited")
