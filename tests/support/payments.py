"""Signed webhooks of payments, as Stripe and the dummy provider send them."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import UUID, uuid4

from django.test import Client
from stripe import WebhookSignature

STRIPE, DUMMY = "whsec_of_the_tests_only", "dummy_secret_of_the_tests"
WEBHOOKS = "/webhooks/payments/"


def signed(body: bytes, secret: str = STRIPE, *, age: float = 0.0) -> str:
    """The header of a body that was signed ``age`` seconds ago, as Stripe's own package makes it."""
    return str(WebhookSignature.generate_signature_header(body.decode(), secret, int(time.time() - age)))


def event(kind: str, thing: dict[str, Any], event_id: str = "") -> bytes:
    """An event of Stripe, with the members that are read and some that are not."""
    return json.dumps(
        {
            "id": event_id or f"evt_{uuid4().hex}",
            "object": "event",
            "api_version": "2025-03-31.basil",
            "created": int(time.time()),
            "livemode": False,
            "type": kind,
            "data": {"object": thing},
        }
    ).encode()


def session_paid(reference: UUID | str, cents: int, intent: str = "pi_1", event_id: str = "", **more: Any) -> bytes:
    """``checkout.session.completed`` of a session that is paid."""
    thing = {
        "id": f"cs_{intent}",
        "object": "checkout.session",
        "client_reference_id": str(reference),
        "payment_intent": intent,
        "payment_status": "paid",
        "amount_total": cents,
        "currency": "eur",
        **more,
    }
    return event("checkout.session.completed", thing, event_id)


def intent_paid(reference: UUID | str, cents: int, intent: str = "pi_1") -> bytes:
    """``payment_intent.succeeded``."""
    thing = {"id": intent, "amount_received": cents, "currency": "eur", "metadata": {"payment": str(reference)}}
    return event("payment_intent.succeeded", thing)


def refunded(cents_in_all: int, intent: str = "pi_1") -> bytes:
    """``charge.refunded``: all that was paid back so far."""
    thing = {"id": "ch_1", "payment_intent": intent, "amount_refunded": cents_in_all, "currency": "eur", "metadata": {}}
    return event("charge.refunded", thing)


def send(body: bytes, *, provider: str = "stripe", header: str | None = None) -> Any:
    """What the webhook answers."""
    name, secret = ("Stripe-Signature", STRIPE) if provider == "stripe" else ("Dummy-Signature", DUMMY)
    given = signed(body, secret) if header is None else header
    return Client().post(
        f"{WEBHOOKS}{provider}/", body, content_type="application/json; charset=utf-8", headers={name: given}
    )
