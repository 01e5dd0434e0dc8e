"""Why a loop must stop before its next item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pause_manager.models import Hold


@dataclass(frozen=True)
class Stop:
    """A short code for machines and a sentence for people."""

    code: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


SHUTDOWN = Stop("shutdown", "The worker is shutting down.")


def told_of_hold(scope: str, kind: str, reason: str) -> str:
    """The sentence of a hold."""
    return f"{kind} hold: {reason}" if reason else f"{kind} hold on {scope.split(':')[0]}"


def quiesced(scopes: Iterable[str]) -> dict[str, Stop]:
    """Those of ``scopes`` of which a hold stops running work at the next item, each with that stop. One query."""
    holds = Hold.objects.covering(scopes).filter(mode=Hold.Mode.QUIESCE).values_list("scope", "kind", "reason")
    return {scope: Stop("held", told_of_hold(scope, kind, reason)) for scope, kind, reason in holds}
