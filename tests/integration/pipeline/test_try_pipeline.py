"""``start_pipeline`` and ``try_pipeline``: from an empty folder to a first pipeline that was tried, without servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support import pipelines
from tests.support.shell import Shell

assert pipelines
REPOSITORY = Path(__file__).parents[3]
Manage = Callable[..., "CompletedProcess[str]"]
NOWHERE = {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/nothing", "REDIS_URL": "redis://127.0.0.1:9/0"}


@pytest.fixture
def manage(tmp_path: Path) -> Manage:
    """``manage.py`` from an empty folder, on a machine whose servers are away."""

    def call(*words: str, apps: str = "", stdin: str | None = None) -> CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(tmp_path),
            "DATA_DIR": str(tmp_path / "data"),
            "SLACKWATER_APPS": apps,
            **NOWHERE,
        }
        command = [sys.executable, str(REPOSITORY / "manage.py"), *words]
        return subprocess.run(command, cwd=tmp_path, env=env, input=stdin, capture_output=True, text=True)

    return call


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The same in this process, for what is refused."""
    monkeypatch.chdir(tmp_path)
    return Shell({})


def test_a_first_pipeline_is_written_tried_and_tested(manage, tmp_path):
    written = manage("start_pipeline", "shop")
    assert written.returncode == 0, written.stderr
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == [
        "__init__.py",
        "items.csv",
        "pipelines.py",
        "test_shop.py",
    ]
    for said in ("SLACKWATER_APPS=shop", f"PYTHONPATH={tmp_path}:{REPOSITORY}", "try_pipeline shop", "-m pytest shop/"):
        assert said in written.stdout

    item = json.dumps({"name": "Chair", "price": 3})
    tried = manage("try_pipeline", "shop", "--item", item, "--param", "seconds=0", apps="shop")
    assert tried.returncode == 0, tried.stderr
    assert "describe (Products → Descriptions): 1 item, 1 output" in tried.stdout
    assert '000.000  {"text":"Chair for 3.00"}' in tried.stdout

    tried = manage("try_pipeline", "shop", "--input", "shop/items.csv", "--param", "seconds=0", apps="shop")
    assert "sheets (Descriptions → Sheets): 5 items, 1 output" in tried.stdout

    (tmp_path / "bad.csv").write_text("name,price\nChair,3\n\nTable,cheap\n")
    refused = manage("try_pipeline", "shop", "--input", "bad.csv", apps="shop")
    assert refused.returncode == 2
    assert "bad.csv: line 4: " in refused.stderr
    assert "price: Input should be a valid number" in refused.stderr

    env = {"PATH": "", "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "shop"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert "2 passed" in tested.stdout, tested.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Shop", "Cannot use the name 'Shop': expected lower-case letters, digits and _, a letter first, 50 at most."),
        ("my-shop", "Cannot use the name 'my-shop': expected"),
        ("../shop", "Cannot use the name '../shop': expected"),
        ("class", "Cannot use the name 'class': it is a Python keyword."),
        ("json", "Cannot use the name 'json': a Python module of that name exists."),
        ("drill", "Cannot use the name 'drill': a pipeline of that name exists."),
        ("s" * 51, "50 at most"),
    ],
)
def test_a_name_that_cannot_be_used_changes_nothing(here, tmp_path, name, said):
    refused = here("start_pipeline", name)

    assert refused.code == 2
    assert said in refused.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_written_over(here, tmp_path, is_folder):
    there = tmp_path / "shop"
    if is_folder:
        there.mkdir()
        (there / "pipelines.py").write_text("mine")
    else:
        there.write_text("mine")

    refused = here("start_pipeline", "shop")

    assert refused.code == 2
    assert "it exists. Nothing was changed." in refused.err
    assert (there / "pipelines.py" if is_folder else there).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


BAD = """
from automation.pipeline import Pipeline, Stage, register

class Half(Stage):
    slug, title, retries, max_failures = "half", "Half", 1, None

    def process(self, item, ctx):
        yield {"n": 10 / item["n"], "file": ctx.artifacts.save("../x", b"1") if item["n"] == 7 else ""}

@register
class Halves(Pipeline):
    slug, title, stages = "halves", "Halves", (Half,)
"""


@pytest.fixture
def halves(manage: Manage, tmp_path: Path) -> Manage:
    (tmp_path / "halves").mkdir()
    (tmp_path / "halves" / "__init__.py").touch()
    (tmp_path / "halves" / "pipelines.py").write_text(BAD.lstrip())

    return lambda *words, **more: manage("try_pipeline", "halves", *words, apps="halves", **more)


def test_a_failure_says_which_item_which_error_and_where(halves):
    tried = halves("--item", '{"n": 0}', "--item", '{"n": 2}')

    assert tried.returncode == 1
    assert "half (Half): 2 items, 1 output, 1 failed" in tried.stdout
    assert "000  failed (after 2 tries): ZeroDivisionError: division by zero (pipelines.py:7)" in tried.stdout
    assert 'item: {"n":0}' in tried.stdout
    assert "Traceback" not in tried.stdout + tried.stderr
    assert "Traceback" in halves("--item", '{"n": 0}', "--traceback").stdout


def test_json_is_an_object_a_stage(halves):
    tried = halves("--item", '{"n": 0}', "--item", '{"n": 5}', "--json", "--stage", "half")

    (found,) = map(json.loads, tried.stdout.splitlines())
    assert found["outputs"] == [{"n": 2.0, "file": ""}]
    assert found["failures"] == [
        {"key": "000", "error": "ZeroDivisionError: division by zero", "attempts": 2, "item": {"n": 0}}
    ]


def test_the_first_items_are_tried(halves):
    words = [word for n in range(1, 9) for word in ("--item", json.dumps({"n": n}))]

    assert "5 items, 5 outputs" in halves(*words).stdout
    assert "2 items, 2 outputs" in halves(*words, "--limit", "2").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--item", "{"), "Cannot use --item '{': it is not valid JSON"),
        (("--item", "[1]"), "expected a JSON object"),
        ((), "Cannot run numbers: it needs input items, got none."),
        (("--item", "{}", "--limit", "0"), "argument --limit: expected a whole number above 0, got: '0'"),
        (("--item", "{}", "--param", "a=1"), "Cannot use parameter 'a'"),
        (("--stage", "whole", "--item", "{}"), "Cannot find stage 'whole' of pipeline numbers: expected one of echo."),
        (("--input", "absent.csv"), "Cannot read absent.csv"),
    ],
)
def test_wrong_usage_is_one_sentence(here, words, said):
    refused = here("try_pipeline", "numbers", *words)

    assert refused.code == 2
    assert said in refused.err
