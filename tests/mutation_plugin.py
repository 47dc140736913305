"""What pytest does otherwise under `make mutate`."""

import importlib
import os

import hypothesis
import pytest

from adapty_async import serialization

# The same examples for every mutant, and no search for the smallest that fails.
hypothesis.settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    # mutmut runs a test first to learn what it covers, and then from another executor.
    suppress_health_check=[hypothesis.HealthCheck.differing_executors, hypothesis.HealthCheck.too_slow],
)
# For a sample of many mutants in slow tests.
hypothesis.settings.register_profile("sample", hypothesis.settings.get_profile("mutation"), max_examples=25)


def pytest_runtest_setup(item: pytest.Item) -> None:
    # A mutant is switched on in a package that was imported before: the converters, made by the import, are made again.
    if item.path.name == "test_serialization.py" and os.environ.get("MUTANT_UNDER_TEST"):
        importlib.reload(serialization)
