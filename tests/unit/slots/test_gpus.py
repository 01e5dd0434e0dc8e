"""The GPUs of one piece of work in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pause_manager.capacity.snapshot import Gpu
from pause_manager.slots import gpus, recycling
from pause_manager.slots.gpus import CannotIsolate, given, isolated, offered
from tests.support.node_views import gpu, node
from tests.support.nvml.driver import Driver
from tests.support.nvml.fixtures import driver, nvml_library  # noqa: F401

A, B = Gpu("GPU-0", 0, "A100", 24_000), Gpu("GPU-1", 1, "A100", 24_000)
VIEW = node(gpus=[gpu(0, name="A100"), gpu(1, name="A100"), gpu(200, uuid="MIG-9", mig_of="GPU-1", total=5_000)])


@pytest.fixture(autouse=True)
def mask(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    gpus._resolved.clear()
    yield monkeypatch
    gpus._resolved.clear()


def test_what_is_given_is_told_in_full():
    assert given(["GPU-0"], VIEW) == (Gpu("GPU-0", 0, "A100", 24_000),)
    assert given(["MIG-9"], VIEW) == (Gpu("MIG-9", 1, "", 5_000),), "the number of its card"
    assert given(["GPU-7"], VIEW) == (Gpu("GPU-7"),)
    assert given(["GPU-0"], None) == (Gpu("GPU-0"),)
    assert Gpu(**json.loads(json.dumps(A.as_dict()))) == A


def test_a_process_offers_what_its_mask_leaves(mask: pytest.MonkeyPatch):
    assert offered(VIEW) is VIEW
    mask.setenv("CUDA_VISIBLE_DEVICES", "GPU-0")
    assert [card.id for card in offered(VIEW).gpus] == ["GPU-0"]
    mask.setenv("CUDA_VISIBLE_DEVICES", "")
    assert offered(VIEW).gpus == ()
    assert offered(VIEW).gpu_note == "no GPUs for its workers: CUDA_VISIBLE_DEVICES= leaves none"


def test_a_loop_stays_on_its_cards():
    assert [card.id for card in offered(VIEW, among=["GPU-1"]).gpus] == ["GPU-1"]


def test_a_number_goes_on_meaning_the_card_that_it_meant(mask: pytest.MonkeyPatch):
    mask.setenv("CUDA_VISIBLE_DEVICES", "0")
    moved = node(gpus=[gpu(0, uuid="GPU-1"), gpu(1, uuid="GPU-0")])

    assert [card.id for card in offered(VIEW).gpus] == ["GPU-0"]
    assert [card.id for card in offered(moved).gpus] == ["GPU-0"]


def test_cards_that_differ_are_warned_of_unless_cuda_numbers_them_as_the_driver_does(
    mask: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    mixed = node(gpus=[gpu(0, name="L4"), gpu(1, name="H100")])
    gpus.learn(mixed)
    gpus.learn(mixed)
    assert [line.message.partition(":")[0] for line in caplog.records] == [
        "The GPUs of this machine differ, and CUDA_DEVICE_ORDER is not PCI_BUS_ID"
    ]
    assert gpus.told() is None

    caplog.clear()
    mask.setenv("CUDA_VISIBLE_DEVICES", "1")
    gpus.learn(mixed)
    assert "names cards by number, and they differ" in caplog.text
    assert gpus.told() == []

    caplog.clear()
    mask.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    gpus.learn(mixed)
    assert caplog.text == ""
    assert gpus.told() == ["GPU-1"]


def test_isolation_names_the_cards_and_leaves_the_process_as_it_was(mask: pytest.MonkeyPatch):
    mask.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with isolated([B, A]):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-0"
        with pytest.raises(CannotIsolate), isolated([A]):
            pass
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"

    mask.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(ZeroDivisionError), isolated([A]):
        raise ZeroDivisionError
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_pool_of_threads_cannot_isolate(monkeypatch: pytest.MonkeyPatch):
    from celery.concurrency.thread import TaskPool

    monkeypatch.setattr(recycling, "_shares_process", False)
    recycling.note_pool(TaskPool)

    with pytest.raises(CannotIsolate, match="many tasks in one process"), isolated([A]):
        pass


WITH_CUDA = """
import json, os
from pause_manager.slots import gpus
from pause_manager.slots.gpus import CannotIsolate, isolated, offered
from pause_manager.probes import devices
from pause_manager.capacity.snapshot import Gpu
from tests.support.nvml.driver import start_cuda
from tests.support.node_views import gpu, node

view = node(gpus=[gpu(0), gpu(1)])
told = {"before": devices.is_cuda_up()}
with isolated([Gpu("GPU-1")]):
    told["within"] = start_cuda()
told["after"] = devices.is_cuda_up(), os.environ["CUDA_VISIBLE_DEVICES"]
told["offers"] = [card.id for card in offered(view).gpus]
with isolated([Gpu("GPU-1")]):
    told["same"] = start_cuda()
try:
    with isolated([Gpu("GPU-0")]):
        told["other"] = start_cuda()
except CannotIsolate as error:
    told["other"] = str(error)
print(json.dumps(told))
"""


def test_a_process_that_has_started_cuda_keeps_what_it_sees_and_offers_no_more(driver: Driver):  # noqa: F811
    done: Any = subprocess.run(
        [sys.executable, "-c", WITH_CUDA], env={**os.environ, **driver.env}, capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == {
        "before": False,
        "within": "GPU-1",
        "after": [True, "GPU-1"],
        "offers": ["GPU-1"],
        "same": "GPU-1",
        "other": "Cannot isolate GPUs: CUDA was started in this process with CUDA_VISIBLE_DEVICES=GPU-1.",
    }
