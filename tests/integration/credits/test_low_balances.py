"""A low balance is told once for each crossing: an event, a metric, and an e-mail where one is wanted."""

from __future__ import annotations

import socket

import pytest

from automation.contrib.credits import ledger, low_balances, tasks
from automation.contrib.credits.models import Billing, Transfer
from automation.models import Site
from pause_manager.models import ControlEvent
from tests.integration.credits.test_api import CREDITS, MANAGE, SEE
from tests.support.api_users import client_of, make_user
from tests.support.credit_books import CREDIT, balance, funded_site, top_up
from tests.support.factories import OPERATOR
from tests.support.race import race

pytestmark = pytest.mark.django_db(transaction=True)

MAIL = "django.core.mail.backends.locmem.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"


def low_site(**more) -> Site:
    """It has 4 credits, and is told below 5."""
    return funded_site(4, **{"low_balance": 5 * CREDIT, "notice_email": "money@example.com", **more})


def change_to(site: Site, credits: int) -> None:
    paid = Transfer.objects.filter(kind="top_up", account_id=site.account_id).latest("pk")
    off = credits * CREDIT - balance(site)
    ledger.correct(paid, off, key=f"{credits} from {balance(site)}", actor=OPERATOR, reason="a test")


def test_it_is_mailed_once_for_each_crossing(mailoutbox):
    site = low_site()
    for _ in range(3):
        low_balances.tell()
        tasks.send_notices.apply()

    [mail] = mailoutbox
    assert mail.to == ["money@example.com"]
    assert mail.subject == f"{site.account}: 4 credits are left"
    assert "less than the 5" in mail.body

    top_up(site.account, 5, key="more")
    low_balances.tell()
    change_to(site, 2)
    low_balances.tell()
    tasks.send_notices.apply()
    assert len(mailoutbox) == 2
    assert ControlEvent.objects.filter(action="credits_low").count() == 2


def test_two_sweeps_at_once_tell_and_mail_once(mailoutbox):
    low_site()

    race(low_balances.tell, low_balances.tell)
    race(low_balances.send_mails, low_balances.send_mails)

    assert len(mailoutbox) == 1
    assert ControlEvent.objects.filter(action="credits_low").count() == 1


def test_without_the_guard_two_would_mail(mailoutbox, monkeypatch):
    """What the test before guards: the row is claimed before the mail is sent."""
    low_site()
    low_balances.tell()
    monkeypatch.setattr(low_balances, "Now", lambda: None)

    low_balances.send_mails()
    low_balances.send_mails()

    assert len(mailoutbox) == 2


def test_a_mail_server_that_is_away_is_asked_again(settings, mailoutbox):
    low_site()
    low_balances.tell()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = SMTP, "127.0.0.1", nobody.getsockname()[1]
        assert low_balances.send_mails() == 0

    settings.EMAIL_BACKEND = MAIL
    assert low_balances.send_mails() == 1
    assert len(mailoutbox) == 1


@pytest.mark.parametrize("more", [{"notice_email": ""}, {"low_balance": 0}])
def test_nobody_is_written_to_who_did_not_ask(mailoutbox, more):
    low_site(**more)
    low_balances.tell()

    assert low_balances.send_mails() == 0
    assert mailoutbox == []


def test_without_a_mail_server_nothing_is_sent_and_the_event_is_there(settings):
    settings.EMAIL_BACKEND = low_balances.NO_MAIL
    low_site()
    low_balances.tell()

    assert low_balances.send_mails() == 0
    assert Billing.objects.get().low_mailed_at is None
    assert ControlEvent.objects.filter(action="credits_low").exists()


def test_a_manager_changes_the_billing_settings():
    site = funded_site(1, "acme")
    manager = client_of(make_user("max", site, SEE, MANAGE))
    address = f"{CREDITS}accounts/{site.account_id}/"
    rules = {
        "notice_email": "m@example.com",
        "time_zone": "Asia/Tokyo",
        "address": "1 Quay\nDublin",
        "low_balance": "5",
    }

    shown = manager.patch(address, rules).json()

    assert {name: shown[name] for name in rules} == {**rules, "low_balance": "5.000"}
    assert ControlEvent.objects.filter(action="changed", scope=f"account:{site.account_id}").exists()


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"time_zone": "Mars/Olympus"}, "Expected a time zone such as UTC or Europe/Berlin, got: 'Mars/Olympus'"),
        ({"time_zone": "localtime"}, "Expected a time zone"),
        ({"time_zone": ""}, "blank"),
        ({"notice_email": "nobody"}, "valid email"),
    ],
)
def test_wrong_billing_settings_are_refused(rules, told):
    site = funded_site(1, "acme")
    manager = client_of(make_user("max", site, SEE, MANAGE))

    response = manager.patch(f"{CREDITS}accounts/{site.account_id}/", rules)

    assert response.status_code == 400
    assert told in response.json()["message"]
    assert Billing.objects.get().time_zone == "UTC"
