"""Asyncio client for Adapty's server-side API."""
