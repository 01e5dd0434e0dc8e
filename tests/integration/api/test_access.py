"""Who may call what: every endpoint against every kind of caller."""

from __future__ import annotations

import uuid

import pytest

from automation.api.urls import urlpatterns
from tests.callers import AUTOMATION, RUNS, client_of, make_user

READS = ("", "progress/", "stages/", "items/?stage=input", "failures/", "events/", "explain/")
VERBS = ("start/", "pause/", "resume/", "cancel/", "retry-failed/")
LISTS = ("runs/", "pipelines/", "current_run/", "current_processing/", "history/")
NEW = {"pipeline": "drill", "site": "ours", "params": {"items": 1}}

REQUESTS = [
    *(("get", f"runs/{{run}}/{part}") for part in READS),
    *(("post", f"runs/{{run}}/{part}") for part in VERBS),
    *(("get", part) for part in LISTS),
    *(("get", f"{name}?site_id=ours") for name in ("current_run/", "current_processing/", "history/")),
    *(("get", f"{name}?run_id={{run}}") for name in ("logs/", "current_processing/")),
    *(("post", f"{verb}/?run_id={{run}}") for verb in ("pause", "resume", "cancel")),
    *(("post", f"{verb}/?site_id=ours") for verb in ("pause", "resume", "cancel")),
    ("post", "runs/"),
]


@pytest.fixture
def run(site, their_site):
    from tests.factories import make_run

    make_run(site=their_site, start=False)
    return make_run(site=site)


def send(user, method, path, run):
    body = NEW if (method, path) == ("post", "runs/") else None
    return getattr(client_of(user), method)(AUTOMATION + path.format(run=run.pk), body)


def trace(run):
    from automation.models import AutomationRun
    from tests.factories import rows

    return rows(run), AutomationRun.objects.count()


def test_the_table_names_every_endpoint():
    endpoints = {str(found.pattern).replace("<str:run_id>", "{run}") for found in urlpatterns if found.name}

    assert endpoints == {path.partition("?")[0] for _, path in REQUESTS}


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_nobody_in_particular_gets_401(run, method, path):
    before = trace(run)

    response = send(None, method, path, run)

    assert response.status_code == 401
    assert response.data["code"] == "not_authenticated"
    assert trace(run) == before


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_viewer_reads_and_changes_nothing(run, viewer, method, path):
    before = trace(run)

    response = send(viewer, method, path, run)

    assert response.status_code == (200 if method == "get" else 403)
    assert trace(run) == before


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_member_without_permission_gets_403(run, site, method, path):
    before = trace(run)

    response = send(make_user("mary", site), method, path, run)

    assert response.status_code == 403
    assert response.data["code"] == "permission_denied"
    assert trace(run) == before


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_an_operator_is_let_in(run, operator, method, path):
    response = send(operator, method, path, run)

    refusable = any(verb in path for verb in ("start", "retry", "resume"))  # the run is running and not paused
    assert response.status_code in ({409} if refusable else {200, 201})


@pytest.mark.req("A-36")
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_an_operator_of_another_account_finds_nothing_of_ours(run, stranger, method, path):
    before = trace(run)

    response = send(stranger, method, path, run)

    if "{run}" in path or "ours" in path or method == "post":
        assert response.status_code == 404
        assert response.data["code"] == "not_found"
    else:
        assert response.status_code == 200
        assert str(run.pk) not in str(response.data)
    assert trace(run) == before


@pytest.mark.parametrize("path", READS + VERBS)
def test_unknown_foreign_and_malformed_ids_are_told_alike(run, stranger, operator, path):
    method = "post" if path in VERBS else "get"

    def answer(user, run_id):
        response = getattr(client_of(user), method)(f"{RUNS}{run_id}/{path}")
        return response.status_code, {**response.data, "message": response.data["message"].replace(run_id, "X")}

    foreign = answer(stranger, str(run.pk))

    assert foreign[0] == 404
    assert answer(operator, str(uuid.uuid4())) == foreign
    assert answer(operator, "no-id-at-all") == foreign


def test_a_superuser_sees_every_account(run):
    from django.contrib.auth.models import User

    root = client_of(User.objects.create_superuser("root"))

    assert {entry["site"] for entry in root.get(RUNS).data["results"]} == {"ours", "theirs"}
