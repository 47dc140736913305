"""The chapters of the API: one class each, one method of a few lines an operation."""

from .profiles import Profiles

__all__ = ["Profiles"]
