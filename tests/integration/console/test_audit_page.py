"""The page of the audit trail: sentences, filters, pages, downloads, and whose events are shown to whom."""

from __future__ import annotations

import csv
import io
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from automation.models import Site
from automation.runs import lanes, lifecycle
from pause_manager import fleet
from pause_manager.actor import Actor
from pause_manager.observability import audit
from tests.support.api_users import OPERATE, VIEW, make_user
from tests.support.factories import OPERATOR, make_run, make_site

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/audit/"


@pytest.fixture
def site() -> Site:
    return make_site("ours")


@pytest.fixture
def root(site: Site) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def signed_in(site: Site, name: str, *permissions: str) -> Client:
    client = Client()
    client.force_login(make_user(name, site, *permissions))
    return client


def lines(page: str) -> list[str]:
    """The text of each event, as a person reads it."""
    found = re.findall(r'<li id="event-\d+".*?</li>', page, re.DOTALL)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", one)).strip() for one in found]


def test_events_are_sentences_with_links(root: Client, site: Site) -> None:
    run = make_run(site=site)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="lunch")
    lanes.change("ours", width=7, actor=OPERATOR, reason="more hands")

    page = root.get(URL).content.decode()

    told = "\n".join(lines(page))
    assert f"olga placed a hold on run {str(run.pk)[:8]}" in told
    assert "olga changed lane ours more hands width 1000 → 7" in told
    assert f'href="/runs/{run.pk}/"' in page


def test_filters_narrow_and_stay_in_the_links(root: Client, site: Site) -> None:
    run = make_run(site=site)
    lifecycle.pause(run.pk, actor=OPERATOR, reason="100% of the shelf")
    fleet.pause(mode="drain", reason="upgrade", actor=Actor("user:anna", "cli"))

    def found(**query: str) -> list[str]:
        return lines(root.get(URL, query).content.decode())

    assert all("anna" in one for one in found(actor="anna"))
    assert found(actor="anna")
    assert found(actor="anna") == found(actor="user:anna")
    assert all("fleet" in one for one in found(scope="fleet"))
    assert [one for one in found(text="100% OF") if "lunch" not in one]
    assert len(found(text="100% OF")) == len(found(text="of the shelf"))
    assert found(text="100_ of") == []
    assert found(channel="cli", action="hold_placed", hours="1")
    assert found(actor="nobody") == []
    page = root.get(URL, {"since": "yesterday"}).content.decode()
    assert "since: expected a time such as 2026-11-30T08:00Z, got: yesterday." in page
    page = root.get(URL, {"channel": "cli"}).content.decode()
    assert "?type=csv&amp;channel=cli" in page


def test_pages_go_on_where_the_last_one_ended(root: Client) -> None:
    for number in range(120):
        audit.record("changed", scope="fleet", actor=OPERATOR, reason=f"reason {number}")

    first = root.get(URL, {"action": "changed"}).content.decode()
    older = re.search(r'href="\?(action=changed&amp;before=[^"]+)"', first)
    assert older is not None
    second = root.get(f"{URL}?{older[1].replace('&amp;', '&')}").content.decode()

    reasons = [re.search(r"reason \d+", one)[0] for one in (*lines(first), *lines(second))]  # type: ignore[index]
    assert reasons == [f"reason {number}" for number in range(119, 19, -1)]


def test_downloads_have_what_the_filters_let_through(root: Client) -> None:
    audit.record("changed", scope="fleet", actor=OPERATOR, reason="=1+1")
    audit.record("changed", scope="node:a", actor=OPERATOR, reason="other")

    answer = root.get(f"{URL}export/", {"type": "csv", "scope": "fleet", "action": "changed"})

    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    [row] = csv.DictReader(io.StringIO(text))
    assert (row["scope"], row["reason"]) == ("fleet", "'=1+1")
    assert answer["Content-Disposition"].startswith('attachment; filename="audit-')
    assert root.get(f"{URL}export/", {"type": "exe"}).status_code == 400
    assert root.get(f"{URL}export/", {"since": "never"}).status_code == 400


def test_members_see_the_events_of_their_own_accounts(site: Site) -> None:
    theirs = make_site("theirs")
    ours, other = make_run(site=site), make_run(site=theirs)
    member = signed_in(site, "vera", VIEW)
    nobody = signed_in(site, "nils")

    page = member.get(URL).content.decode()
    export = b"".join(member.get(f"{URL}export/").streaming_content).decode()  # type: ignore[attr-defined]

    for told in (page, export):
        assert str(ours.pk) in told
        assert str(other.pk) not in told
    assert nobody.get(URL).status_code == 403
    assert nobody.get(f"{URL}export/").status_code == 403


def test_texts_of_payloads_are_left_out_for_those_who_may_not_see_them(site: Site) -> None:
    run = make_run(site=site)
    audit.record("fail", scope=run.scope, actor=OPERATOR, reason="Stage few failed: ValueError: the secret keyword")
    user = make_user("bo", site, VIEW, OPERATE)
    seeing = Client()
    seeing.force_login(user)
    assert "the secret keyword" in seeing.get(URL).content.decode()

    user.user_permissions.remove(*user.user_permissions.filter(codename="view_payloads"))

    assert "the secret keyword" not in seeing.get(URL).content.decode()
