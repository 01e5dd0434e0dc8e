"""The ``openai`` provider against a real HTTP server: what it asks, what it makes of answers, and of refusals."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from automation.contrib.content.ideas import Ideas
from automation.contrib.content.pipelines import ContentPipeline
from automation.contrib.content.providers import ProviderError, image_provider, text_provider
from automation.contrib.content.providers.endpoint import PATIENCE_SECONDS, retry_after
from automation.contrib.content.providers.openai import OpenAIText, without_loops
from automation.pipeline import TryLater
from tests.support.endpoint_server import Answer, Asked, EndpointServer, chat, completion, endpoint_server
from tests.support.stage_runs import context, run_pipeline

CLUSTER = {"name": "Food Stamps", "slug": "food-stamps", "keywords": ["ohio food stamps", "food stamps"], "size": 2}


@pytest.fixture(autouse=True)
def hosts(settings):
    settings.TEXT_PROVIDER_HOSTS = ["127.0.0.1"]


def params(server: EndpointServer, **more: Any) -> dict[str, Any]:
    return ContentPipeline.clean_params({"provider": "openai", "base_url": server.url, **more})


def process(server: EndpointServer, **more: Any) -> list[dict[str, Any]]:
    ctx = context(Ideas, Path("unused"), params(server, **more))
    return list(Ideas().process(CLUSTER, ctx))


@contextmanager
def answering(*answers: Answer | Callable[[Asked], Answer]) -> Iterator[EndpointServer]:
    """A server that gives ``answers`` one after the other, and the last one from then on."""
    left = list(answers)

    def script(asked: Asked) -> Answer:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer(asked) if callable(answer) else answer

    with endpoint_server(script) as server:
        yield server


def writer(asked: Asked) -> Answer:
    """A model that does as it is told, in either mode."""
    if "messages" in asked.body:
        asked_for = asked.body["messages"][-1]["content"]
        if "headings" in asked_for:
            return chat("1. The Basics\n2. The Steps\n3. **The End**")
        if "titles" in asked_for:
            return chat("Sure! Here you go:\n1. Apply Today - How to apply.\n2) **Stay Covered** – How to renew.\n")
        if "questions" in asked_for:
            return chat("1. Who may apply?\n2. How long does it take?")
        return chat("It is simple. <b>Really.</b>")
    tail = asked.body["prompt"].rsplit("\n\n", 1)[-1]
    if tail.endswith("Headings:\n1."):
        return completion(" The Basics\n2. The Steps\n3. The End")
    if tail.endswith("Articles:\n1."):
        return completion(" Apply Today - How to apply.\n2. Stay Covered - How to renew.")
    if tail.endswith("Questions:\n1."):
        return completion(" Who may apply?\n2. How long does it take?")
    return completion(" It is simple. Really. And then it was cut off in the")


def test_ideas_are_read_from_a_list():
    with answering(writer) as server:
        ideas = process(server, model="small", ideas_per_cluster=2)

    assert [(idea["title"], idea["summary"]) for idea in ideas] == [
        ("Apply Today", "How to apply."),
        ("Stay Covered", "How to renew."),
    ]
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["model"] == "small"
    assert "ohio food stamps" in asked.body["messages"][-1]["content"]


def test_a_base_model_is_asked_by_example():
    with answering(writer) as server:
        ideas = process(server, api="completion", ideas_per_cluster=2)

    assert [idea["title"] for idea in ideas] == ["Apply Today", "Stay Covered"]
    (asked,) = server.asked
    assert asked.path == "/v1/completions"
    assert asked.body["prompt"].endswith("Topic: Food Stamps\nSearches: ohio food stamps, food stamps\nArticles:\n1.")
    assert "\n\n" in asked.body["stop"]


@pytest.mark.parametrize("api", ["chat", "completion"])
def test_the_whole_pipeline_runs_on_an_endpoint(api, tmp_path):
    with answering(writer) as server:
        outputs = run_pipeline(
            ContentPipeline, [{"keyword": "food stamps"}], tmp_path, provider="openai", base_url=server.url, api=api
        )

    assert [article["title"] for article in outputs["content"]] == ["Apply Today", "Stay Covered"]
    assert outputs["content"][0]["headings"] == ["The Basics", "The Steps", "The End"]
    assert "### Who may apply?\n\nIt is simple." in outputs["content"][0]["text"]
    assert "cut off" not in outputs["content"][0]["text"]
    page = (tmp_path / f"runs/{'00000000-0000-0000-0000-000000000007'}/{outputs['content'][0]['html']}").read_text()
    assert "<b>" not in page
    assert len(outputs["images"]) == 2


def test_the_same_question_is_asked_with_the_same_seed():
    with answering(writer) as server:
        process(server)
        process(server)

    first, second = server.asked
    assert first.body == second.body
    assert isinstance(first.body["seed"], int)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True), 80, 90),
        (None, PATIENCE_SECONDS, PATIENCE_SECONDS),
    ],
)
def test_a_provider_that_asks_for_patience_gets_it(status, header, low, high):
    value = header() if callable(header) else header
    with (
        answering(Answer({}, status, {"Retry-After": value} if value else {})) as server,
        pytest.raises(TryLater) as caught,
    ):
        process(server)

    assert low <= caught.value.seconds <= high
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("-5", 0),
        ("soon", PATIENCE_SECONDS),
        ("nan", PATIENCE_SECONDS),
        ("inf", 3_600),
        ("1e9", 3_600),
        ("", PATIENCE_SECONDS),
    ],
)
def test_odd_retry_after_headers_do_no_harm(value, seconds):
    assert retry_after(value, datetime.now(UTC)) == seconds


def test_a_date_that_has_passed_means_now():
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert retry_after("Wed, 31 Dec 2025 23:59:00 GMT", now) == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer({"error": "boom"}, 500), "it answered 500"),
        (Answer({"error": "no such model"}, 404), "it answered 404"),
        (Answer("<html>", 200), "it answered no JSON"),
        (Answer([1], 200), "it answered no JSON object"),
        (Answer({"choices": []}, 200), "it has no choices"),
        (chat(""), "expected a numbered list"),
        (chat("I cannot help with that."), "expected a numbered list"),
        (chat("1. x"), "it proposed none that reads as a title"),
    ],
)
def test_a_useless_answer_is_an_error_that_says_what_came(answer, said):
    with answering(answer) as server, pytest.raises(ProviderError, match=r"^Cannot ") as caught:
        process(server)

    assert said in str(caught.value)


def test_a_slow_answer_is_not_waited_for():
    with answering(Answer({}, delay=5)) as server:
        provider = text_provider({**params(server), "timeout": 0.1})
        with pytest.raises(ProviderError, match=r"it did not answer within 0\.1 s\.$"):
            provider.ideas("Food", ["food"], 1)


def test_an_endpoint_that_is_not_there_is_an_error():
    with answering(writer) as server:
        gone = server

    with pytest.raises(ProviderError, match="it is unreachable"):
        process(gone)


def test_the_key_goes_to_the_configured_address_and_to_no_other(settings):
    with answering(writer) as known, answering(writer) as stranger:
        settings.TEXT_PROVIDER_BASE_URL = known.url
        settings.TEXT_PROVIDER_API_KEY = "a-secret"

        process(known, base_url="")
        process(stranger)

    assert known.asked[0].headers["Authorization"] == "Bearer a-secret"
    assert "Authorization" not in stranger.asked[0].headers


def test_one_provider_serves_a_whole_loop():
    with answering(writer) as server:
        stage, ctx = Ideas(), context(Ideas, Path("unused"), params(server))
        list(stage.process(CLUSTER, ctx))
        first = stage.text(ctx)
        list(stage.process(CLUSTER, ctx))

        assert isinstance(first, OpenAIText)
        assert stage.text(ctx) is first


def an_image(kind: str) -> str:
    file = io.BytesIO()
    Image.new("RGB", (40, 20), "teal").save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_of_any_kind_becomes_png(kind):
    with answering(Answer({"data": [{"b64_json": an_image(kind)}]})) as server:
        picture = image_provider(params(server, image_provider="openai", image_model="brush")).draw("hills", "Title")

    assert picture.png.startswith(b"\x89PNG")
    assert (picture.width, picture.height) == (40, 20)
    assert server.asked[0].path == "/v1/images/generations"
    assert server.asked[0].body["model"] == "brush"


@pytest.mark.parametrize(
    "body", [{}, {"data": []}, {"data": [{"b64_json": "?"}]}, {"data": [{"b64_json": "aGFsbG8="}]}]
)
def test_no_picture_is_an_error(body):
    with answering(Answer(body)) as server:
        provider = image_provider(params(server, image_provider="openai"))
        with pytest.raises(ProviderError, match=r"^Cannot use the endpoint's picture for 'Title'"):
            provider.draw("hills", "Title")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Roots need air. They rot. Roots need air. Roots need air.", "Roots need air. They rot."),
        (
            "The third step is to sign the form. The fourth step is to sign the form.",
            "The third step is to sign the form.",
        ),
        ("1. Yes. 2. No. Yes.", "1. Yes. 2. No. Yes."),
        ("whole one. cut off", "Whole one."),
        ("never ends", "Never ends"),
        ("", ""),
    ],
)
def test_loops_and_loose_ends_of_small_models_are_cut(text, left):
    assert without_loops(text, is_cut=True) == left
