"""Files are read and written a part at a time, wherever they are; the console's view gives ranges and runs nothing."""

from __future__ import annotations

import io
import tracemalloc
from typing import IO, Any, cast

import pytest
from django.core.files.storage import Storage
from django.test import Client
from django.urls import reverse

from automation import leases
from automation.files.fenced import FencedArtifacts
from automation.files.outputs import outputs_of
from automation.models import Artifact, AutomationRun
from automation.retention import deletion, purge
from automation.runs import lifecycle
from tests.support.api_users import VIEW, make_user
from tests.support.factories import OPERATOR, expire_leases, make_run, make_site, settle, writer_of
from tests.support.shell import Shell

pytestmark = pytest.mark.django_db(transaction=True)

LARGE = 120 * 1024 * 1024
MOST_MEMORY = 60 * 1024 * 1024


class Source(io.RawIOBase):
    """``LARGE`` bytes that were never anywhere whole."""

    def __init__(self) -> None:
        self.left = LARGE

    def read(self, size: int = -1) -> bytes:
        part = bytes(min(self.left, size if size > 0 else self.left))
        self.left -= len(part)
        return part


@pytest.fixture
def run(storage: Storage) -> AutomationRun:
    return make_run("scripted", items=2, site=make_site("ours"))


@pytest.fixture
def client(run: AutomationRun) -> Client:
    client = Client()
    client.force_login(make_user("vera", run.site, VIEW))
    return client


def address(run: AutomationRun, name: str) -> str:
    return reverse("console:file", args=[run.pk, f"scripted/{name}"])


@pytest.mark.slow
def test_a_large_file_is_never_whole_in_memory(storage: Storage, run: AutomationRun, client: Client):
    ours = writer_of(run)
    tracemalloc.start()
    try:
        ours.save("large.bin", cast(IO[bytes], Source()))
        after_save = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        answer: Any = client.get(address(run, "large.bin"))
        size: int = sum(len(part) for part in answer.streaming_content)
        with ours.open("large.bin") as file:
            file.seek(LARGE - 5)
            assert file.read() == bytes(5)
        after_read = tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()

    assert size == LARGE
    assert after_save < MOST_MEMORY
    assert after_read < MOST_MEMORY


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/400000"),
        ("bytes=399998-", 206, b"89", "bytes 399998-399999/400000"),
        ("bytes=-3", 206, b"789", "bytes 399997-399999/400000"),
        ("bytes=399999-500000", 206, b"9", "bytes 399999-399999/400000"),
        ("bytes=400000-", 416, b"", "bytes */400000"),
        ("bytes=5-2", 200, None, None),
        ("bytes=-", 200, None, None),
        ("bytes=0-1,5-6", 200, None, None),
        ("lines=0-1", 200, None, None),
    ],
)
def test_a_part_of_a_file_can_be_asked_for(run, client, asked, status, body, told):
    whole = b"0123456789" * 40_000
    writer_of(run).save("film.bin", whole)

    answer = client.get(address(run, "film.bin"), headers={"Range": asked})

    assert answer.status_code == status
    assert answer.getvalue() == (whole if body is None else body)
    assert answer.headers.get("Content-Range") == told


def test_an_answer_says_what_it_is_and_is_not_sent_twice(run, client):
    ours = writer_of(run)
    ours.save("page.html", b"<p>one</p>")

    first = client.get(address(run, "page.html"))
    again = client.get(address(run, "page.html"), headers={"If-None-Match": first["ETag"]})
    head = client.head(address(run, "page.html"))
    ours.save("page.html", b"<p>two</p>")
    changed = client.get(address(run, "page.html"), headers={"If-None-Match": first["ETag"]})
    stale = client.get(address(run, "page.html"), headers={"Range": "bytes=0-2", "If-Range": first["ETag"]})

    assert (first.content, again.status_code, changed.content) == (b"<p>one</p>", 304, b"<p>two</p>")
    assert (head.content, head["Content-Length"]) == (b"", "10")
    assert (stale.status_code, stale.content) == (200, b"<p>two</p>")
    assert "sandbox" in first["Content-Security-Policy"].split(";")[0]
    assert "allow-scripts" not in first["Content-Security-Policy"]
    assert first["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["..%2f..%2fx", "a%00b", "a//b", "/etc/passwd", "a\\b", "none.txt", ""])
def test_what_is_no_file_of_the_run_is_not_there(run, client, name):
    assert client.get(f"/runs/{run.pk}/files/scripted/{name}").status_code == 404
    assert client.get(f"/runs/{run.pk}/files/{name}").status_code == 404


def test_a_storage_that_is_away_is_said_to_be(use, run, client, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    ours = writer_of(run)
    ours.save("page.html", b"<p>one</p>")
    use("s3://bucket?endpoint_url=http://127.0.0.1:9&addressing_style=path&region=us-east-1")

    answer = client.get(address(run, "page.html"))

    assert answer.status_code == 503
    assert answer.content.startswith(b"Cannot use the storage s3://bucket of http://127.0.0.1:9: Could not connect")


@pytest.mark.slow
def test_all_files_of_a_deleted_run_go_and_those_of_others_stay(storage: Storage):
    kept, gone = (make_run("hooked", items=3) for _ in range(2))
    other = make_run("scripted", items=2)
    for run in (kept, gone):
        settle(run)
    orphan = writer_of(other)
    orphan.save("a.txt", b"replaced")
    orphan.save("a.txt", b"now")
    lifecycle.cancel(other.pk, actor=OPERATOR)
    other.refresh_from_db()
    for run in (gone, other):
        expire_leases(run)
        leases.reap()
        lifecycle.finish_cancels()
        deletion.delete(run.pk, actor=OPERATOR)

    found = purge.purge()

    assert found.runs == 2
    assert not AutomationRun.objects.filter(pk__in=[gone.pk, other.pk]).exists()
    assert set(Artifact.objects.values_list("stage_run__run", flat=True)) == {kept.pk}
    with pytest.raises(FileNotFoundError):
        storage.open(f"runs/{other.pk}/scripted/a.txt")
    folders = storage.listdir("runs")[0]
    assert folders == [str(kept.pk)]
    assert FencedArtifacts(kept.pk, "hooked", lambda: None).read("outputs.txt") == b"1,2,3"


def test_the_files_of_a_run_are_copied_under_their_names(storage: Storage, tmp_path):
    run = settle(make_run("hooked", items=3))

    ended = Shell({})("copy_files", str(run.pk), str(tmp_path / "copy"))

    assert ended.out.startswith(f"Copied 2 files, 6 bytes, of run {run.pk} to ")
    assert (tmp_path / "copy/hooked/outputs.txt").read_bytes() == b"1,2,3"
    assert outputs_of(run)[-1].endswith(f"runs/{run.pk}")
