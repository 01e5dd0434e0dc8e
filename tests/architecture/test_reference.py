"""The generated pages of ``docs/reference`` are what the code says today."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from backend import reference
from backend.reference import actions, events, metrics, settings, source

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_is_up_to_date(name: str):
    assert (reference.DIRECTORY / name).read_text() == reference.PAGES[name](), "run: make reference"


def test_the_command_writes_every_page(tmp_path: Path):
    call_command("write_reference", to=tmp_path, stdout=StringIO())

    assert {path.name for path in tmp_path.iterdir()} == set(reference.PAGES)


def test_an_action_without_a_meaning_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(actions.ACTIONS, "parked")

    with pytest.raises(LookupError, match=r"'parked'"):
        events.page()


def test_an_option_without_a_meaning_is_refused():
    with pytest.raises(settings.Undocumented, match=r"\['silent'\]"):
        settings._table(_Options)


def test_each_metric_that_is_counted_is_on_the_page():
    declared = {one.name for one in metrics.declared()}
    # In a process of its own: tests count with metrics of theirs.
    program = "import django; django.setup(); from pause_manager.observability import metrics as m; print(*m.catalogue)"
    counted = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    assert len(names := set(counted.stdout.split())) > 10
    assert names <= declared
    assert {"slackwater_node_online", "slackwater_gpu_usable"} <= declared


def test_a_string_is_followed_to_where_it_comes_from(tmp_path: Path):
    file = tmp_path / "module.py"
    file.write_text(
        "KIND, OTHER = 'one', 'two'\n"
        "def _tell(action):\n"
        "    audit.record(f'{action}_refused')\n"
        "def act():\n"
        "    _tell(KIND if act else 'three')\n"
    )
    module = source.Module(file, ast.parse(file.read_text()))
    (call,) = (one for one in module.calls() if source.name_of(one) == "record")

    assert source.strings(call.args[0], module) == {"one_refused", "three_refused"}


@dataclass
class _Options:
    told: int = 1
    """It has a meaning."""
    silent: int = 2
