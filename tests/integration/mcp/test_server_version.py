"""What the server says of itself to an assistant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from rest_framework.authtoken.models import Token

from tests.support.api_users import VIEW, make_user
from tests.support.factories import make_site


@pytest.mark.django_db(transaction=True)
def test_the_server_has_a_version() -> None:
    token = Token.objects.create(user=make_user("vera", make_site(), VIEW)).key
    hello: dict[str, Any] = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    answer = Client(headers={"Authorization": f"Bearer {token}"}).post(
        "/mcp",
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}),
        content_type="application/json",
        headers={"Accept": "application/json, text/event-stream"},
    )

    assert answer.json()["result"]["serverInfo"]["version"] == settings.SPECTACULAR_SETTINGS["VERSION"]
