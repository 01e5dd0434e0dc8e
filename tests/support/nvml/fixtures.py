"""Fixtures of the test driver."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.nvml.driver import Card, Driver, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the built library."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build the test driver with")
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(nvml_library: Path, tmp_path: Path) -> Driver:
    """Two idle cards of 40 GiB."""
    found = Driver(nvml_library, tmp_path / "nvml-state", [Card(), Card()])
    found.write()
    return found
