"""One real fleet of three machines, for all tests of this folder that need it."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator

import pytest

from tests.fleet.serving.machines import Fleet, fleet_of, why_not

SETTINGS = 'model = ["novels-6m"]\nno_tune = true\nthreads = 1\nbatch_threads = 1'


@pytest.fixture(scope="package")
def fleet() -> Iterator[Fleet]:
    """A head and two nodes, each with a replica that answers."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray: pip install 'appliance[fleet]'")
    if reason := why_not():
        pytest.skip(reason)
    with fleet_of(3, SETTINGS, "silence_s = 8") as fleet:
        fleet.start()
        fleet.await_replicas(3)
        yield fleet


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """What a test has left open is found at that test, not at whichever comes later."""
    yield
    gc.collect()
