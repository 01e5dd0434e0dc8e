"""A provider for tests and demonstrations, signed as Stripe signs: one who has its secret says what was paid."""

from __future__ import annotations

from automation.contrib.credits.errors import NoticeInvalid
from automation.contrib.credits.payments.notice import Effect, Notice, loaded, text, whole

HEADER = "Dummy-Signature"
KINDS = {"paid": Effect.PAID, "refunded": Effect.REFUNDED, "disputed": Effect.REVIEW, "waiting": Effect.NONE}


def read(body: bytes) -> Notice:
    """``{"id", "kind", "reference", "payment", "amount", "currency"}``; ``amount`` as Stripe has it, such as cents."""
    event = loaded(body)
    kind = text(event, "kind")
    if kind not in KINDS:
        raise NoticeInvalid(f"expected kind as one of {', '.join(KINDS)}, got: {kind[:40]!r}")
    reference = text(event, "reference", required=False)
    amount, currency = whole(event, "amount"), text(event, "currency")
    return Notice(text(event, "id"), kind, KINDS[kind], reference, text(event, "payment"), amount, currency)
