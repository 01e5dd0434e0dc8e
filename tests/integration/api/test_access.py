"""What a caller is told of runs that are not theirs. Who may call what: ``test_every_url``."""

from __future__ import annotations

import uuid

import pytest

from tests.support.api_users import RUNS, client_of

READS = ("", "progress/", "stages/", "items/?stage=input", "failures/", "events/", "explain/")
VERBS = ("start/", "pause/", "resume/", "cancel/", "retry-failed/")


@pytest.fixture
def run(site, their_site):
    from tests.support.factories import make_run

    make_run(site=their_site, start=False)
    return make_run(site=site)


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
