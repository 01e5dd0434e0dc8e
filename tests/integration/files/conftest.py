"""Every test of files, on a directory and on a server of the S3 protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.files.storage import Storage, storages

from backend.settings.storage import files
from tests.support.s3 import S3, s3_server


@pytest.fixture(scope="session")
def s3_of_session() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_of_session: S3) -> S3:
    for key in s3_of_session.objects():
        s3_of_session.client.delete_object(Bucket=s3_of_session.bucket, Key=key)
    return s3_of_session


@pytest.fixture
def use(settings) -> Callable[[str], Storage]:
    """Keep files where a ``STORAGE_URL`` says."""

    def use(url: str) -> Storage:
        found = files(url, Path("/nowhere"))
        assert found.problem == ""
        settings.STORAGES = {**settings.STORAGES, "default": found.backend}
        return storages["default"]

    return use


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest, use: Callable[[str], Storage], tmp_path: Path) -> Storage:
    if request.param == "directory":
        return use(f"file://{tmp_path}/media")
    return use(request.getfixturevalue("s3").url)
