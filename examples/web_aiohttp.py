"""A web app in aiohttp.web that asks Adapty what a user has paid for, and deletes the profile with the account.

ADAPTY_API_KEY=... python examples/web_aiohttp.py
"""

import logging
from collections.abc import AsyncIterator

from aiohttp import web

from adapty_async import AdaptyClient, AdaptyError, ProfileNotFoundError

ADAPTY = web.AppKey("ADAPTY", AdaptyClient)
DEADLINE = 2.0  # seconds a visitor waits for Adapty, retries included

log = logging.getLogger(__name__)


async def adapty(app: web.Application) -> AsyncIterator[None]:
    """Keep one client for the life of the app: its connections are shared by all requests."""
    async with AdaptyClient.from_env(total_timeout=DEADLINE) as client:
        app[ADAPTY] = client
        yield


def user_of(request: web.Request) -> str:
    """Say who asks. A real app reads its session here; the id stays out of the path, which access logs show."""
    user = request.headers.get("X-User")
    if not user:
        raise web.HTTPUnauthorized
    return user


async def show_access(request: web.Request) -> web.Response:
    """Tell whether the user has premium access; without Adapty nobody is locked out."""
    try:
        profile = await request.app[ADAPTY].profiles.get(customer_user_id=user_of(request))
    except ProfileNotFoundError:
        return web.json_response({"premium": False})
    except AdaptyError as error:
        log.warning("access is granted unseen: %r", error)
        return web.json_response({"premium": True, "unseen": True})
    return web.json_response({"premium": profile.has_access("premium")})


async def delete_account(request: web.Request) -> web.Response:
    """Delete the user's profile; asked again after a failure, it is harmless."""
    try:
        await request.app[ADAPTY].profiles.delete(customer_user_id=user_of(request), missing_ok=True)
    except AdaptyError as error:
        log.warning("a profile is not deleted yet: %r", error)
        return web.json_response({"deleted": False}, status=503, headers={"Retry-After": "60"})
    return web.json_response({"deleted": True})


def make_app() -> web.Application:
    """Make the app; the key and the server come from ADAPTY_API_KEY and ADAPTY_BASE_URL."""
    app = web.Application()
    app.cleanup_ctx.append(adapty)
    app.add_routes([web.get("/me/access", show_access), web.delete("/me", delete_account)])
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    web.run_app(make_app(), host="127.0.0.1", port=8080)
