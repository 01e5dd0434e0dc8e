"""What the stages of the ``chaos`` pipeline work out, and the outputs they must come to, without the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

FAN = 2
FOLD = 5


def fan(n: int) -> list[dict[str, Any]]:
    return [{"n": n * FAN + ordinal} for ordinal in range(FAN)]


def toil(item: dict[str, Any]) -> dict[str, Any]:
    return {"n": item["n"], "digest": hashlib.sha256(str(item["n"]).encode()).hexdigest()[:12]}


def fold(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    text = " ".join(item["digest"] for item in items)
    return {"sum": sum(item["n"] for item in items), "digest": hashlib.sha256(text.encode()).hexdigest()[:12]}


def expected(items: int, poison: int = -1) -> dict[str, list[dict[str, Any]]]:
    """The outputs of each stage, worked out without the engine."""
    fanned = [output for n in range(items) for output in fan(n)]
    toiled = [toil(item) for item in fanned if item["n"] != poison]
    folded = [fold(toiled[at : at + FOLD]) for at in range(0, len(toiled), FOLD)]
    return {"fan": fanned, "toil": toiled, "fold": folded}
