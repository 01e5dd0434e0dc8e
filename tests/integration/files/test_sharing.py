"""Workers that do not share files: told by ``/readyz``, by the check, and by the gate to runs that use files."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.files.storage import Storage
from django.core.management import call_command
from django.db import connection
from django.test import Client

from automation import gate, leases
from automation.files import place
from automation.files.fenced import FencedArtifacts
from automation.files.storage import StorageAway
from automation.gate import file_sharing, standstills
from automation.models import AutomationRun, ItemFailure, WorkSlice
from automation.pipeline import Pipeline, Stage
from automation.pipeline.context import StageContext
from automation.runs import reconciler
from backend import heartbeats
from pause_manager.nodes import members
from tests.support.factories import claim, drain, expire_leases, leased, make_run, settle, writer_of
from tests.support.pipelines import Scripted, scripted

pytestmark = pytest.mark.django_db(transaction=True)

NFS = "file:///mnt/x?shared=1"


def lives(name: str, *, id: str = "1" * 32, place: str = "", told: str = "file:///data/media", node: str = "") -> None:
    """A worker has reported."""
    files = {"id": id, "place": place or f"boot-of-{name}/{id}", "name": told}
    members.acknowledge(
        f"stages@{name}", node=node or name, queues=["stages"], version=1, owner=f"owner of {name}", files=files
    )


def gone(name: str) -> None:
    members.leave(f"stages@{name}", f"owner of {name}")


def ready() -> tuple[int, str]:
    for who in (heartbeats.BEAT, heartbeats.CONTROL):
        assert heartbeats.record(who)
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()["checks"]["storage"]


def reasons(run: AutomationRun) -> list[str]:
    return [reason.code for reason in gate.explain(run) if reason.keeps]


def test_a_run_that_uses_files_is_refused_to_start_until_they_are_shared():
    lives("a", id=place.here().id)
    lives("b")
    run = make_run("hooked", items=3)

    assert run.lifecycle == "pending"
    (reason,) = [reason for reason in gate.explain(run) if reason.keeps]
    assert reason.code == "files_not_shared"
    assert reason.sentence == (
        "It uses files, and the live workers do not share them: stages@a on a in file:///data/media; stages@b on b in "
        "file:///data/media (each machine has such a directory of its own, as far as is declared)."
    )
    assert "STORAGE_URL=s3://bucket/prefix" in reason.lifted_by
    assert gate.blocked([run]) == {run.pk}
    reconciler.reconcile()
    run.refresh_from_db()
    assert run.lifecycle == "pending"

    gone("b")
    assert settle(run).lifecycle == "completed"


def test_workers_of_one_machine_or_of_a_shared_place_are_no_matter():
    lives("a", place="boot/1")
    lives("b", place="boot/1", node="a")
    assert reasons(make_run("hooked", items=1)) == []

    lives("a", place="1" * 32, told=NFS)
    lives("b", place="1" * 32, told=NFS)
    assert reasons(make_run("hooked", items=1)) == []


def test_the_same_path_on_a_machine_without_the_mount_is_another_place():
    """Declared shared, and not: the directory of one machine has another mark."""
    lives("a", place="1" * 32, told=NFS)
    lives("b", id="2" * 32, place="2" * 32, told=NFS)

    assert reasons(make_run("hooked", items=1)) == ["files_not_shared"]


def test_a_run_that_uses_no_files_goes_on_whatever_workers_have():
    lives("a")
    lives("b", id="2" * 32)

    assert settle(make_run("numbers", items=3)).lifecycle == "completed"


def test_a_worker_that_joins_with_a_disk_of_its_own_stops_what_uses_files_and_gets_none_of_it():
    lives("a", id=place.here().id)
    run = make_run("hooked", items=4)
    drain_one = leased(run)
    leases.finish_hook(drain_one, 0.1)
    assert claim(run) is not None

    lives("b", id="2" * 32)

    assert claim(run, "c") is None
    reconciler.reconcile()
    assert reasons(run) == ["files_not_shared"]
    assert standstills.since(run.pk, "files_not_shared") is not None
    gone("b")
    assert claim(run, "c") is not None
    reconciler.reconcile()
    assert standstills.since(run.pk, "files_not_shared") is None


def test_a_run_waits_for_a_worker_that_has_its_files():
    """Its first worker is gone, with its disk; the one that is left must not go on as if there were no files."""
    run = make_run("hooked", items=4)
    writer_of(run).save("sum.txt", b"1")
    lives("b", id="2" * 32, told="file:///b")
    run.refresh_from_db()

    (reason,) = [reason for reason in gate.explain(run) if reason.keeps]

    assert reason.sentence == "Its files are in a storage that no live worker has: stages@b on b in file:///b."


def test_files_that_nobody_foresaw_are_not_scattered(use: Callable[[str], Storage], tmp_path):
    """A pipeline whose stages do not look as if they used files does, in two storages: the second waits."""
    saved: list[int] = []

    def script(item: dict[str, Any], ctx: StageContext) -> None:
        ctx.artifacts.save(f"{item['n']}.txt", b"x")
        saved.append(item["n"])

    run = make_run("scripted", items=10)
    assert run.pipeline not in file_sharing.filing()
    first = use(f"file://{tmp_path}/a")
    with scripted(script):
        work = leased(run)
        FencedArtifacts(run.pk, "scripted", lambda: work).save("0.txt", b"x")
        use(f"file://{tmp_path}/b")
        drain(run)

    assert saved == []
    assert not ItemFailure.objects.exists()
    assert not WorkSlice.objects.exclude(processed=0).exists()
    waits = WorkSlice.objects.exclude(waits_for="").first()
    assert waits is not None
    assert waits.waits_for.startswith("Cannot use files of this run here: they are in another storage than file://")
    assert first.exists(place.MARK)


def test_a_worker_without_the_files_does_not_take_them_for_missing(use: Callable[[str], Storage], tmp_path):
    run = make_run("scripted", items=10)
    work = leased(run)
    use(f"file://{tmp_path}/a")
    FencedArtifacts(run.pk, "scripted", lambda: work).save("a.txt", b"x")
    use(f"file://{tmp_path}/b")
    other = FencedArtifacts(run.pk, "scripted", lambda: work)

    for read in (other.open, other.read, other.exists):
        with pytest.raises(StorageAway, match="they are in another storage"):
            read("a.txt")
    with pytest.raises(StorageAway):
        other.delete("a.txt")


def test_readyz_tells_who_keeps_files_where():
    assert ready() == (200, "ok")
    here = place.here()
    lives("a", id=here.id, place=here.key)
    assert ready() == (200, "ok")

    lives("b", id="2" * 32, told="file:///b")
    status, word = ready()
    assert status == 503
    assert word == (
        "the live workers do not share files: stages@a on a in file:///data/media; stages@b on b in file:///b"
    )

    gone("a")
    status, word = ready()
    assert status == 503
    assert word == f"this process stores files in {here.name}, but workers do not: stages@b on b in file:///b"


def test_readyz_tells_of_a_storage_that_is_away(use: Callable[[str], Storage]):
    use("s3://bucket?endpoint_url=http://127.0.0.1:9&addressing_style=path&region=us-east-1")

    status, word = ready()

    assert status == 503
    assert word.startswith("Cannot use the storage s3://bucket of http://127.0.0.1:9: ")


def test_readyz_tells_of_a_bucket_that_is_not_there(use: Callable[[str], Storage], s3):
    use(s3.url.replace(s3.bucket, "no-such-bucket"))

    status, word = ready()

    assert status == 503
    assert "no-such-bucket" in word


def test_the_check_tells_it_to_who_deploys():
    def check() -> str:
        told = StringIO()
        call_command("check", databases=["default"], stdout=told, stderr=told)
        return told.getvalue()

    assert "backend.W001" not in check()
    lives("a")
    lives("b")
    assert "(backend.W001) The live workers do not share files" in check()
    connection.close()


def test_an_item_waits_while_the_storage_is_away_and_is_done_when_it_is_back(use: Callable[[str], Storage], s3):
    def script(item: dict[str, Any], ctx: StageContext) -> None:
        ctx.artifacts.save(f"{item['n']}.txt", b"x")

    run = make_run("scripted", items=4)
    use("s3://bucket?endpoint_url=http://127.0.0.1:9&addressing_style=path&region=us-east-1")
    with scripted(script):
        drain(run)
        assert not ItemFailure.objects.exists()
        told = [reason for reason in gate.explain(run) if reason.code == "waits"]
        assert "Cannot use the storage s3://bucket of http://127.0.0.1:9" in told[0].sentence

        use(s3.url)
        settle(run)

    assert run.lifecycle == "completed"
    assert len([key for key in s3.objects() if key.endswith(".txt")]) == 4


def test_a_set_up_waits_for_the_storage_as_long_as_it_takes(use: Callable[[str], Storage], s3, monkeypatch):
    run = make_run("scripted", items=4)
    use(s3.url)
    writer_of(run).save("model.bin", b"weights")
    use("s3://bucket?endpoint_url=http://127.0.0.1:9&addressing_style=path&region=us-east-1")
    seen: list[bytes] = []
    monkeypatch.setattr(Scripted, "setup", lambda stage, ctx: seen.append(ctx.artifacts.read("model.bin")))
    expire_leases(run)
    leases.reap()

    for _ in range(12):  # more often than a loop may fail
        WorkSlice.objects.update(available_at=None)
        reconciler.reconcile()
        drain(run)
    run.refresh_from_db()
    assert run.lifecycle == "running"

    use(s3.url)
    assert settle(run).lifecycle == "completed"
    assert seen[0] == b"weights"


def test_a_bucket_has_one_mark_however_many_look_first(use: Callable[[str], Storage], s3):
    storage = use(s3.url)

    marks = {place.look(storage).id for _ in range(3)}
    storage.create_once(place.MARK, b"another\n")  # type: ignore[attr-defined]

    assert {place.look(storage).id} == marks
    assert [key for key in s3.objects() if key.endswith(place.MARK)] == [f"some/prefix/{place.MARK}"]


def test_a_damaged_mark_is_said_to_be(use: Callable[[str], Storage], tmp_path):
    storage = use(f"file://{tmp_path}/media")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / place.MARK).write_text("")

    with pytest.raises(StorageAway, match=r"its file \.slackwater-storage is damaged"):
        place.look(storage)


def test_whether_a_pipeline_uses_files_is_seen_in_its_stages_unless_it_says():
    class Inner(Stage):
        slug = "inner"
        title = "Inner"

        def process(self, item, ctx):
            yield from ({"name": ctx.artifacts.save(f"{n}.txt", b"")} for n in range(2))

    class Plain(Stage):
        slug = "plain"
        title = "Plain"

    def pipeline(*stages: type[Stage], says: bool | None = None) -> type[Pipeline]:
        return type("Made", (Pipeline,), {"slug": "made", "title": "Made", "stages": stages, "uses_files": says})

    assert file_sharing.uses_files(pipeline(Plain, Inner))
    assert file_sharing.uses_files(pipeline(type("Sub", (Inner,), {"slug": "sub"})))
    assert not file_sharing.uses_files(pipeline(Plain))
    assert file_sharing.uses_files(pipeline(Plain, says=True))
    assert not file_sharing.uses_files(pipeline(Inner, says=False))
    assert "content" in file_sharing.filing()
    assert "drill" not in file_sharing.filing()
