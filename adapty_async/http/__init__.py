"""One call: its requests, retries, time limits, connections. Only `transport` and `extra_responses` know aiohttp."""
