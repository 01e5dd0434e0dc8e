"""What CUDA_VISIBLE_DEVICES leaves of a machine's GPUs, and what a container has of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pause_manager.capacity.snapshot import GpuView
from pause_manager.probes.gpu.devices import mounted, visible


def card(index: int, uuid: str, name: str = "A100", **given: object) -> GpuView:
    return GpuView(index=index, total_mib=40_960, free_mib=40_000, uuid=uuid, name=name, **given)  # type: ignore[arg-type]


SAME = [card(0, "GPU-8932f937-aaaa"), card(1, "GPU-46b67a3e-bbbb"), card(2, "GPU-46ffffff-cccc")]
A, B, C = (gpu.uuid for gpu in SAME)
MIXED = [card(0, A), card(1, B, "H100")]
PARTS = [card(100, "MIG-1111-0", mig_of=A), card(101, "MIG-2222-1", mig_of=A)]
MIG = [card(0, A, problem="it is in MIG mode"), *PARTS, card(1, B)]


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (None, (A, B, C)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("1", (B,)),
        ("2,0", (C, A)),
        (" 1 , 2 ", (B, C)),
        ("0,7,1", (A,)),
        ("1,-1,0", (B,)),
        ("1,1", (B,)),
        (B, (B,)),
        ("GPU-8932F937", (A,)),
        ("GPU-46", ()),
        (f"{C},GPU-none,{A}", (C,)),
    ],
)
def test_a_mask_means_what_it_means_to_cuda(mask, seen):
    assert visible(SAME, mask).ids == seen


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (None, (A, B, "MIG-1111-0", "MIG-2222-1")),
        ("MIG-2222-1", ("MIG-2222-1",)),
        ("0", ("MIG-1111-0",)),
        (A, ("MIG-1111-0",)),
        ("1", (B,)),
    ],
)
def test_mig_devices_are_named_by_their_uuid_or_by_their_card(mask, seen):
    assert visible(MIG, mask).ids == seen


def test_numbers_of_cards_that_differ_are_not_guessed():
    found = visible(MIXED, "1")

    assert found.ids == ()
    assert found.problem == (
        "CUDA_VISIBLE_DEVICES=1 names cards by number, and they differ: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name UUIDs"
    )
    assert visible(MIXED, "1", "PCI_BUS_ID").ids == (B,)
    assert visible(MIXED, B).ids == (B,)
    assert visible(MIXED, None).ids == (A, B)


def test_a_card_that_is_gone_has_no_number():
    gone = card(0, C, problem="it is gone: the driver no longer lists it")

    assert visible([gone, *SAME[:2]], "0").ids == (A,)


def test_a_container_has_the_cards_whose_device_files_it_has(tmp_path: Path):
    assert mounted(tmp_path) is None
    for minor, uuid in enumerate((A, B)):
        about = tmp_path / f"proc/driver/nvidia/gpus/0000:0{minor}:00.0/information"
        about.parent.mkdir(parents=True)
        about.write_text(f"Model: \t\t A100\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n")
    (tmp_path / "dev").mkdir()

    assert mounted(tmp_path) == frozenset()
    (tmp_path / "dev/nvidia1").touch()
    assert mounted(tmp_path) == frozenset({B})
    assert visible(SAME, None, mounted={B}).ids == (B,)
    assert visible(SAME, "0", mounted={B}).ids == (B,), "numbers are those of the container"
    assert visible(MIG, None, mounted={A}).ids == (A, "MIG-1111-0", "MIG-2222-1")
    none = visible(SAME, None, mounted=frozenset())
    assert (none.ids, none.problem) == ((), "none of the machine's cards is available here")

    about.write_text("GPU UUID: GPU-????????-????\nDevice Minor: 1\n")
    assert mounted(tmp_path) is None, "the driver has not said it yet"
