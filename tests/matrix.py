"""``make test-matrix``: the drop-in's tests on each Python, Celery and Django that it works on.

Each pair of versions has an environment of its own under ``build/matrix``, with the wheel of this tree, what that wheel
asks for, and the tools of the tests. One PostgreSQL and one Redis serve all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.embedded import Layout, Postgres, Redis

REPOSITORY = Path(__file__).resolve().parents[1]
ROOT = REPOSITORY / "build" / "matrix"
TESTS = ("tests/unit/checks/test_drop_in_checks.py", "tests/integration/pausable")
NEWEST_LINES = 15


@dataclass(frozen=True)
class Versions:
    """What is tested together."""

    python: str
    celery: str
    django: str

    def __str__(self) -> str:
        return f"Python {self.python}, Celery {self.celery}, Django {self.django}"

    @property
    def root(self) -> Path:
        return ROOT / f"python{self.python}-celery{self.celery}-django{self.django}"


MATRIX = (
    Versions("3.11", "5.4", "5.2"),
    Versions("3.12", "5.5", "6.0"),
    Versions("3.13", "5.6", "6.0"),
    Versions("3.13", "5.7", "5.2"),
    Versions("3.12", "5.7", "6.0"),
)
"""Each version of each is met, the oldest together and the newest together."""


def main(arguments: Sequence[str]) -> int:
    """Test each pair; ``arguments`` go to pytest. Answers the exit code: 0 if none failed and at least one ran."""
    outcomes: list[tuple[Versions, str]] = []
    with tempfile.TemporaryDirectory(prefix="slackwater-matrix-", ignore_cleanup_errors=True) as directory:
        wheel = built(Path(directory))
        servers = [Postgres(layout := Layout(Path(directory)), durable=False), Redis(layout)]
        try:
            for server in servers:
                server.start()
            # Importing the servers has named the product's settings.
            os.environ.pop("DJANGO_SETTINGS_MODULE", None)
            env = {**os.environ, "DATABASE_URL": layout.database_url, "REDIS_URL": layout.redis_url}
            for number, versions in enumerate(MATRIX, 1):
                print(f"[{number}/{len(MATRIX)}] {versions}", flush=True)
                outcomes.append((versions, _outcome(versions, wheel, env, arguments)))
                print(f"      {outcomes[-1][1]}", flush=True)
        finally:
            for server in reversed(servers):
                server.stop()
    print(f"\n{'Python':8}{'Celery':8}{'Django':8}outcome")
    for versions, outcome in outcomes:
        print(f"{versions.python:8}{versions.celery:8}{versions.django:8}{outcome}")
    told = [outcome for _, outcome in outcomes]
    return 0 if any(_passed(one) for one in told) and all(_passed(one) or _skipped(one) for one in told) else 1


def _passed(outcome: str) -> bool:
    return outcome.startswith("passed")


def _skipped(outcome: str) -> bool:
    return outcome.startswith("skipped")


def _outcome(versions: Versions, wheel: Path, env: dict[str, str], arguments: Sequence[str]) -> str:
    interpreter = next(_interpreters(versions.python), None)
    if interpreter is None:
        return f"skipped: this machine has no python{versions.python} (PATH, pyenv)"
    if complaint := _installed(versions, interpreter, wheel):
        return f"failed: cannot install: {complaint}"
    began = time.monotonic()
    command = [str(versions.root / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    log = versions.root / "tests.log"
    with log.open("w") as file:
        done = subprocess.run(
            [*command, "-m", "dropin and not slow", *arguments, *TESTS],
            cwd=REPOSITORY,
            env={**env, "DROP_IN_ALONE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    lines = log.read_text().splitlines()
    if done.returncode:
        print("\n".join(f"      | {line}" for line in lines[-NEWEST_LINES:]), flush=True)
        return f"failed: {lines[-1] if lines else 'without a word'} (build/matrix/{versions.root.name}/tests.log)"
    return f"passed: {lines[-1]} ({time.monotonic() - began:.0f} s)"


def _interpreters(version: str) -> Iterator[str]:
    """Those of ``version``, of the PATH and then of pyenv, that start."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    inside = sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)
    for found in (shutil.which(f"python{version}"), *map(str, inside)):
        if found is not None and _output(found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == version:
            yield found


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
    return done.stdout.strip() if done.returncode == 0 else ""


def built(directory: Path) -> Path:
    """The wheel of this tree; built from a copy, so that nothing is left in it."""
    print("building the wheel", flush=True)
    copy = directory / "tree"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("pause_manager", "automation"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(directory), str(copy)], check=True)
    return next(directory.glob("*.whl"))


def _installed(versions: Versions, interpreter: str, wheel: Path) -> str:
    """Make the environment, or bring it up to date; answers what went wrong."""
    print("      installing", flush=True)
    pip = [str(versions.root / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    wanted = [f"celery=={versions.celery}.*", f"Django=={versions.django}.*", str(wheel)]
    steps = [
        [interpreter, "-m", "venv", str(versions.root)],
        [*pip, "--upgrade", "pip"],
        # What it asks for may have changed, its version has not.
        [*pip, "--force-reinstall", "--no-deps", str(wheel)],
        [*pip, *wanted, "-r", str(REPOSITORY / "requirements-matrix.txt")],
    ]
    if (versions.root / "bin" / "python").exists():
        steps = steps[2:]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr or done.stdout).strip().splitlines()[-1]
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
