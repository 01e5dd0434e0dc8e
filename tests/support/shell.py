"""``manage.py`` as a person or a script meets it: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from django.core.management import execute_from_command_line

from tests.support.workers import REPOSITORY


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs commands on this test's database: called, in this process; by :meth:`outside`, in one of their own."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def __call__(self, *words: str, stdin: str = "") -> Ended:
        """By the same entry as ``manage.py``, without its start of a second or two."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
        with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", given):
            try:
                execute_from_command_line(["manage.py", *words])
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Ended(code, out.getvalue(), err.getvalue())

    def outside(self, *words: str, stdin: str | None = None) -> Ended:
        process = self.start(*words, stdin=subprocess.PIPE)
        out, err = process.communicate(stdin, timeout=100)
        return Ended(process.returncode, out, err)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """A process, of which the caller takes care."""
        command = [sys.executable, "manage.py", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=REPOSITORY, env=self.env, stdout=pipe, stderr=pipe, text=True, **options)
