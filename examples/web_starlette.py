"""The same web app with Starlette, the basis of FastAPI: the lifespan passes one client to every request.

ADAPTY_API_KEY=... uvicorn --app-dir examples web_starlette:app
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from adapty_async import AdaptyClient, AdaptyError, ProfileNotFoundError

DEADLINE = 2.0  # seconds that a user waits for Adapty, including retries

log = logging.getLogger(__name__)


class State(TypedDict):
    """The state that the lifespan passes to every request."""

    adapty: AdaptyClient


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    """Share one client, and its connections, between all requests of the app."""
    async with AdaptyClient.from_env(total_timeout=DEADLINE) as client:
        yield {"adapty": client}


def client_of(request: Request) -> AdaptyClient:
    """Return the client of the lifespan."""
    client: AdaptyClient = request.state.adapty
    return client


def user_of(request: Request) -> str:
    """Return the user's ID. A real app reads its session here; the ID isn't in the path, which access logs contain."""
    user = request.headers.get("X-User")
    if not user:
        raise HTTPException(401)
    return user


async def show_access(request: Request) -> JSONResponse:
    """Return whether the user has premium access. If Adapty fails, access is granted."""
    try:
        profile = await client_of(request).profiles.get(customer_user_id=user_of(request))
    except ProfileNotFoundError:
        return JSONResponse({"premium": False})
    except AdaptyError as error:
        log.warning("access granted without a check: %r", error)
        return JSONResponse({"premium": True, "unseen": True})
    return JSONResponse({"premium": profile.has_access("premium")})


async def delete_account(request: Request) -> JSONResponse:
    """Delete the user's profile. After a failure it is safe to send the request again."""
    try:
        await client_of(request).profiles.delete(customer_user_id=user_of(request), missing_ok=True)
    except AdaptyError as error:
        log.warning("profile not deleted yet: %r", error)
        return JSONResponse({"deleted": False}, status_code=503, headers={"Retry-After": "60"})
    return JSONResponse({"deleted": True})


app = Starlette(
    lifespan=lifespan,
    routes=[Route("/me/access", show_access), Route("/me", delete_account, methods=["DELETE"])],
)
