"""The console's pages through Django's client: who finds what, what a refusal says, and what is served as a file."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from automation.models import AutomationRun, Lifecycle, Membership, Site
from automation.runs import creation, lifecycle
from pause_manager import holds
from tests.support.factories import OPERATOR, claim, drain, make_run, make_site, settle

pytestmark = pytest.mark.django_db(transaction=True)

MAKES_PAGES_ITSELF = 30


def sign_in(name: str, site: Site, *permissions: str) -> Client:
    user = User.objects.create_user(name)
    permissions += ("view_payloads",) if "view_automationrun" in permissions else ()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    Membership.objects.create(account=site.account, user=user)
    client = Client()
    client.force_login(user)
    return client


def operator(site: Site) -> Client:
    return sign_in("olga", site, "view_automationrun", "operate_automationrun")


def page_of(run: AutomationRun) -> str:
    return reverse("console:run", args=[run.pk])


def control(client: Client, run: AutomationRun, verb: str, **more: str) -> tuple[int, str]:
    answer = client.post(reverse("console:control", args=[run.pk]), {"verb": verb, **more})
    return answer.status_code, answer.content.decode()


def test_strangers_are_sent_to_the_sign_in_page_and_streams_refuse_them() -> None:
    run = make_run()
    client = Client()

    pages = [client.get(url) for url in ("/", page_of(run), reverse("console:start"))]
    streams = [client.get(url).status_code for url in ("/events/?topic=runs", f"/events/?topic=run/{run.pk}")]

    assert {answer.status_code for answer in pages} == {302}
    assert all(answer["Location"].startswith("/sign-in/?next=") for answer in pages)
    assert streams == [403, 403]


def test_a_verb_after_the_session_has_ended_leads_to_the_sign_in_page_and_back() -> None:
    run = make_run()
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{page_of(run)}"}

    answer = Client().post(reverse("console:control", args=[run.pk]), {"verb": "pause"}, headers=headers)

    run.refresh_from_db()
    assert answer["HX-Redirect"] == f"/sign-in/?next={page_of(run)}"
    assert run.paused_at is None


def test_a_member_without_the_permission_to_view_is_refused_with_a_page() -> None:
    answer = sign_in("nina", make_site()).get("/")

    assert answer.status_code == 403
    assert "permission to view runs" in answer.content.decode()


def test_a_page_may_load_nothing_from_elsewhere_and_has_nothing_inline() -> None:
    run = make_run()
    client = operator(run.site)

    for url in ("/", page_of(run), reverse("console:start")):
        answer = client.get(url)
        html = answer.content.decode()
        assert "default-src 'none'" in answer["Content-Security-Policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', html)


def test_refused_verbs_say_why_and_show_the_run_as_it_is() -> None:
    run = settle(make_run(items=2))
    client = operator(run.site)

    status, html = control(client, run, "pause")

    assert status == 409
    assert f"Cannot pause run {run.pk}: it is completed." in html
    assert 'data-status="completed"' in html


def test_a_viewers_verbs_are_refused_and_so_are_unknown_ones() -> None:
    run = make_run()
    viewer = sign_in("vera", run.site, "view_automationrun")

    assert control(viewer, run, "pause")[0] == 403
    assert control(operator(run.site), run, "explode")[0] == 400
    run.refresh_from_db()
    assert run.paused_at is None


@pytest.mark.req("M-19", "M-20")
def test_a_run_that_is_still_worked_on_shows_pausing_and_can_be_resumed_at_once() -> None:
    run = make_run()
    claim(run)
    client = operator(run.site)

    _, pausing = control(client, run, "pause", reason="lunch")
    _, resumed = control(client, run, "resume")

    assert 'data-status="pausing"' in pausing
    assert re.search(r'id="hold-control"[^>]*\bdisabled', pausing)
    assert re.search(r'id="undo-control"(?![^>]*disabled)', pausing)
    assert 'data-status="running"' in resumed


def test_a_run_that_waits_for_room_is_started_anyway_from_the_card() -> None:
    run = make_run()
    holds.place([run.scope], kind="capacity", actor=OPERATOR, reason="no node has room")
    client = operator(run.site)

    html = client.get(page_of(run)).content.decode()

    assert 'data-status="paused"' in html
    assert re.search(r'id="hold-control"[^>]*value="force"(?![^>]*disabled)', html)
    assert "no node has room" in html
    status, html = control(client, run, "force", reason="the demo")
    assert (status, 'data-status="running"' in html) == (200, True)
    run.refresh_from_db()
    assert run.ignores_capacity


def test_a_hold_that_is_not_an_operators_cannot_be_resumed_from_the_card() -> None:
    run = make_run()
    holds.place([run.scope], kind="freeze", actor=OPERATOR, reason="no node has room")

    html = operator(run.site).get(page_of(run)).content.decode()

    assert 'data-status="paused"' in html
    assert 'value="resume"' not in html
    assert re.search(r'id="hold-control"[^>]*value="pause"', html)
    assert "no node has room" in html


def test_retrying_leads_to_the_new_run() -> None:
    site = make_site()
    params = {"items": 4, "seconds": 0, "fail_every": 2}
    failed = settle(creation.create("drill", site=site, actor=OPERATOR, params=params))

    answer = operator(site).post(reverse("console:control", args=[failed.pk]), {"verb": "retry"})

    new = AutomationRun.objects.get(retry_of=failed)
    assert answer["HX-Redirect"] == page_of(new)


def test_files_of_a_run_are_served_to_its_viewers_and_never_run_as_code() -> None:
    ours, theirs = make_run(site=make_site("ours")), make_run(site=make_site("theirs"))
    for run in (ours, theirs):
        default_storage.save(f"runs/{run.pk}/pages/page.html", ContentFile(b"<script>steal()</script>"))
    default_storage.save("secret.txt", ContentFile(b"secret"))
    client = operator(ours.site)

    def get(run: AutomationRun, name: str) -> int:
        return client.get(f"{page_of(run)}files/{name}").status_code

    served = client.get(f"{page_of(ours)}files/pages/page.html")
    assert served.content == b"<script>steal()</script>"
    assert "default-src 'none'" in served["Content-Security-Policy"]
    assert "script-src" not in served["Content-Security-Policy"]
    assert served["X-Content-Type-Options"] == "nosniff"
    assert get(theirs, "work/page.html") == 404
    assert get(ours, f"../{theirs.pk}/pages/page.html") == 404
    assert get(ours, "..%2f..%2fsecret.txt") == 404
    assert get(ours, "work") == 404
    assert get(ours, "work/none.png") == 404


@pytest.mark.slow
def test_the_list_filters_by_status_and_pages_to_the_oldest() -> None:
    site = make_site()
    runs = [make_run(items=1, site=site) for _ in range(MAKES_PAGES_ITSELF)]
    lifecycle.cancel(runs[0].pk, actor=OPERATOR)
    client = operator(site)

    first = client.get("/runs/")
    second = client.get(f"/runs/?{first.context['older']}")
    cancelled = client.get("/runs/", {"status": "cancelled"})
    nonsense = client.get("/runs/", {"status": "nonsense", "before": "nonsense_x"})

    seen = [[row.run.pk for row in answer.context["rows"]] for answer in (first, second)]
    assert seen[0] + seen[1] == [run.pk for run in reversed(runs)]
    assert [row.run.pk for row in cancelled.context["rows"]] == [runs[0].pk]
    assert len(nonsense.context["rows"]) == 25


def test_the_list_costs_the_same_number_of_queries_however_long(django_assert_max_num_queries: object) -> None:
    site = make_site()
    client = operator(site)
    for _ in range(18):
        drain(make_run(items=3, site=site))

    with django_assert_max_num_queries(25):  # type: ignore[operator]
        assert len(client.get("/runs/").context["rows"]) == 18


def test_a_run_is_started_from_a_file_and_a_bad_file_says_what_is_wrong() -> None:
    site = make_site("blog")
    client = operator(site)
    url = reverse("console:start")

    def start(content: bytes) -> tuple[int, str]:
        upload = SimpleUploadedFile("words.csv", content)
        answer = client.post(url, {"pipeline": "content", "site": "blog", "input": upload, "param-words": "300"})
        return answer.status_code, answer.content.decode()

    refused = start(b"keyword\n" + b"x" * 600 + b"\n")
    created_by_refused = AutomationRun.objects.count()
    made = start(b"keyword\ntax return\nincome tax\n")

    run = AutomationRun.objects.get()
    assert refused[0] == 422
    assert "words.csv" in refused[1]
    assert created_by_refused == 0
    assert made[0] == 302
    assert (run.total_items, run.params["words"], run.lifecycle) == (2, 300, Lifecycle.RUNNING)


def test_nobody_starts_a_run_for_another_accounts_site() -> None:
    make_site("theirs")
    client = operator(make_site("ours"))

    answer = client.post(reverse("console:start"), {"pipeline": "drill", "site": "theirs", "param-items": "3"})

    assert answer.status_code == 422
    assert "the site does not exist, or you do not have access to it" in answer.content.decode()
    assert not AutomationRun.objects.exists()


@pytest.mark.req("M-12", "M-13")
def test_a_paused_run_names_the_items_in_progress_and_what_continues() -> None:
    run = creation.create("drill", site=make_site(), actor=OPERATOR, params={"items": 30, "seconds": 0})
    claim(run, "anna")
    client = operator(run.site)
    control(client, run, "pause")

    pause = client.get(page_of(run)).context["pause"]

    (entry,) = pause.in_progress
    assert (entry["stage"], entry["item"], entry["name"]) == ("Work", "000", "1")
    assert [(stage["title"], stage["remaining_count"]) for stage in pause.starts] == [("Work", 30)]


def test_a_run_of_a_pipeline_that_is_gone_is_still_shown() -> None:
    run = make_run()
    AutomationRun.objects.filter(pk=run.pk).update(pipeline="gone")
    client = operator(run.site)

    page, listed = client.get(page_of(run)), client.get("/runs/")

    assert "Pipeline gone is not in this release" in page.content.decode()
    assert [stage["title"] for stage in page.context["stages"]] == ["Echo"]
    assert str(run.pk) in listed.content.decode()


def test_failed_items_are_paged_in_order() -> None:
    params = {"items": 90, "seconds": 0, "fail_every": 2}
    run = settle(creation.create("drill", site=make_site(), actor=OPERATOR, params=params))
    client = operator(run.site)

    first = client.get(page_of(run)).context["failures"]
    second = client.get(page_of(run), {"failures_after": first["next"]}).context["failures"]

    assert [row["item"] for row in first["rows"] + second["rows"]] == [str(n) for n in range(2, 91, 2)]
    assert second["next"] == ""


LONG = "9" * 5_000


@pytest.mark.parametrize(
    "query",
    [
        *("?events_before=²", f"?events_before={LONG}", "?failures_after=²_0", "?failures_after=1_%00"),
        *("?stage=echo&after=%00", "?stage=%00", "/runs/?before=2026-01-01T00:00:00_nope", "/runs/?status=%00"),
        "/runs/?before=2026-01-01T00:00:00Z_nope",
        "/runs/?before=2026-01-01T00:00:00_00000000-0000-0000-0000-000000000000",
    ],
)
def test_an_address_that_nobody_was_given_shows_a_page_from_its_beginning(query: str) -> None:
    run = make_run()

    answer = operator(run.site).get(query if query.startswith("/") else page_of(run) + query)

    assert answer.status_code == 200
    assert str(run.pk)[:8] in answer.content.decode()


def test_a_range_of_absurd_length_is_answered_with_the_whole_file() -> None:
    run = make_run()
    default_storage.save(f"runs/{run.pk}/few/a.md", ContentFile(b"# it"))
    url = reverse("console:file", args=[run.pk, "few/a.md"])

    answer = operator(run.site).get(url, headers={"Range": f"bytes=0-{LONG}"})

    assert (answer.status_code, answer.content) == (200, b"# it")
