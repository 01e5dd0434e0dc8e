"""``STORAGE_URL``: what it may be, and that anything else is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.settings.storage import files

DEFAULT = Path("/data/media")


@pytest.mark.parametrize(
    ("url", "backend", "options"),
    [
        ("", "local.LocalFiles", {"location": "/data/media", "is_shared": False}),
        ("file:///mnt/files", "local.LocalFiles", {"location": "/mnt/files", "is_shared": False}),
        ("file:///mnt/with%20space?shared=1", "local.LocalFiles", {"location": "/mnt/with space", "is_shared": True}),
        ("file://localhost/mnt/x?shared=no", "local.LocalFiles", {"location": "/mnt/x", "is_shared": False}),
        (
            "s3://bucket",
            "s3.S3Files",
            {
                "bucket_name": "bucket",
                "location": "",
                "endpoint_url": None,
                "region_name": None,
                "addressing_style": "auto",
            },
        ),
        (
            "s3://my.bucket-1/a/b/?endpoint_url=http://minio:9000&region=eu-west-1&addressing_style=path",
            "s3.S3Files",
            {
                "bucket_name": "my.bucket-1",
                "location": "a/b",
                "endpoint_url": "http://minio:9000",
                "region_name": "eu-west-1",
                "addressing_style": "path",
            },
        ),
    ],
)
def test_what_it_may_be(url, backend, options):
    found = files(url, DEFAULT)

    assert found.problem == ""
    assert found.backend == {"BACKEND": f"automation.files.{backend}", "OPTIONS": options}


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("/mnt/files", "expected file:///path"),
        ("gs://bucket", "got: gs://bucket"),
        ("file:mnt", "expected file:/// and a directory, got: file://mnt"),
        ("file://mnt/files", "three slashes, file:///mnt/files"),
        ("file:///", "expected file:/// and a directory"),
        ("file:///etc/passwd", "expected a directory, got a file: /etc/passwd"),
        ("file:///mnt?shared=maybe", "expected shared=1 or shared=0, got: shared=maybe"),
        ("file:///mnt?share=1", "got: share (did you mean shared?)"),
        ("s3://", "expected the name of a bucket after s3://"),
        ("s3:///prefix", "expected the name of a bucket after s3://"),
        ("s3://UPPER_case", "expected the name of a bucket after s3://"),
        ("s3://minio:9000/bucket", "a server goes into endpoint_url"),
        ("s3://minio:x/bucket", "expected file:///path"),
        ("s3://key:secret@bucket", "AWS_ACCESS_KEY_ID"),
        ("s3://bucket/../other", "expected a prefix without .."),
        ("s3://bucket?endpoint=http://x", "got: endpoint (did you mean endpoint_url?)"),
        ("s3://bucket?endpoint_url=minio:9000", "expected endpoint_url=http://host:port or https://host"),
        ("s3://bucket?endpoint_url=", "expected endpoint_url=http://host:port or https://host, got: nothing"),
        ("s3://bucket?region=a&region=b", "expected region once, got it twice"),
        ("s3://bucket?addressing_style=odd", "one of auto, virtual, path, got: odd"),
        ("s3://bucket#x", "expected nothing after #"),
    ],
)
def test_what_else_is_named(url, wrong):
    found = files(url, DEFAULT)

    assert found.problem.startswith("STORAGE_URL: expected ")
    assert wrong in found.problem
    assert "secret" not in found.problem


def _manage(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "DJANGO_SETTINGS_MODULE": "backend.settings.test", **env}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)


def test_a_wrong_one_keeps_everything_from_starting_and_says_why():
    done = _manage("check", STORAGE_URL="s3://Bucket")

    assert done.returncode == 1
    assert "(backend.E001) STORAGE_URL: expected the name of a bucket after s3://" in done.stderr
    assert "got: Bucket" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_right_one_is_no_complaint():
    done = _manage("check", STORAGE_URL="s3://bucket/prefix?endpoint_url=http://127.0.0.1:1")

    assert done.returncode == 0, done.stderr
