"""Validation of callbacks. They must be plain functions because their result isn't awaited."""

import functools
import inspect


def check_hook(name: str, hook: object) -> None:
    """Check that a hook is callable and not async: an async one would never run.

    Raises:
        TypeError: If it isn't callable or is async.
    """
    if hook is None:
        return
    if not callable(hook):
        raise TypeError(f"{name} must be callable")
    function: object = hook
    while isinstance(function, functools.partial):
        function = function.func
    # The __call__ of an object may be async, too.
    for call in (function, type(function).__call__):
        if inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
            raise TypeError(f"{name} must be a plain function: an async one would never be awaited")
