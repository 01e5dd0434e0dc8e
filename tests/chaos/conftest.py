"""One fleet serves the scenarios of a process; each scenario mends what it broke."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.fleet import Fleet, fleet_in

LONG = "CHAOS_LONG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow scenarios take a quarter of an hour: they run when asked for."""
    if os.environ.get(LONG):
        return
    for item in items:
        if item.get_closest_marker("chaos") and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason=f"slow: set {LONG}=1"))


@pytest.fixture(scope="session")
def shared_fleet() -> Iterator[Fleet]:
    """``CHAOS_KEEP=1`` leaves its directory, with every log, behind."""
    root = Path(tempfile.mkdtemp(prefix="sw-chaos-"))
    try:
        with fleet_in(root) as fleet:
            yield fleet
    finally:
        if os.environ.get("CHAOS_KEEP"):
            print(f"[chaos] kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Fleet:
    """The fleet, whole: what an earlier scenario (or its failure) left dead is started again."""
    shared_fleet.mend()
    return shared_fleet


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Tell a figure: printed with the test, and kept with its result."""

    def tell(what: str, seconds: float) -> None:
        print(f"[chaos] {what} {seconds:.2f} s")
        request.node.user_properties.append((what, round(seconds, 3)))

    return tell


@pytest.fixture
def seed() -> int:
    """The seed of a scenario's dice; printed, and set by ``CHAOS_SEED`` to see a failure again."""
    chosen = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"[chaos] CHAOS_SEED={chosen}")
    return chosen
