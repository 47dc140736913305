"""A web app with aiohttp.web that checks a user's access in Adapty, and deletes the profile with the account.

ADAPTY_API_KEY=... python examples/web_aiohttp.py
"""

import logging
from collections.abc import AsyncIterator

from aiohttp import web

from adapty_async import AdaptyClient, AdaptyError, ProfileNotFoundError

ADAPTY = web.AppKey("ADAPTY", AdaptyClient)
DEADLINE = 2.0  # seconds that a user waits for Adapty, including retries

log = logging.getLogger(__name__)


async def adapty(app: web.Application) -> AsyncIterator[None]:
    """Share one client, and its connections, between all requests of the app."""
    async with AdaptyClient.from_env(total_timeout=DEADLINE) as client:
        app[ADAPTY] = client
        yield


def user_of(request: web.Request) -> str:
    """Return the user's ID. A real app reads its session here; the ID isn't in the path, which access logs contain."""
    user = request.headers.get("X-User")
    if not user:
        raise web.HTTPUnauthorized
    return user


async def show_access(request: web.Request) -> web.Response:
    """Return whether the user has premium access. If Adapty fails, access is granted."""
    try:
        profile = await request.app[ADAPTY].profiles.get(customer_user_id=user_of(request))
    except ProfileNotFoundError:
        return web.json_response({"premium": False})
    except AdaptyError as error:
        log.warning("access granted without a check: %r", error)
        return web.json_response({"premium": True, "unseen": True})
    return web.json_response({"premium": profile.has_access("premium")})


async def delete_account(request: web.Request) -> web.Response:
    """Delete the user's profile. After a failure it is safe to send the request again."""
    try:
        await request.app[ADAPTY].profiles.delete(customer_user_id=user_of(request), missing_ok=True)
    except AdaptyError as error:
        log.warning("profile not deleted yet: %r", error)
        return web.json_response({"deleted": False}, status=503, headers={"Retry-After": "60"})
    return web.json_response({"deleted": True})


def make_app() -> web.Application:
    """Create the app. The key and the server come from ADAPTY_API_KEY and ADAPTY_BASE_URL."""
    app = web.Application()
    app.cleanup_ctx.append(adapty)
    app.add_routes([web.get("/me/access", show_access), web.delete("/me", delete_account)])
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    web.run_app(make_app(), host="127.0.0.1", port=8080)
