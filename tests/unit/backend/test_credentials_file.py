"""``prepare --credentials``: the operator's token is where workers cannot read it, and no longer where they can."""

from __future__ import annotations

import pytest
from django.core.management.base import CommandError

from backend.management.commands.prepare import _move_here


@pytest.fixture
def data(settings, tmp_path):
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return settings.DATA_DIR


def test_what_an_earlier_release_left_is_moved(data, tmp_path):
    (data / "credentials.json").write_text("kept")

    _move_here(tmp_path / "own/credentials.json")

    assert (tmp_path / "own/credentials.json").read_text() == "kept"
    assert not (data / "credentials.json").exists()


def test_of_two_the_one_that_workers_can_read_goes(data, tmp_path):
    (data / "credentials.json").write_text("old")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/credentials.json").write_text("new")

    _move_here(tmp_path / "own/credentials.json")

    assert (tmp_path / "own/credentials.json").read_text() == "new"
    assert not (data / "credentials.json").exists()


def test_without_the_option_nothing_moves(data):
    (data / "credentials.json").write_text("kept")

    _move_here(data / "credentials.json")

    assert (data / "credentials.json").read_text() == "kept"


def test_a_place_that_cannot_be_written_is_said(data, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CommandError, match=r"Cannot write the credentials to .*/file/credentials.json: "):
        _move_here(tmp_path / "file/credentials.json")
