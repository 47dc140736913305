"""Settings of pytest for `make mutate`."""

import importlib
import os

import hypothesis
import pytest

from adapty_async.models import codec

# The same examples for every mutant, and no search for the smallest failing one.
hypothesis.settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    # mutmut first runs a test to measure its coverage, and later from another executor.
    suppress_health_check=[hypothesis.HealthCheck.differing_executors, hypothesis.HealthCheck.too_slow],
)
# For a sample of many mutants in slow tests.
hypothesis.settings.register_profile("sample", hypothesis.settings.get_profile("mutation"), max_examples=25)


def pytest_runtest_setup(item: pytest.Item) -> None:
    # A mutant is enabled after the package was imported. Reloading creates the converters again, with the mutant.
    if item.path.name == "test_codec.py" and os.environ.get("MUTANT_UNDER_TEST"):
        importlib.reload(codec)
