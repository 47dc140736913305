"""A simulator of Adapty's server-side API, for the tests of whoever calls it."""

from .faults import Fault, Faults
from .limiter import Limiter
from .profiles import Profile, Profiles, prefilled_customer_user_id
from .records import Counts, RecordedRequest
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
