"""A simulator of Adapty's server-side API, for the tests of code that uses the API."""

from typing import TYPE_CHECKING, Any

from .faults import Fault, Faults
from .limiter import Limiter
from .profiles import Profile, Profiles, prefilled_customer_user_id
from .request_log import Counts, RecordedRequest

if TYPE_CHECKING:
    from .simulator import Simulator

__all__ = [
    "Counts",
    "Fault",
    "Faults",
    "Limiter",
    "Profile",
    "Profiles",
    "RecordedRequest",
    "Simulator",
    "prefilled_customer_user_id",
]

if not TYPE_CHECKING:  # with this function a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import the simulator when needed: the command's --help must not load aiohttp."""
        if name != "Simulator":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .simulator import Simulator

        globals()[name] = Simulator
        return Simulator


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
