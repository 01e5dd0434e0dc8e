"""``make test-touched``: the slow tests that guard what a change touched, as many as there is time for.

``guards.toml`` lists, for each part of the code, the slow tests that guard it, the most telling first. The first test
of each part that was touched runs, then the second of each, and so on. A test that may run for longer than
``LONGEST_SECONDS`` is left to ``make test-slow``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
TABLE = REPOSITORY / "tests" / "guards.toml"
REPORT = REPOSITORY / "build" / "touched.xml"
COMMITS = 10
"""How far back a clone without a remote branch or a tag looks, along the first parents."""
LONGEST_SECONDS = 300
NO_TIME = "no time was left"
TOO_LONG = f"it may run for longer than {LONGEST_SECONDS} s"
_ENDS_AT = "TOUCHED_ENDS_AT"
_IS_SLOW = re.compile(r"\bmark\.slow\b|import .*\bpytestmark\b")

Guards = Mapping[str, Sequence[str]]


def read(table: Path = TABLE) -> Guards:
    """By the path of a file, or of a folder with a slash at its end, the files with the slow tests that guard it."""
    guards: Guards = tomllib.loads(table.read_text())
    return guards


def problems(guards: Guards, root: Path = REPOSITORY) -> list[str]:
    """Whatever ``guards`` names that is not there, and slow tests that it does not name."""
    found = [f"{path}: no such file or folder" for path in guards if not _is_there(root, path)]
    named = sorted(set(chain.from_iterable(guards.values())))
    found += [f"{test}: no such file" for test in named if not (root / test).is_file()]
    slow = {
        str(test.relative_to(root)) for test in root.glob("tests/**/test_*.py") if _IS_SLOW.search(test.read_text())
    }
    found += [f"{test}: has no slow test" for test in named if (root / test).is_file() and test not in slow]
    return found + [f"{test}: has slow tests, which guard nothing" for test in sorted(slow - set(named))]


def _is_there(root: Path, path: str) -> bool:
    return (root / path).is_dir() if path.endswith("/") else (root / path).is_file()


def chosen(guards: Guards, changed: Iterable[str]) -> list[str]:
    """The test files to run, in order: those that were changed themselves, then the first of each part, and so on."""
    changed = sorted(set(changed))
    own = [test for test in changed if test in set(chain.from_iterable(guards.values()))]
    touched = [tests for path, tests in guards.items() if any(_is_of(path, file) for file in changed)]
    by_turns = chain.from_iterable(zip_longest(*touched))
    return list(dict.fromkeys(test for test in chain(own, by_turns) if test is not None))


def _is_of(path: str, file: str) -> bool:
    return file.startswith(path) if path.endswith("/") else file == path


def base() -> str:
    """The commit that the change starts from: ``CI_BASE``, or where it left the remote's main, the last tag, or
    ``COMMITS`` commits ago, whichever is found first.
    """
    if given := os.environ.get("CI_BASE"):
        return _git("rev-parse", "--verify", f"{given}^{{commit}}")
    head = _git("rev-parse", "HEAD")
    for question in (("merge-base", "origin/main", "HEAD"), ("describe", "--tags", "--abbrev=0", "HEAD~1")):
        found = _git(*question, or_else="")
        if found and (commit := _git("rev-parse", f"{found}^{{commit}}")) != head:
            return commit
    return _git("rev-list", "--first-parent", f"--max-count={COMMITS + 1}", "HEAD").splitlines()[-1]


def changes(since: str) -> list[str]:
    """The files that differ from a commit, under both names if they were moved, and those that git does not know."""
    differing = _git("diff", "--name-only", "--no-renames", since).splitlines()
    return differing + _git("ls-files", "--others", "--exclude-standard").splitlines()


def _git(*arguments: str, or_else: str | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode and or_else is None:
        sys.exit(f"Cannot read the changes: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip() if done.returncode == 0 else or_else or ""


def run(tests: Sequence[str], minutes: float, workers: int, arguments: Sequence[str]) -> int:
    """Run the slow tests of these files until the time is over, and print what became of each; the exit code."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    # In the order given: the most telling ones first.
    order = ["-p", "no:randomly", "-n", str(workers), "--dist", "loadgroup", "--no-loadscope-reorder"]
    report = ["-r", "fE", f"--junitxml={REPORT}", "-o", "junit_family=xunit1"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "slow", "-p", "tests.guards", *order, *report, *arguments, *tests],
        cwd=REPOSITORY,
        env={**os.environ, "CHAOS_LONG": "1", _ENDS_AT: str(time.time() + 60 * minutes)},
    )
    if not REPORT.exists():
        return done.returncode or 1
    outcomes = _outcomes(REPORT)
    for test in tests:
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.get(test, {}).items()))
        print(f"touched: {test}: {told or 'ran nothing'}")
    return done.returncode or int(any(test not in outcomes for test in tests))


def _outcomes(report: Path) -> dict[str, Counter[str]]:
    """By test file, how many of its tests ended in which way."""
    found: dict[str, Counter[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is not None:
            why = skipped.get("message", "")
            outcome = f"left out ({why})" if why in (NO_TIME, TOO_LONG) else "skipped"
        else:
            outcome = "passed" if case.find("failure") is None and case.find("error") is None else "failed"
        found.setdefault(case.get("file", ""), Counter())[outcome] += 1
    return found


def pytest_runtest_setup(item: pytest.Item) -> None:
    """As a plugin: begin no test after the end, and none that may run for too long."""
    limit = item.get_closest_marker("timeout")
    if limit is not None and limit.args and limit.args[0] > LONGEST_SECONDS:
        pytest.skip(TOO_LONG)
    if _ENDS_AT in os.environ and time.time() > float(os.environ[_ENDS_AT]):
        pytest.skip(NO_TIME)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="begin no test after these (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="tests at a time (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the test files and run nothing")
    options, for_pytest = parser.parse_known_args(arguments)
    guards = read()
    if found := problems(guards):
        print(f"Cannot use {TABLE.relative_to(REPOSITORY)}:", *found, sep="\n  ", file=sys.stderr)
        return 2
    since = base()
    files = changes(since)
    tests = chosen(guards, files)
    print(f"touched: {len(files)} files since {since[:10]}; {len(tests)} files of slow tests guard them", flush=True)
    if options.list and tests:
        print(*tests, sep="\n")
    if options.list or not tests:
        return 0
    return run(tests, options.minutes, options.workers, for_pytest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
