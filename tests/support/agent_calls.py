"""Agents as the tests need them: made, and calling over HTTP."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator
from rest_framework.test import APIClient

from automation import agents
from automation.models import Agent, Site
from tests.support.api_users import JOBS
from tests.support.factories import OPERATOR, make_site


def make_agent(name: str = "gpu-1", **given: Any) -> tuple[Agent, str]:
    """An agent for the pipelines of the tests, and its token."""
    site = Site.objects.first() or make_site()
    given = {"account": site.account, "pipelines": ["remote", "graphics"], "node": "box-1", **given}
    agent = Agent(name=name, **given)
    return agent, agents.issue(agent, actor=OPERATOR)


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


def check(method: str, path: str, answer: Any) -> None:
    """Raise unless the answer is as the schema says."""
    operation = _schema()["paths"][JOBS + re.sub(r"^\d+", "{job_id}", path)][method]
    body = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
    Draft202012Validator({**body, "components": _schema()["components"]}).validate(answer.json())


class Caller:
    """An agent's HTTP client, with the answer of each call as (status, body), checked against the schema."""

    def __init__(self, token: str, keyword: str = "Agent") -> None:
        self.client = APIClient()
        self.client.default_format = "json"
        self.client.credentials(HTTP_AUTHORIZATION=f"{keyword} {token}")
        _schema()  # here, and not by threads that call at once: the generator is not made for that

    def post(self, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        answer = self.client.post(JOBS + path, body if body is not None else {})
        check("post", path, answer)
        assert answer.json()["system"]["version"] >= 1
        return answer.status_code, answer.json()

    def claim(self, **given: Any) -> Any:
        """The job that a claim has got, or ``None``."""
        status, body = self.post("claim", given)
        assert status == 200, body
        return body["job"]

    def to(self, job: dict[str, Any], verb: str, **given: Any) -> tuple[int, dict[str, Any]]:
        return self.post(f"{job['id']}/{verb}", {"token": job["token"], **given})

    def items(self, job: dict[str, Any], **query: Any) -> tuple[int, dict[str, Any]]:
        answer = self.client.get(f"{JOBS}{job['id']}/items", {"token": job["token"], **query})
        check("get", f"{job['id']}/items", answer)
        return answer.status_code, answer.json()


def done(job: dict[str, Any], first: int = 0, last: int = 10) -> dict[str, Any]:
    """What an agent hands in for the items of ``job`` from number ``first`` to before ``last``."""
    items = job["items"][first:last]
    return {
        "cursor": items[-1]["key"],
        "outputs": {item["key"]: [{"n": item["payload"]["n"] * 10}] for item in items},
    }
