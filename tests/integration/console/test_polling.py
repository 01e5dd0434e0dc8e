"""Browsers without a stream poll: what they get does not depend on the connection that the last render had."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support.ended_connections import end_other_connections
from tests.support.factories import make_run

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_poll_after_the_database_was_restarted_is_answered():
    run = make_run()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    poll = f"/events/?topic=run/{run.pk}&once=1"
    assert client.get(poll).status_code == 200

    assert end_other_connections() >= 1, "the pool has kept its connection"

    told = client.get(poll)
    assert told.status_code == 200
    assert str(run.pk) in told.content.decode()
