"""The same web app in Starlette, on which FastAPI is built: the lifespan hands one client to every request.

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

DEADLINE = 2.0  # seconds a visitor waits for Adapty, retries included

log = logging.getLogger(__name__)


class State(TypedDict):
    """What the lifespan hands to every request."""

    adapty: AdaptyClient


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[State]:
    """Keep one client for the life of the app: its connections are shared by all requests."""
    async with AdaptyClient.from_env(total_timeout=DEADLINE) as client:
        yield {"adapty": client}


def client_of(request: Request) -> AdaptyClient:
    """Give the client of the lifespan."""
    client: AdaptyClient = request.state.adapty
    return client


def user_of(request: Request) -> str:
    """Say who asks. A real app reads its session here; the id stays out of the path, which access logs show."""
    user = request.headers.get("X-User")
    if not user:
        raise HTTPException(401)
    return user


async def show_access(request: Request) -> JSONResponse:
    """Tell whether the user has premium access; without Adapty nobody is locked out."""
    try:
        profile = await client_of(request).profiles.get(customer_user_id=user_of(request))
    except ProfileNotFoundError:
        return JSONResponse({"premium": False})
    except AdaptyError as error:
        log.warning("access is granted unseen: %r", error)
        return JSONResponse({"premium": True, "unseen": True})
    return JSONResponse({"premium": profile.has_access("premium")})


async def delete_account(request: Request) -> JSONResponse:
    """Delete the user's profile; asked again after a failure, it is harmless."""
    try:
        await client_of(request).profiles.delete(customer_user_id=user_of(request), missing_ok=True)
    except AdaptyError as error:
        log.warning("a profile is not deleted yet: %r", error)
        return JSONResponse({"deleted": False}, status_code=503, headers={"Retry-After": "60"})
    return JSONResponse({"deleted": True})


app = Starlette(
    lifespan=lifespan,
    routes=[Route("/me/access", show_access), Route("/me", delete_account, methods=["DELETE"])],
)
