"""Print the peak memory of this process, in bytes, after bulk deletions of each of the given sizes."""

import asyncio
import resource
import sys

from adapty_async import FixedPacer, bulk
from adapty_async.bulk import Outcome

from .scripted import quiet_client


async def most_memory_after(count: int) -> int:
    """Delete this many made-up profiles, with IDs generated on demand."""
    ids = (f"user-{number:06d}@example.com" for number in range(count))
    report = await bulk.delete_profiles(quiet_client(), ids, by="customer_user_id", pacer=FixedPacer(1e6))
    assert report.counts == {Outcome.DELETED: count}
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


for argument in sys.argv[1:]:
    print(asyncio.run(most_memory_after(int(argument))))
