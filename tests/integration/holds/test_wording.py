"""Every hold that may be placed is told in a sentence, with what lifts it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pause_manager.holds import wording
from pause_manager.models import Hold

SCOPES = ("fleet", "queue:gpu", "pipeline:content", "lane:acme", "run:1", "node:a1", "resource:openai")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", Hold.Kind.values)
def test_each_kind_on_each_scope_is_told(kind: str, scope: str) -> None:
    at = datetime(2026, 11, 30, 12, tzinfo=UTC)
    hold = Hold(scope=scope, kind=kind, mode="drain", actor="user:olga", reason="demo", created_at=at, expires_at=at)

    reason = wording.reason_of(hold)

    subject, _, name = scope.partition(":")
    assert reason.code == (subject if subject in ("fleet", "node") else kind)
    assert reason.sentence.endswith(".")
    assert subject == "run" or (name or "fleet") in reason.sentence
    assert reason.lifted_by
    assert reason.figures["scope"] == scope
