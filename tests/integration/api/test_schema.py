"""The OpenAPI schema says what the endpoints do."""

from __future__ import annotations

from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator

from backend import api_docs
from tests.support.api_users import AUTOMATION, RUNS

READ_ERRORS = {"400", "401", "403", "404", "429"}
COMMAND_ERRORS = {"409", "411", "413", "415", "422"}
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "openapi.yaml"


@pytest.fixture(scope="module")
def schema():
    return SchemaGenerator().get_schema(request=None, public=True)


def operations(schema):
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def check(schema, path, method, response):
    """Raise unless the answer is as the schema says."""
    operation = schema["paths"][path][method]
    body = operation["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
    Draft202012Validator({**body, "components": schema["components"]}).validate(response.json())


def test_it_is_valid(schema):
    validate_schema(schema)


def test_every_operation_describes_itself_and_its_errors(schema):
    ours = [found for found in operations(schema) if found[0].startswith("/api/v1/")]

    assert len(ours) >= 58
    for path, method, operation in ours:
        assert operation["summary"], path
        expected = {"400", "401", "403", "404", "429"} | (
            {"409", "411", "413", "415", "422"} if method == "post" else set()
        )
        assert expected <= set(operation["responses"]), path
        assert all(answer.get("description") or answer["content"] for answer in operation["responses"].values())
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert "X-Request-ID" in names, path
        # A put or patch is safe to repeat, and may take the key all the same.
        assert ("Idempotency-Key" in names) == (method in ("post", "delete")) or method in ("put", "patch"), path


def test_operations_stand_under_one_topic_each_runs_first_and_it_says_how_to_get_a_token(schema):
    found = list(operations(schema))
    topics = [topic["name"] for topic in schema["tags"]]
    tags = [operation["tags"] for _, _, operation in found]

    assert (topics[0], found[0][:2]) == ("runs", ("/api/v1/automation/runs/", "get"))
    assert all(len(of_one) == 1 for of_one in tags)
    assert [topics.index(one) for (one,) in tags] == sorted(topics.index(one) for (one,) in tags)
    assert {one for (one,) in tags} == set(topics)
    assert "drf_create_token" in schema["info"]["description"]
    with pytest.raises(LookupError, match="add it to a topic"):
        api_docs.topic_of("/api/v1/nothing/")


@pytest.mark.django_db(transaction=True)
def test_answers_are_as_the_schema_says(schema, api, viewer, site):
    from tests.support.api_users import client_of
    from tests.support.factories import claim, drain, make_run

    run = make_run("failing", site=site, items=7)
    claim(run)
    own = AUTOMATION + "runs/{run_id}/"
    for part in ("", "progress/", "stages/", "failures/", "events/", "explain/"):
        check(schema, own + part, "get", api.get(f"{RUNS}{run.pk}/{part}"))
    for query in ("?site_id=ours", ""):
        for name in ("current_run/", "current_processing/", "history/"):
            check(schema, AUTOMATION + name, "get", api.get(f"{AUTOMATION}{name}{query}"))
    for verb in ("pause", "pause", "resume", "resume", "retry-failed"):
        check(schema, f"{own}{verb}/", "post", api.post(f"{RUNS}{run.pk}/{verb}/"))
    check(schema, own + "explain/", "get", api.get(f"{RUNS}{run.pk}/explain/"))
    from tests.support.factories import expire_leases, settle

    expire_leases(run)
    settle(run)
    drain(run)
    check(schema, own + "retry-failed/", "post", api.post(f"{RUNS}{run.pk}/retry-failed/"))
    check(schema, own + "items/", "get", api.get(f"{RUNS}{run.pk}/items/?stage=failing"))
    check(schema, own + "items/", "get", api.get(f"{RUNS}{run.pk}/items/"))
    check(schema, own + "failures/", "get", api.get(f"{RUNS}{run.pk}/failures/"))
    check(schema, AUTOMATION + "runs/", "get", api.get(RUNS))
    check(schema, AUTOMATION + "runs/", "post", api.post(RUNS, {"pipeline": "drill", "site": "ours"}))
    check(schema, AUTOMATION + "runs/", "post", api.post(RUNS, {"pipeline": "drill", "sit": "ours"}))
    check(schema, AUTOMATION + "runs/", "post", client_of(viewer).post(RUNS, {}))
    check(schema, AUTOMATION + "pipelines/", "get", api.get(f"{AUTOMATION}pipelines/"))
    check(schema, AUTOMATION + "logs/", "get", api.get(f"{AUTOMATION}logs/?run_id={run.pk}"))
    check(schema, AUTOMATION + "pause/", "post", api.post(f"{AUTOMATION}pause/"))
    check(schema, AUTOMATION + "pause/", "post", api.post(f"{AUTOMATION}pause/?site_id=ours"))
    check(schema, own, "get", api.get(f"{RUNS}nothing/"))
    check(schema, own, "get", client_of(None).get(f"{RUNS}{run.pk}/"))


def test_the_document_is_in_the_repository():
    assert "/api/v1/automation/runs/{run_id}/retry-failed/" in DOCUMENT.read_text()
