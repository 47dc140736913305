"""The resources of the API, one class each, with one short method per operation."""

from .profiles import Profiles

__all__ = ["Profiles"]
