"""Events of Stripe's webhooks. https://docs.stripe.com/api/events/types names them and their objects."""

from __future__ import annotations

from typing import Any

from automation.contrib.credits.errors import NoticeInvalid
from automation.contrib.credits.payments.notice import Effect, Notice, loaded, text, whole

HEADER = "Stripe-Signature"
SESSIONS = ("checkout.session.completed", "checkout.session.async_payment_succeeded")
INTENT, REFUND = "payment_intent.succeeded", "charge.refunded"
IN_QUESTION = ("charge.dispute.", "charge.refund.", "refund.failed")


def read(body: bytes) -> Notice:
    """The event in ``body``. Raises ``NoticeInvalid``."""
    event = loaded(body)
    event_id, kind = text(event, "id"), text(event, "type")
    data = event.get("data")
    thing = data.get("object") if isinstance(data, dict) else None
    if not isinstance(thing, dict):
        raise NoticeInvalid("expected data.object as a JSON object")
    if kind in SESSIONS:
        return _of_session(event_id, kind, thing)
    if kind == INTENT:
        # The sessions' own events report intents that name no payment of ours.
        reference = _reference(thing)
        effect = Effect.PAID if reference else Effect.NONE
        return _paid(event_id, kind, thing, effect, reference, text(thing, "id"), "amount_received")
    if kind == REFUND:
        intent = text(thing, "payment_intent", required=False) or text(thing, "id")
        return _paid(event_id, kind, thing, Effect.REFUNDED, _reference(thing), intent, "amount_refunded")
    if kind.startswith(IN_QUESTION):
        intent = text(thing, "payment_intent", required=False) or text(thing, "charge", required=False)
        return _paid(event_id, kind, thing, Effect.REVIEW, "", intent, "amount")
    return Notice(event_id, kind, Effect.NONE)


def _of_session(event_id: str, kind: str, session: dict[str, Any]) -> Notice:
    if session.get("payment_status") != "paid":
        return Notice(event_id, kind, Effect.NONE)  # another event tells when the money has come
    reference = text(session, "client_reference_id", required=False) or _reference(session)
    intent = text(session, "payment_intent", required=False) or text(session, "id")
    return _paid(event_id, kind, session, Effect.PAID, reference, intent, "amount_total")


def _reference(thing: dict[str, Any]) -> str:
    metadata = thing.get("metadata")
    return text(metadata, "payment", required=False) if isinstance(metadata, dict) else ""


def _paid(
    event_id: str, kind: str, thing: dict[str, Any], effect: Effect, reference: str, external_id: str, amount: str
) -> Notice:
    return Notice(event_id, kind, effect, reference, external_id, whole(thing, amount), text(thing, "currency"))
