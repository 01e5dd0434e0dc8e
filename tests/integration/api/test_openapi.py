"""No request, however odd, gets a 5xx or an answer that the OpenAPI document does not name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import hypothesis
import pytest
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backend.wsgi import application
from tests.support.api_users import JOBS

pytestmark = pytest.mark.django_db(transaction=True)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
QUICK = hypothesis.settings(
    max_examples=2,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
LONG = hypothesis.settings(QUICK, max_examples=150, derandomize=False)


def load() -> Any:
    """The document, served by the real application. Methods it does not name are ``test_every_url``'s business."""
    config = SchemathesisConfig()
    config.projects.default.generation.update(with_security_parameters=False)
    config.projects.default.phases.coverage.unexpected_methods = set()
    document = SchemaGenerator().get_schema(request=None, public=True)
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = application
    return schema


schema = load()
OPERATIONS = [found.ok() for found in schema.get_all_operations()]
EACH_OPERATION = pytest.mark.parametrize("operation", OPERATIONS, ids=[one.label for one in OPERATIONS])
EVERY_TWELFTH = pytest.mark.parametrize(
    "operation",
    [
        pytest.param(one, id=one.label, marks=[pytest.mark.slow] if number % 12 else [])
        for number, one in enumerate(OPERATIONS)
    ],
)


@pytest.fixture(autouse=True)
def _kept_connection(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Most of the time of thousands of small requests would go into a connection for each."""
    from django.db import connection

    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", None)
    connection.close()
    yield
    connection.close()


@pytest.fixture
def known(site: Any) -> dict[str, Any]:
    """What there is, by the names that parameters and members of bodies have for it."""
    from pause_manager.models import PauseQueueEntry
    from tests.support.factories import make_run
    from tests.support.node_factories import make_node

    run = make_run("failing", site=site, items=7)
    parked = make_run(site=site, start=False)
    entry = PauseQueueEntry.objects.create(ref=parked.scope, task_name="none", queue="stages", reason="full")
    return {
        "run_id": str(run.pk),
        "site_id": "ours",
        "site": "ours",
        "pipeline": "numbers",
        "stage": "input",
        "entry_id": entry.pk,
        "agent_id": make_node("here").name,
        "scopes": ["queue:stages"],
    }


@pytest.fixture
def operator(site: Any) -> dict[str, str]:
    """The headers of a person who may do everything."""
    from rest_framework.authtoken.models import Token

    from tests.support.api_users import OPERATE, VIEW, make_user

    user = make_user("olga", site, VIEW, OPERATE, "operate_fleet")
    return {"Authorization": f"Token {Token.objects.create(user=user).key}"}


@pytest.fixture
def agent(site: Any, known: dict[str, Any]) -> dict[str, str]:
    """The headers of a remote agent, which holds a job."""
    from tests.support.agent_calls import Caller, make_agent
    from tests.support.factories import make_run

    make_run("remote", site=site, items=25)
    token = make_agent(account=site.account)[1]
    job = Caller(token).claim()
    known |= {"job_id": job["id"], "token": job["token"], "cursor": job["items"][1]["key"]}
    return {"Authorization": f"Agent {token}"}


def check(
    case: Any, known: dict[str, Any], operator: dict[str, str], agent: dict[str, str], turns: Iterator[set[str]]
) -> None:
    """Send the request as it is, or with what there is in the place of what it names and without a key, by turns."""
    headers = agent if case.path.startswith(JOBS) else operator
    turn = next(turns)
    if "as it is" in turn:
        case.validate_response(case.call(headers=headers), checks=CHECKS, headers=headers)
    has_key = bool(case.headers.pop("Idempotency-Key", None))
    if isinstance(case.body, dict):
        has_key = bool(case.body.pop("idempotencyKey", None)) or has_key
    names: set[str] = set()
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            meant = {name: value for name, value in known.items() if name in part}
            part.update(meant)
            names |= set(meant)
    if "known" in turn and (names or has_key or len(turn) == 1):
        case.validate_response(case.call(headers=headers), checks=CHECKS, headers=headers)


def try_hard(operation: Any, settings: hypothesis.settings, *world: Any) -> None:
    """The values at the edges of what the document allows, some beyond, and as many random ones as ``settings`` say."""

    def one(case: Any) -> None:
        check(case, *world)

    # schemathesis' own parametrize() gives every operation the same node id under this pytest, and xdist runs one.
    config = HypothesisTestConfig(project=schema.config, modes=list(HypothesisTestMode), settings=settings)
    create_test(operation=operation, test_func=one, config=config)()


@EVERY_TWELFTH
def test_every_answer_is_documented(
    operation: Any, known: dict[str, Any], operator: dict[str, str], agent: dict[str, str]
) -> None:
    try_hard(operation, QUICK, known, operator, agent, cycle([{"as it is"}, {"known"}]))


@pytest.mark.slow
@pytest.mark.timeout(900)
@EACH_OPERATION
def test_every_answer_is_documented_however_odd_the_request(
    operation: Any, known: dict[str, Any], operator: dict[str, str], agent: dict[str, str]
) -> None:
    try_hard(operation, LONG, known, operator, agent, cycle([{"as it is", "known"}]))
