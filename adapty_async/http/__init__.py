"""One call: its requests, retries, time limits and connections. Only `transport` and `connections` know aiohttp."""
