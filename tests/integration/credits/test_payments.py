"""Webhooks of payments: twice, late, out of order, forged, wrong: booked once, or refused and told; never silent."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from automation.contrib.credits import settling
from automation.contrib.credits.models import Billing, Payment, PaymentNotice, Transfer
from automation.contrib.credits.payments import orders, signatures
from automation.models import Account
from pause_manager.models import ControlEvent, Hold
from pause_manager.models.counters import CounterTotal
from pause_manager.observability import counters
from tests.integration.credits.test_api import CREDITS, MANAGE, SEE
from tests.integration.credits.test_budget import short_run
from tests.support.api_users import client_of, make_user
from tests.support.credit_books import CREDIT, assert_sound, balance, funded_site
from tests.support.factories import OPERATOR, drain
from tests.support.payments import DUMMY, STRIPE, event, intent_paid, refunded, send, session_paid, signed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _providers(settings):
    settings.CREDITS = {"stripe_secrets": (STRIPE,), "dummy_secrets": (DUMMY,)}


@pytest.fixture
def site():
    return funded_site(0, "acme")


def order(site, credits: int = 1_000, provider: str = "stripe", key: str = "k") -> Payment:
    """An order; 1,000 credits are 10.00 EUR."""
    return orders.place(site.account, credits * CREDIT, provider=provider, key=key, actor=OPERATOR)


def outcome_of(response) -> str:
    assert response.status_code == 200, response.content
    outcome: str = response.json()["outcome"]
    return outcome


def told_reasons() -> list[str]:
    return list(ControlEvent.objects.filter(action="payment_refused").order_by("pk").values_list("reason", flat=True))


def counted(outcome: str) -> float:
    """As ``/metrics`` has it."""
    counters.flush()
    labels = json.dumps({"outcome": outcome, "provider": "stripe"}, separators=(",", ":"))
    row = CounterTotal.objects.filter(name="slackwater_payment_notices_total", labels=labels).first()
    return row.value if row is not None else 0


def test_what_is_paid_is_added_once_and_the_books_name_the_payment(site):
    paid = order(site)

    response = send(session_paid(paid.pk, 1_000))

    assert outcome_of(response) == "booked"
    assert balance(site) == 1_000 * CREDIT
    paid.refresh_from_db()
    assert (paid.state, paid.external_id) == ("paid", "pi_1")
    assert paid.transfer_id is not None
    booked = Transfer.objects.get(pk=paid.transfer_id)
    assert (booked.kind, booked.reason, booked.actor) == ("top_up", f"payment {paid.pk}", "provider:stripe")
    assert_sound(site)


def test_an_event_that_comes_again_changes_nothing(site):
    body = session_paid(order(site).pk, 1_000)
    send(body)

    assert outcome_of(send(body)) == "repeated"
    assert balance(site) == 1_000 * CREDIT


@pytest.mark.parametrize("is_first", ["session", "intent"])
def test_two_events_of_one_payment_are_one_entry(site, is_first):
    paid = order(site)
    bodies = [session_paid(paid.pk, 1_000), intent_paid(paid.pk, 1_000)]
    if is_first == "intent":
        bodies.reverse()

    assert [outcome_of(send(body)) for body in bodies] == ["booked", "repeated"]
    assert balance(site) == 1_000 * CREDIT


def test_an_event_of_days_ago_that_is_signed_anew_is_booked(site):
    late = json.loads(session_paid(order(site).pk, 1_000))
    late["created"] = int(time.time()) - 3 * 86_400

    assert outcome_of(send(json.dumps(late).encode())) == "booked"


BODY = b'{"id": "evt_1"}'


HEADERS = {
    "of another secret": (lambda: signed(BODY, "whsec_of_somebody_else"), "not of a secret that is set up"),
    "of another body": (lambda: signed(BODY + b" "), "not of a secret that is set up"),
    "of another scheme": (lambda: signed(BODY).replace("v1=", "v0="), "of the scheme v1"),
    "without a time": (lambda: signed(BODY).split(",")[1], "with one time"),
    "with two times": (lambda: f"t=1,{signed(BODY)}", "with one time"),
    "with a wrong time": (lambda: "t=1\u00b2,v1=1", "with one time"),
    "not hexadecimal": (lambda: f"t={int(time.time())},v1=\u00e9", "not of a secret that is set up"),
    "empty": (lambda: f"t={int(time.time())},v1=", "not of a secret that is set up"),
    "none": (lambda: "", "got none"),
    "too long": (lambda: "x" * 5_000, "got none"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_what_the_provider_has_not_signed_is_refused_and_told(site, case):
    make, fact = HEADERS[case]

    response = send(BODY, header=make())

    assert (response.status_code, response.json()["code"]) == (400, "notice_invalid")
    assert fact in response.json()["message"]
    assert fact in told_reasons()[0]
    assert balance(site) == 0


@pytest.mark.parametrize("age", [301, -301, 86_400])
def test_a_signature_of_another_time_is_a_replay(site, age):
    body = session_paid(order(site).pk, 1_000)

    response = send(body, header=signed(body, age=age))

    assert response.status_code == 400
    assert "expected 300 s at most" in response.json()["message"]
    assert balance(site) == 0


def test_one_of_several_signatures_is_enough_while_a_secret_is_replaced(site, settings):
    settings.CREDITS = {"stripe_secrets": ("whsec_the_new_one_here", STRIPE)}
    body = session_paid(order(site).pk, 1_000)
    at, good = signed(body).split(",")

    assert outcome_of(send(body, header=f"{at},v1={'0' * 64},{good},v0=abc")) == "booked"


def test_many_forged_notices_are_all_counted_and_told_once():
    before = counted("invalid")

    for _ in range(5):
        send(BODY, header=signed(BODY, "whsec_of_somebody_else"))

    assert len(told_reasons()) == 1
    assert counted("invalid") == before + 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"amount_total": 999}, "expected 10.00 EUR, got: 9.99 EUR"),
        ({"amount_total": 1_001}, "expected 10.00 EUR, got: 10.01 EUR"),
        ({"currency": "usd"}, "expected 10.00 EUR, got: 10.00 USD"),
        ({"currency": "jpy"}, "expected 10.00 EUR, got: 1,000.00 JPY"),
        ({"client_reference_id": "00000000-0000-4000-8000-000000000000"}, "names no payment that was ordered here"),
        ({"client_reference_id": "order 7"}, "names no payment that was ordered here"),
        ({"client_reference_id": None}, "names no payment that was ordered here"),
    ],
)
def test_money_that_does_not_fit_is_recorded_and_told_and_not_booked(site, change, reason):
    paid, before = order(site), counted("refused")

    response = send(session_paid(paid.pk, 1_000, **change))

    assert outcome_of(response) == "refused"
    assert reason in told_reasons()[0]
    assert reason in PaymentNotice.objects.get().reason
    assert counted("refused") == before + 1
    assert balance(site) == 0
    paid.refresh_from_db()
    assert paid.state == "waiting"


def test_an_account_that_is_gone_is_refused(site):
    paid = order(site)
    Payment.objects.filter(pk=paid.pk).update(account_id=10**9)

    assert outcome_of(send(session_paid(paid.pk, 1_000))) == "refused"
    assert told_reasons() == [f"account {10**9} does not exist any more"]
    assert not Account.objects.filter(pk=10**9).exists()


def test_a_payment_that_is_made_twice_is_booked_once_and_the_second_is_told(site):
    paid = order(site)
    send(session_paid(paid.pk, 1_000, "pi_1"))

    again = send(session_paid(paid.pk, 1_000, "pi_2"))

    assert outcome_of(again) == "refused"
    assert "this is paid twice" in told_reasons()[0]
    assert balance(site) == 1_000 * CREDIT
    assert outcome_of(send(refunded(1_000, "pi_2"))) == "refunded"
    assert balance(site) == 1_000 * CREDIT


def test_one_payment_at_the_provider_pays_one_order(site):
    first, second = order(site, key="a"), order(site, key="b")
    send(session_paid(first.pk, 1_000, "pi_1"))

    assert outcome_of(send(session_paid(second.pk, 1_000, "pi_1"))) == "refused"
    assert told_reasons() == ["pi_1 has paid another payment already"]
    assert balance(site) == 1_000 * CREDIT


@pytest.mark.parametrize("order_of_events", [(400, 1_000), (1_000, 400), (1_000, 1_000)])
def test_what_is_paid_back_takes_its_credits_whatever_comes_first(site, order_of_events):
    paid = order(site)
    send(session_paid(paid.pk, 1_000))

    for cents in order_of_events:
        send(refunded(cents))

    assert balance(site) == 0
    paid.refresh_from_db()
    assert paid.refunded == paid.amount
    assert_sound(site)


def test_a_refund_that_comes_before_its_payment_is_told_and_booked_after_it(site):
    paid = order(site)

    assert outcome_of(send(refunded(250))) == "early"
    assert balance(site) == 0
    assert outcome_of(send(session_paid(paid.pk, 1_000))) == "booked"

    assert balance(site) == 750 * CREDIT
    assert PaymentNotice.objects.get(kind="charge.refunded").outcome == "refunded"
    assert len(told_reasons()) == 1
    assert_sound(site)


def test_more_back_than_was_paid_is_refused(site):
    send(session_paid(order(site).pk, 1_000))

    assert outcome_of(send(refunded(1_001))) == "refused"
    assert "it pays back 10.01 EUR, of 10.00 EUR that were paid" in told_reasons()
    assert balance(site) == 1_000 * CREDIT


def test_a_dispute_is_for_a_person_to_decide(site):
    send(session_paid(order(site).pk, 1_000))
    thing = {"id": "dp_1", "payment_intent": "pi_1", "amount": 1_000, "currency": "eur"}

    assert outcome_of(send(event("charge.dispute.created", thing))) == "refused"
    assert "charge.dispute.created: decide" in told_reasons()[0]
    assert ControlEvent.objects.get(action="payment_refused").scope == f"account:{site.account_id}"
    assert balance(site) == 1_000 * CREDIT


@pytest.mark.parametrize("status", ["unpaid", "no_payment_required", None])
def test_a_session_without_money_books_nothing(site, status):
    body = session_paid(order(site).pk, 1_000, payment_status=status)

    assert outcome_of(send(body)) == "ignored"
    assert balance(site) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"id": "evt_1"}',
        b'{"id": 1, "type": "charge.refunded", "data": {"object": {}}}',
        b'{"id": "evt_1", "type": "charge.refunded", "data": {"object": []}}',
        session_paid("x", -1),
        session_paid("x", 10**20),
        session_paid("x", 1, amount_total=True),
        session_paid("x", 1, amount_total="1000"),
        session_paid("x\0", 1),
        session_paid("x", 1, currency=None),
    ],
    ids=[f"body-{n}" for n in range(12)],
)
def test_what_is_signed_and_makes_no_sense_is_refused_with_what_is_expected(body):
    response = send(body)

    assert (response.status_code, response.json()["code"]) == (400, "notice_invalid")
    assert "expected" in response.json()["message"]
    assert len(told_reasons()) == 1


@pytest.mark.parametrize("provider", ["paypal", "stripe"])
def test_a_provider_that_is_not_set_up_is_not_found(settings, provider):
    settings.CREDITS = {}

    assert send(BODY, provider="stripe", header="x").status_code == 404


def test_the_dummy_provider_pays_as_well(site):
    paid = order(site, provider="dummy")
    told = {"id": "1", "kind": "paid", "reference": str(paid.pk), "payment": "p1", "amount": 1_000, "currency": "EUR"}

    assert outcome_of(send(json.dumps(told).encode(), provider="dummy")) == "booked"
    assert balance(site) == 1_000 * CREDIT


def test_one_provider_does_not_pay_what_was_ordered_from_another(site):
    paid = order(site, provider="dummy")

    assert outcome_of(send(session_paid(paid.pk, 1_000))) == "refused"
    assert balance(site) == 0


@pytest.mark.parametrize(("policy", "is_held"), [("ask", True), ("resume", False)])
def test_a_payment_releases_what_the_policy_says(policy, is_held):
    run = drain(short_run(affords=3))
    Billing.objects.filter(pk=run.account_id).update(on_top_up=policy)
    budget = Hold.objects.active().filter(scope=run.scope, kind="budget")
    assert budget.exists()

    send(session_paid(order(run.site).pk, 1_000))
    settling.sweep()

    assert budget.exists() is is_held


def test_what_is_not_paid_for_long_is_deleted(site):
    old, new = order(site, key="old"), order(site, key="new")
    Payment.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=91))

    assert orders.drop_unpaid() == 1
    assert list(Payment.objects.all()) == [new]


@pytest.mark.parametrize(
    ("currency", "credits", "price"),
    [("EUR", 1, 10_000), ("EUR", 0.001, 10_000), ("EUR", 150.5, 1_510_000), ("JPY", 150, 2_000_000)],
)
def test_a_price_is_rounded_up_to_what_can_be_paid(settings, currency, credits, price):
    settings.CREDITS = {"currency": currency}

    assert orders.price_of(int(credits * CREDIT)) == price


def test_the_documented_scheme_of_a_signature():
    # Made with: printf '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_example
    found = signatures.sign("1700000000", b'{"id":"evt_1"}', "whsec_example")

    assert found == "2f6f24854ba5c8d505c37e6fc0a06fc74456f1a4042208e7acdd4bd0bdbd599e"


def address_of(site) -> str:
    return f"{CREDITS}accounts/{site.account_id}/payments/"


ORDER = {"credits": "1000", "provider": "stripe", "key": "k"}


@pytest.mark.req("A-36")
def test_a_member_who_may_pay_orders_for_their_account_alone(site):
    other = funded_site(0, "other")
    client = client_of(make_user("mia", site, SEE, "add_payment"))

    made = client.post(address_of(site), ORDER).json()

    assert (made["amount"], made["currency"], made["credits"], made["state"]) == ("10.00", "EUR", "1000.000", "waiting")
    assert client.post(address_of(other), ORDER).status_code == 404
    assert client.get(f"{CREDITS}payments/").json()["results"] == [made]
    assert client_of(make_user("max", other, SEE)).get(f"{CREDITS}payments/").json()["results"] == []
    refused = client_of(make_user("nora", site, SEE, MANAGE)).post(address_of(site), ORDER)
    assert (refused.status_code, "credits.add_payment" in refused.json()["message"]) == (403, True)


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        ({"credits": "0"}, 400, "expected more than 0"),
        ({"credits": "-1"}, 400, "expected more than 0"),
        ({"credits": "2"}, 409, "belongs to another"),
        ({"provider": "paypal"}, 404, "paypal"),
        ({"key": ""}, 400, "blank"),
    ],
)
def test_a_wrong_order_is_refused(site, given, status, told):
    order(site)
    client = client_of(make_user("mia", site, SEE, "add_payment"))
    key = {} if "key" in given or status == 409 else {"key": "other"}

    response = client.post(address_of(site), {**ORDER, **key, **given})

    assert response.status_code == status
    assert told in response.json()["message"]
    assert Payment.objects.count() == 1
