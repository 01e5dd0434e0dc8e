"""Asks everybody who knows a fact, and sums the facts up: one answer for each question, one sentence for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection, transaction

from pause_manager import database, workloads
from pause_manager.health import flow, freshness
from pause_manager.models.clock import database_now
from pause_manager.workloads import Finding

logger = logging.getLogger("pause_manager.health.verdict")

QUESTIONS = FLOWING, SUCCEEDING, FRESH = ("flowing", "succeeding", "fresh")

YES, NO, HELD, UNKNOWN = "yes", "no", "held", "unknown"

_SOURCES: dict[str, Callable[[], Iterable[Finding]]] = {
    "the fleet": flow.findings,
    "the work": workloads.findings,
    "the figures": freshness.findings,
}

_IN_WORDS = {
    FLOWING: {
        YES: "work is flowing",
        NO: "work is not flowing as it should",
        HELD: "work is held",
        UNKNOWN: "there is no work",
    },
    SUCCEEDING: {
        YES: "it is succeeding",
        NO: "it is failing",
        HELD: "it is held",
        UNKNOWN: "nothing has ended lately",
    },
    FRESH: {
        YES: "the figures are fresh",
        NO: "the figures are old or wrong",
        HELD: "the figures are fresh",
        UNKNOWN: "nothing is measured",
    },
}
_ORDER = ("problem", "held", "note", "good")


@dataclass(frozen=True)
class Answer:
    """The answer to one question: ``yes``, ``no``, ``held`` (on purpose, or for room) or ``unknown`` (no evidence)."""

    question: str
    answer: str
    findings: tuple[Finding, ...]

    @property
    def sentence(self) -> str:
        """For people, without a full stop."""
        return _IN_WORDS[self.question][self.answer]

    def as_dict(self, *, with_details: bool) -> dict[str, Any]:
        """For JSON; names and errors only ``with_details``."""
        return {
            "question": self.question,
            "answer": self.answer,
            "sentence": self.sentence,
            "findings": [_shown(one, with_details) for one in self.findings],
        }


@dataclass(frozen=True)
class Verdict:
    """All answers, at one time of the database."""

    answers: tuple[Answer, ...]
    checked_at: datetime

    @property
    def is_ok(self) -> bool:
        """Whether nobody has to act: no question is answered with ``no``."""
        return all(one.answer != NO for one in self.answers)

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        *most, last = (one.sentence for one in self.answers)
        said = f"{', '.join(most)}, and {last}"
        return f"{said[0].upper()}{said[1:]}."

    def as_dict(self, *, with_details: bool = True) -> dict[str, Any]:
        """For JSON."""
        return {
            "is_ok": self.is_ok,
            "sentence": self.sentence,
            "checked_at": self.checked_at.isoformat(),
            "answers": [one.as_dict(with_details=with_details) for one in self.answers],
        }


def judge() -> Verdict:
    """Ask now. What cannot be read is a problem of the question ``fresh``; raises ``DatabaseError`` without a database.

    Bounded: each fact is read by an index or a stored total, however much work there is.
    """
    now = database_now()
    found: list[Finding] = []
    for name, source in _SOURCES.items():
        try:
            with transaction.atomic() if connection.in_atomic_block else nullcontext():
                found += source()
        except Exception as error:
            if isinstance(error, DatabaseError) and database.is_away(error):
                raise
            logger.exception("The state of %s could not be read.", name)
            found.append(_unreadable(name, error))
    return Verdict(tuple(_answer(question, found) for question in QUESTIONS), now)


def _answer(question: str, found: Iterable[Finding]) -> Answer:
    mine = sorted((one for one in found if one.question == question), key=lambda one: _ORDER.index(one.level))
    levels = {one.level for one in mine}
    answer = UNKNOWN
    if "problem" in levels:
        answer = NO
    elif "good" in levels:
        answer = YES
    elif "held" in levels:
        answer = HELD
    return Answer(question, answer, tuple(mine))


def _unreadable(name: str, error: Exception) -> Finding:
    return Finding(
        FRESH,  # type: ignore[arg-type]
        "problem",
        "unreadable",
        f"What is known of {name} cannot be read.",
        cause=f"{type(error).__name__}, see the log of this process",
        next_step="see /readyz, and the log",
    )


def _shown(one: Finding, with_details: bool) -> dict[str, Any]:
    told = {
        "level": one.level,
        "code": one.code,
        "sentence": one.sentence,
        "cause": one.cause,
        "next_step": one.next_step,
        "since": one.since.isoformat() if one.since else None,
    }
    return told | ({"detail": one.detail} if with_details else {})
