"""``docs/howto/tutorial.md``, followed word by word: every block is run, every line that it shows must come."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.system import unused_port

REPOSITORY = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECOND = "# second terminal\n"
SECONDS = 180


@dataclass(frozen=True)
class Block:
    kind: str
    text: str

    @property
    def is_of_second(self) -> bool:
        return self.text.startswith(SECOND)


class Terminal:
    """A shell that is typed into; ``said`` is all that has appeared."""

    def __init__(self, home: Path) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self._log = home / f"terminal-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-e"],
                cwd=home,
                env={**kept, "HOME": str(home)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._marks = 0

    @property
    def said(self) -> str:
        return self._log.read_text()

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def run(self, text: str) -> str:
        """Type ``text`` and return what has appeared when all of it has ended."""
        before = len(self.said)
        self._marks += 1
        mark = f"--- block {self._marks} has ended ---"
        self.type(f"{text}\necho '{mark}'\n")
        assert wait(lambda: mark in self.said[before:] or self.process.poll() is not None), self.said[before:]
        assert mark in self.said[before:], self.said[before:]
        return self.said[before:].replace(mark, "")

    def end(self) -> None:
        """Ctrl-C, and close the window."""
        children = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        _, left = psutil.wait_procs([child for child in children if child.is_running()], timeout=60)
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()  # closes what it is typed into
        assert not left, left


def wait(condition: Callable[[], bool], seconds: float = SECONDS) -> bool:
    ends_at = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < ends_at:
        time.sleep(0.1)
    return met


def shows(said: str, text: str) -> bool:
    """Whether the lines of ``text`` come in ``said``, in that order; … is whatever stands there."""
    lines = [".*".join(map(re.escape, line.split("…"))) for line in text.strip("\n").splitlines()]
    return re.search("^" + r"$(?:.*\n)*?.*^".join(lines) + "$", said, re.MULTILINE) is not None


def shows_now(terminal: Terminal, text: str) -> bool:
    return shows(terminal.said, text) or terminal.process.poll() is not None


def blocks() -> list[Block]:
    return [Block(*found) for found in BLOCK.findall((REPOSITORY / "docs" / "howto" / "tutorial.md").read_text())]


@pytest.fixture
def home() -> Iterator[Path]:
    """Short, as a socket is in it, and readable for whom PostgreSQL runs as."""
    with tempfile.TemporaryDirectory(prefix="sw-") as made:
        home = Path(made)
        home.chmod(0o755)
        (home / "slackwater").symlink_to(REPOSITORY)
        yield home


@pytest.fixture
def terminals(home: Path) -> Iterator[tuple[Terminal, Terminal]]:
    both = Terminal(home), Terminal(home)
    try:
        yield both
    finally:
        for terminal in reversed(both):
            terminal.end()


def test_the_tutorial_can_be_followed_word_by_word(home: Path, terminals: tuple[Terminal, Terminal]):
    first, second = terminals
    port = unused_port()
    found = blocks()
    second.run(found[0].text)
    said = ""
    for block in found:
        text = block.text.replace("8000", str(port))
        if block.kind == "sh" and block.is_of_second:
            second.type(text.replace("manage up", f"manage up --port {port}"))
            said = ""
        elif block.kind == "sh":
            said = first.run(text)
        elif block.kind == "python":
            name, code = text.removeprefix("# ").split("\n", 1)
            (home / "first" / name).write_text(code)
        elif not said:
            assert wait(partial(shows_now, second, text)), second.said
            assert second.process.poll() is None, second.said
        else:
            assert shows(said, text), said

    sheets = [path for path in (home / "first" / "data").rglob("sheets/*.txt") if path.is_symlink()]
    assert len(sheets) == 3
    assert {block.kind for block in found} == {"sh", "python", "text"}
