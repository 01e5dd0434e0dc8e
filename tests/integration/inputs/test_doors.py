"""What is read and left out is said at every door: the shell, the API, the event, the console's preview."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from automation.models import AutomationRun, Site
from automation.models.work import WorkItem
from pause_manager.models import ControlEvent
from tests.support import pipelines
from tests.support.api_users import OPERATE, RUNS, VIEW, client_of, make_user
from tests.support.factories import make_site
from tests.support.shell import Shell

pytestmark = pytest.mark.django_db(transaction=True)

FILES = Path(__file__).parents[2] / "data" / "inputs"
PLANNER = FILES / "02_planner_utf8_csv.csv"
assert pipelines


@pytest.fixture
def site() -> Site:
    return make_site("blog")


@pytest.fixture
def api(site: Site) -> Any:
    return client_of(make_user("alice", site, VIEW, OPERATE))


@pytest.fixture
def console(site: Site) -> Client:
    client = Client()
    client.force_login(make_user("olga", site, VIEW, OPERATE))
    return client


def test_a_dry_run_shows_what_would_be_read_and_creates_nothing(shell: Shell, site: Site) -> None:
    ended = shell("run_pipeline", "content", "--input", str(PLANNER), "--site", "blog", "--dry-run")

    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0] == (f"{PLANNER}: CSV, UTF-8, separated by commas, header in line 3, 17 columns")
    assert "keyword='trail running shoes'" in ended.out
    assert "Left out: 2 rows before the header: line 1: Keyword Stats 2026-11-01" in ended.out
    assert ended.out.endswith("12 items. Nothing was created.\n")
    assert not AutomationRun.objects.exists()


def test_a_dry_run_is_told_as_json_too(shell: Shell, site: Site) -> None:
    (told,) = shell("run_pipeline", "content", "--input", str(PLANNER), "--dry-run", "--json").objects

    assert told["dry_run"] is True
    assert (told["input"]["format"], told["input"]["header_at"], told["input"]["items"]) == ("CSV", 3, 12)
    assert told["input"]["left_out"][0]["kind"] == "before_header"
    assert told["input"]["first_items"][0]["keyword"] == "trail running shoes"
    assert not AutomationRun.objects.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("content", "--input", str(FILES / "38_web_page.xls")), "line 1: it is a web page"),
        (("content", "--input", str(FILES / "10_row_too_long.csv")), "line 3: expected 2 columns, got: 3"),
        (("content", "--input", str(FILES)), "is a directory"),
        (("content", "--input", "nope.csv"), "Cannot read nope.csv: no such file or directory."),
        (("content", "--input", str(PLANNER), "--param", "words=many"), "Cannot use parameter 'words'"),
        (("drill", "--input", str(PLANNER)), "it makes its own items and takes no input"),
        (("content",), "it needs input items, got none"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_cannot_be_read_is_refused_with_or_without_a_dry_run(
    shell: Shell, site: Site, words: tuple[str, ...], said: str, dry: tuple[str, ...]
) -> None:
    ended = shell("run_pipeline", *words, *dry, "--site", "blog")

    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not AutomationRun.objects.exists()


def test_columns_keep_their_names_and_equal_rows_are_kept(shell: Shell, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "photos.csv"
    file.write_text("path,Note\nA.jpg,two  spaces\na.jpg,\nA.jpg,two  spaces\n")

    ended = shell("run_pipeline", "numbers", "--input", str(file), "--site", "blog")

    assert ended.code == 0, ended.err
    items = WorkItem.objects.filter(made_by__position=-1).order_by("key").values_list("payload", flat=True)
    assert list(items) == [
        {"path": "A.jpg", "Note": "two  spaces"},
        {"path": "a.jpg", "Note": ""},
        {"path": "A.jpg", "Note": "two  spaces"},
    ]


def test_the_answer_and_the_event_tell_what_was_read_and_left_out(api: Any) -> None:
    upload = SimpleUploadedFile("planner.csv", PLANNER.read_bytes() + b"Trail running  shoes" + b"," * 16 + b"\n")

    made = api.post(
        RUNS, {"pipeline": "content", "site": "blog", "input": upload, "start": "false"}, format="multipart"
    )

    assert made.status_code == 201
    assert made.data["total_items"] == 12
    told = made.data["input"]
    assert (told["name"], told["format"], told["encoding"], told["header_at"]) == ("planner.csv", "CSV", "utf-8", 3)
    assert [(one["kind"], one["count"]) for one in told["left_out"]] == [("before_header", 2), ("duplicate", 1)]
    assert told["left_out"][1]["examples"] == ["line 16: Trail running shoes"]
    event = ControlEvent.objects.get(action="create", scope=f"run:{made.data['id']}")
    del told["warnings"]
    for one in told["left_out"]:
        del one["examples"]  # the event outlives the items
    assert event.details["input"] == told


def test_items_that_came_as_json_are_told_of_as_well(api: Any) -> None:
    items = [{"keyword": "shoes", "lang": "de"}, {"keyword": "Shoes ", "lang": "fr"}]

    made = api.post(RUNS, {"pipeline": "content", "site": "blog", "items": items, "start": False})

    assert made.data["total_items"] == 1
    assert made.data["input"]["left_out"] == [
        {"kind": "duplicate", "count": 1, "examples": ["item 2: Shoes"]},
    ]


def test_items_of_other_pipelines_may_have_a_keyword_and_are_left_alone(api: Any) -> None:
    items = [{"keyword": " Shoes ", "n": 1}, {"keyword": "shoes", "n": 2}, {"n": 3}]

    made = api.post(RUNS, {"pipeline": "numbers", "site": "blog", "items": items, "start": False})

    assert made.data["total_items"] == 3
    found = api.get(f"{RUNS}{made.data['id']}/items/?stage=input").data["results"]
    assert [entry["payload"] for entry in found] == items


@pytest.mark.parametrize("name", ["171_titles.xlsx", "160_one.zip", "150_one.csv.gz", "50_planner_utf16be.csv"])
def test_uploads_of_every_kind_are_read(api: Any, name: str) -> None:
    upload = SimpleUploadedFile(name, (FILES / name).read_bytes())
    form = {"pipeline": "content", "site": "blog", "input": upload, "start": "false"}

    made = api.post(RUNS, form, format="multipart")

    assert made.status_code == 201, made.data
    assert made.data["total_items"] == made.data["input"]["items"] > 1


def test_an_upload_that_is_wrong_creates_nothing_and_says_where(api: Any) -> None:
    upload = SimpleUploadedFile("page.csv", (FILES / "131_login_page_named_csv.csv").read_bytes())

    refused = api.post(RUNS, {"pipeline": "content", "site": "blog", "input": upload}, format="multipart")

    assert (refused.status_code, refused.data["code"]) == (400, "input_invalid")
    assert refused.data["message"].startswith("Cannot use page.csv: line 3: it is a web page (HTML)")
    assert not AutomationRun.objects.exists()


def given(content: bytes, name: str = "words.csv", **more: str) -> dict[str, Any]:
    return {"pipeline": "content", "site": "blog", "input": SimpleUploadedFile(name, content), **more}


def seen_in(page: str) -> str:
    found = re.search(r'name="seen" value="(\w*)"', page)
    assert found
    return found.group(1)


def test_a_preview_shows_the_first_items_and_what_is_left_out(console: Client) -> None:
    answer = console.post(reverse("console:start-preview"), given(PLANNER.read_bytes(), "planner.csv"))

    page = answer.content.decode()
    assert answer.status_code == 200
    assert "12 items will be read" in page
    assert "header in line 3" in page
    assert "<td>waterproof hiking boots</td>" in page
    assert "2 rows before the header" in page
    assert seen_in(page)
    assert not AutomationRun.objects.exists()


def test_a_preview_of_what_cannot_be_read_says_why(console: Client) -> None:
    answer = console.post(reverse("console:start-preview"), given(b"<html></html>"))

    page = answer.content.decode()
    assert "it is a web page (HTML)" in page
    assert seen_in(page) == ""


def test_a_run_starts_from_what_was_seen_and_from_nothing_else(console: Client) -> None:
    url, words = reverse("console:start"), b"keyword\ntent\nstove\n"
    unseen = console.post(url, given(words, seen=""))
    seen = seen_in(unseen.content.decode())
    other = console.post(url, given(words + b"dry bag\n", seen=seen))
    before = AutomationRun.objects.count()

    started = console.post(url, given(words, seen=seen))

    assert (unseen.status_code, other.status_code, before) == (422, 422, 0)
    assert "2 items will be read" in unseen.content.decode()
    assert "3 items will be read" in other.content.decode()
    assert started.status_code == 302
    assert AutomationRun.objects.get().total_items == 2


def test_typed_keywords_are_previewed_and_read_like_a_file(console: Client) -> None:
    typed = {"pipeline": "content", "site": "blog", "text": "tent\nstove\nTent\n"}
    page = console.post(reverse("console:start-preview"), typed).content.decode()

    started = console.post(reverse("console:start"), {**typed, "seen": seen_in(page)})

    assert "1 duplicate" in page
    assert started.status_code == 302
    assert AutomationRun.objects.get().total_items == 2


def test_the_form_speaks_of_what_the_pipeline_reads(console: Client) -> None:
    content = console.get(reverse("console:start"), {"pipeline": "content"}).content.decode()
    numbers = console.get(reverse("console:start"), {"pipeline": "numbers"}).content.decode()
    drill = console.get(reverse("console:start"), {"pipeline": "drill"}).content.decode()

    assert "Keywords file" in content
    assert "eyword" not in numbers
    assert "CSV, TSV or Excel (.xlsx) with a header, JSON or JSON lines" in numbers
    assert 'type="file"' not in drill


def test_nothing_given_is_said_in_the_pipelines_words(console: Client) -> None:
    content = console.post(reverse("console:start"), {"pipeline": "content", "site": "blog", "seen": ""})
    numbers = console.post(reverse("console:start"), {"pipeline": "numbers", "site": "blog", "seen": ""})

    assert "expected a file or at least one keyword, got none" in content.content.decode()
    assert "expected a file or at least one row, got none" in numbers.content.decode()


def test_json_can_be_pasted_for_a_pipeline_of_rows(console: Client) -> None:
    typed = {"pipeline": "numbers", "site": "blog", "text": json.dumps([{"n": 1}, {"n": 2}])}

    started = console.post(reverse("console:start"), typed)

    assert started.status_code == 302
    assert AutomationRun.objects.get().total_items == 2
