"""The table of what slow tests guard is true, and a change runs those that guard what it touches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import guards
from tests.guards import REPOSITORY

APPS = ("automation", "pause_manager", "backend")
SLOW = "pytest.mark." + "slow"  # in two parts, or this file would count as one with slow tests
NOT_CODE = {"formats"}


def test_the_table_names_what_there_is_and_every_slow_test():
    assert guards.problems(guards.read()) == []


def test_every_room_has_slow_tests_that_guard_it():
    rooms = {f"{app}/{one.name}/" for app in APPS for one in (REPOSITORY / app).iterdir() if any(one.glob("*.py"))}
    rooms = {room for room in rooms if Path(room).name not in NOT_CODE}

    assert rooms - set(guards.read()) == set()


def test_what_is_not_there_and_what_guards_nothing_is_told(tmp_path: Path):
    code, tests = tmp_path / "app", tmp_path / "tests"
    code.mkdir()
    tests.mkdir()
    (tests / "test_slow.py").write_text(f"@{SLOW}\ndef test_one(): ...\n")
    (tests / "test_forgotten.py").write_text(f"pytestmark = [{SLOW}]\n")
    (tests / "test_fast.py").write_text("def test_one(): ...\n")
    table = {"app/": ["tests/test_slow.py", "tests/test_gone.py", "tests/test_fast.py"], "old/": []}

    assert guards.problems(table, tmp_path) == [
        "old/: no such file or folder",
        "tests/test_gone.py: no such file",
        "tests/test_fast.py: has no slow test",
        "tests/test_forgotten.py: has slow tests, which guard nothing",
    ]


def test_the_first_of_each_part_comes_before_the_second_of_any_and_what_was_changed_itself_first():
    table = {"a/": ["a1", "both", "a3"], "b.py": ["b1", "both"], "c/": ["c1"]}

    assert guards.chosen(table, ["a/deep/one.py", "b.py", "a/two.py"]) == ["a1", "b1", "both", "a3"]
    assert guards.chosen(table, ["c1", "b.py"]) == ["c1", "b1", "both"]
    assert guards.chosen(table, ["ab.py", "README.md"]) == []


class History:
    """A repository of a test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commits = [self.commit(f"{number}.txt") for number in range(13)]

    def git(self, *arguments: str) -> str:
        name = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *name, *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, file: str) -> str:
        (self.root / file).write_text(file)
        self.git("add", file)
        self.git("commit", "--quiet", "--message", file)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.delenv("CI_BASE", raising=False)
    monkeypatch.setattr(guards, "REPOSITORY", tmp_path)
    return History(tmp_path)


def test_without_anything_to_go_by_the_last_commits_are_the_change(history: History):
    assert guards.base() == history.commits[-1 - guards.COMMITS]
    (history.root / "unknown.txt").write_text("not added yet")
    (history.root / "1.txt").rename(history.root / "moved.txt")

    assert set(guards.changes(history.commits[-3])) == {"11.txt", "12.txt", "1.txt", "moved.txt", "unknown.txt"}


def test_the_change_begins_at_the_last_tag_at_the_remote_s_main_or_where_one_says(
    history: History, monkeypatch: pytest.MonkeyPatch
):
    history.git("tag", "1.0", history.commits[3])
    history.git("tag", "of-now", "HEAD")
    assert guards.base() == history.commits[3], "a tag of this commit would leave no change"

    history.git("update-ref", "refs/remotes/origin/main", "HEAD")
    assert guards.base() == history.commits[3], "as on main itself"
    history.git("update-ref", "refs/remotes/origin/main", history.commits[7])
    assert guards.base() == history.commits[7]

    monkeypatch.setenv("CI_BASE", "HEAD~1")
    assert guards.base() == history.commits[-2]
    monkeypatch.setenv("CI_BASE", "nowhere")
    with pytest.raises(SystemExit, match="Cannot read the changes"):
        guards.base()


def test_no_test_begins_after_the_end_and_none_that_may_run_for_too_long(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_one(): ...\n@pytest.mark.timeout(3600)\ndef test_long(): ...\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = timeout(seconds)\n")
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:django", "-p", "no:randomly", "-p", "tests.guards"]

    def ran(ends_at: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOUCHED_ENDS_AT": ends_at}
        env.pop("DJANGO_SETTINGS_MODULE", None)
        done = subprocess.run(
            [*command, "--rootdir", str(tmp_path), str(tmp_path)], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        return done.stdout

    assert "1 passed, 1 skipped in" in ran("inf")
    assert guards.TOO_LONG in ran("inf")
    assert guards.NO_TIME in ran("0")


def test_groups_are_kept_together(request: pytest.FixtureRequest):
    """With a pytest that it does not know, xdist passes over groups without a word."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("in one process there are no groups")

    assert request.node.nodeid.endswith("@source")
