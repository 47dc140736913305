"""One call: its requests, retries, time limits, connections. Only `transport` and `connection_reuse` know aiohttp."""
