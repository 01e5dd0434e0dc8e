"""The signature of a failure: the class of the error and the first line of its text, by which failures are grouped."""

from __future__ import annotations

import re

LONGEST = 300
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")


def signature_of(error: str) -> str:
    """The last line of a traceback, or the first of another text; numbers in it do not tell errors apart."""
    return _NUMBERS.sub("#", line_of(error))[:LONGEST]


def line_of(error: str) -> str:
    """``Class: text``: what a traceback ends with, else the first line."""
    lines = [line for line in error.strip().splitlines() if line.strip()]
    if not lines:
        return "no text"
    if not lines[0].startswith("Traceback"):
        return lines[0]
    raised = [line for line in lines[1:] if line[:1].strip() and not line.startswith("Traceback")]
    return raised[-1] if raised else lines[-1]
