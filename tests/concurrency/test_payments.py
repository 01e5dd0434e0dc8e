"""Two webhooks, two clicks, a payment and its refund at once: one entry, and nothing overlooked."""

from __future__ import annotations

import time
from functools import partial
from uuid import uuid4

import pytest
from django.db import IntegrityError

from automation.contrib.credits import ledger
from automation.contrib.credits.models import Payment, PaymentNotice, Transfer
from automation.contrib.credits.payments import booking, orders
from tests.support.api_users import client_of, make_user
from tests.support.credit_books import CREDIT, assert_sound, balance, funded_site
from tests.support.factories import OPERATOR
from tests.support.payments import STRIPE, intent_paid, refunded, send, session_paid
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _stripe(settings):
    settings.CREDITS = {"stripe_secrets": (STRIPE,)}


@pytest.fixture
def site():
    return funded_site(0)


def order(site, key: str = "k") -> Payment:
    """1,000 credits for 10.00 EUR."""
    return orders.place(site.account, 1_000 * CREDIT, provider="stripe", key=key, actor=OPERATOR)


def outcomes(*responses) -> list[str]:
    return sorted(response.json()["outcome"] for response in responses)


def top_ups() -> int:
    return Transfer.objects.filter(kind="top_up").count()


@pytest.mark.parametrize("is_same_event", [True, False])
def test_two_webhooks_of_one_payment_are_one_entry(site, is_same_event):
    paid = order(site)
    first = session_paid(paid.pk, 1_000)
    second = first if is_same_event else intent_paid(paid.pk, 1_000)

    told = race(partial(send, first), partial(send, second))

    assert outcomes(*told) == ["booked", "repeated"]
    assert (top_ups(), balance(site)) == (1, 1_000 * CREDIT)
    assert_sound(site)


def unguarded(monkeypatch, *guards: str) -> None:
    """Take ``guards`` of a booking away, and let both look before one writes."""
    if "turns" in guards:
        monkeypatch.setattr(booking, "_lock", lambda provider, external_id: None)
    if "state" in guards:
        monkeypatch.setattr(booking, "_mark_paid", lambda payment, external_id, made: True)
    if "key" in guards:
        real = ledger.top_up

        def with_any_key(account, amount, *, key, **more):
            return real(account, amount, key=f"{key}:{uuid4()}", **more)

        monkeypatch.setattr(ledger, "top_up", with_any_key)
    look = booking._payment_of

    def slow(*given):
        found = look(*given)
        time.sleep(0.4)
        return found

    monkeypatch.setattr(booking, "_payment_of", slow)


@pytest.mark.parametrize("guards", [("turns",), ("state",), ("turns", "state"), ("turns", "key")])
def test_each_guard_of_a_booking_suffices_alone(site, monkeypatch, guards):
    paid = order(site)
    unguarded(monkeypatch, *guards)

    for told in race(*(partial(_any, body) for body in (session_paid(paid.pk, 1_000), intent_paid(paid.pk, 1_000)))):
        assert told in ("booked", "repeated", "refused")

    assert (top_ups(), balance(site)) == (1, 1_000 * CREDIT)


def test_without_any_guard_there_are_two_entries(site, monkeypatch):
    paid = order(site)
    unguarded(monkeypatch, "turns", "state", "key")

    race(*(partial(_any, body) for body in (session_paid(paid.pk, 1_000), intent_paid(paid.pk, 1_000))))

    assert top_ups() == 2


def _any(body: bytes) -> str:
    outcome: str = send(body).json()["outcome"]
    return outcome


def test_the_same_event_is_recorded_once_even_without_turns(site, monkeypatch):
    body = session_paid(order(site).pk, 1_000)
    unguarded(monkeypatch, "turns")

    # The database refuses the second row of an event; the provider sends it again.
    with pytest.raises(IntegrityError, match="credits_one_notice_of_an_event"):
        race(partial(send, body), partial(send, body))

    assert PaymentNotice.objects.count() == 1
    assert (top_ups(), balance(site)) == (1, 1_000 * CREDIT)


def test_a_payment_and_its_refund_at_once_are_both_booked(site):
    for turn in range(6):
        paid, intent = order(site, f"k{turn}"), f"pi_{turn}"

        race(partial(send, session_paid(paid.pk, 1_000, intent)), partial(send, refunded(1_000, intent)))

        assert balance(site) == 0
    assert PaymentNotice.objects.filter(outcome="refunded").count() == 6
    assert_sound(site)


def test_two_clicks_are_one_order(site):
    address = f"/api/v1/credits/accounts/{site.account_id}/payments/"
    client = client_of(make_user("mia", site, "view_transfer", "add_payment"))
    given = {"credits": "1000", "provider": "stripe", "key": "click"}

    first, second = race(*(lambda: client.post(address, given) for _ in range(2)))

    assert first.json() == second.json()
    assert (first.json()["amount"], first.json()["state"]) == ("10.00", "waiting")
    assert Payment.objects.count() == 1
