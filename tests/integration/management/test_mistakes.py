"""A mistake at the start is one sentence, with what is allowed, before anything is made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.support.workers import REPOSITORY

CONTENT = ("--run-pipeline", "content")
slow = partial(pytest.param, marks=pytest.mark.slow)


def run(*words: str, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    """``manage.py`` as somebody types it, without the servers of these tests."""
    own = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=REPOSITORY,
        env={**own, "DJANGO_SETTINGS_MODULE": "backend.settings.dev", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*CONTENT, "--input", "nope.csv"), "Cannot read nope.csv: no such file or directory."),
        slow((*CONTENT, "--input", "docs"), "Cannot read docs: is a directory."),
        slow((*CONTENT, "--input", "{empty}"), "it is empty."),
        slow((*CONTENT, "--input", "tests/data/inputs/38_web_page.xls"), "line 1: it is a web page (HTML)"),
        slow((*CONTENT, "--input", "tests/data/inputs/10_row_too_long.csv"), "line 3: expected 2 columns, got: 3."),
        slow(CONTENT, "Cannot run pipeline content: it needs input items, expected --input (INPUT=)."),
        slow((*CONTENT, "--input", "README.md", "--param", "words=many"), "Cannot use parameter 'words'"),
        slow(("--run-pipeline", "nothing"), "Cannot find pipeline 'nothing': expected one of "),
        slow(("--run-pipeline", "drill", "--input", "README.md"), "it makes its own items."),
        slow(("--input", "README.md"), "expected --run-pipeline, too."),
        (("--port", "abc"), "expected a port from 1 to 65535, got: 'abc'"),
        slow(("--port", "99999"), "expected a port from 1 to 65535, got: '99999'"),
        slow(("--concurrency", "0"), "expected 1 to 1000 processes, got: '0'"),
        slow(("--site", "not a slug"), "expected letters, numbers, - and _, got: not a slug"),
        slow(("--site", "s" * 61), "expected at most 60 characters, got 61: ssssssssssssssssssss…"),
        slow(("--host", "nowhere.invalid"), "Cannot listen on nowhere.invalid:"),
    ],
)
def test_up_refuses_what_cannot_be_before_it_makes_anything(words, said, tmp_path: Path):
    empty = tmp_path / "empty.csv"
    empty.touch()
    data = tmp_path / "new" / "data"

    done = run("up", *(word.format(empty=empty) for word in words), DATA_DIR=str(data))

    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not data.parent.exists()


@pytest.mark.parametrize("words", [("fleet", "status"), slow(("up",))])
def test_a_data_folder_that_cannot_be_is_named(words, tmp_path: Path):
    file = tmp_path / "file"
    file.touch()

    for folder, said in (
        (file, f"Cannot use DATA_DIR {file}: {file} is not a folder."),
        (file / "inside", f"Cannot use DATA_DIR {file}/inside: {file} is not a folder."),
        (Path("/proc/nowhere/data"), "Cannot create DATA_DIR /proc/nowhere/data: nothing can be created there."),
    ):
        done = run(*words, DATA_DIR=str(folder))
        assert (done.returncode, done.stderr) == (1, f"{said}\n")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        slow("DATABASE_URL", "garbage", "Cannot use DATABASE_URL: expected a URL such as postgresql://"),
        ("DATABASE_URL", "mysql://root:secret@host/db", "Cannot use DATABASE_URL: expected a URL such as"),
        slow("REDIS_URL", "localhost", "Cannot use REDIS_URL: expected a URL such as redis://host:6379/0."),
        ("SLACKWATER_APPS", "nowhere", "Cannot find the app nowhere (SLACKWATER_APPS): there is no module nowhere"),
        slow("SLACKWATER_APPS", "nowhere.apps.Config", "there is no module nowhere in this checkout or on PYTHONPATH."),
    ],
)
def test_a_wrong_setting_is_one_sentence(name, value, said, tmp_path: Path):
    done = run("fleet", "status", DATA_DIR=str(tmp_path), **{name: value})

    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        slow(("pause_run", "latest")),
        ("fleet", "status"),
        slow(("fleet", "resume", "--reason", "x")),
        slow(("hold", "list")),
        slow(("pause_queue",)),
        slow(("capacity",)),
        slow(("create_agent", "a", "--site", "default")),
        slow(("export_audit",)),
        slow(("erase_audit", "--before", "2020-01-01", "--reason", "x", "--yes")),
        slow(("showmigrations",)),
        slow(("prepare",)),
    ],
)
def test_without_a_system_every_command_asks_whether_it_is_up(words, tmp_path: Path):
    done = run(*words, DATA_DIR=str(tmp_path))

    assert done.returncode == 1
    assert "Cannot use the database: " in done.stderr
    assert done.stderr.rstrip().endswith("Is the system up? make up")
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fleet",), "expected manage.py fleet pause, resume or status."),
        slow(("hold",), "expected manage.py hold place, release or list."),
    ],
)
def test_a_verb_that_is_missing_is_told(words, said, tmp_path: Path):
    done = run(*words, DATA_DIR=str(tmp_path))

    assert (done.returncode, said in done.stderr) == (2, True)
    assert len(done.stderr.splitlines()) == 1


def test_one_time_format_in_every_line(tmp_path: Path):
    code = "import logging; logging.getLogger('shop').warning('hello')"

    done = run("shell", "-c", code, DATA_DIR=str(tmp_path), TZ="Asia/Tokyo")

    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC WARNING shop: hello\n", done.stderr), done.stderr
