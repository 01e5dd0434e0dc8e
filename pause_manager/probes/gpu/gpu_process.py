"""The process that talks to the NVIDIA driver, so that a driver that hangs takes nobody with it.

A line on stdin asks: ``{"alone": [indices of the cards to leave alone], "only": index of the one to ask, or null}``.
JSON lines on stdout answer: ``{"asking": index, "of": count}`` before a card is touched, so that who reads knows which
one the library did not survive or does not return from, and at last ``{"gpus": [...]}`` or ``{"problem": ...}``. It is
started as a script in a process of its own (never forked: a driver must not be used across a fork), it imports nothing
of ours, and it ends with its parent. The process that asks has the deadline.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import sys
from collections.abc import Callable, Collection
from typing import Any, TypeVar

try:
    import pynvml
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    # Asked once, answered once: a machine whose GPUs nobody can see is one without.
    sys.stdin.readline()
    print(json.dumps({"problem": "the package nvidia-ml-py is not installed", "is_absent": True}), flush=True)
    sys.exit()

MIB = 1 << 20
PR_SET_PDEATHSIG = 1
LOST = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND)
T = TypeVar("T")


def main() -> None:
    """Answer until stdin ends. What fails on the whole is told as ``problem``, with ``is_absent`` if there is no
    driver library, which means a machine without GPUs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    is_ready = False
    for line in sys.stdin:
        try:
            if not is_ready:
                pynvml.nvmlInit()
                is_ready = True
            answer: dict[str, Any] = {"gpus": read_all(**json.loads(line))}
        except pynvml.NVMLError as error:
            is_absent = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
            answer = {"problem": str(error), "is_absent": is_absent}
        print(json.dumps(answer), flush=True)
        if "problem" in answer:
            return


def read_all(alone: Collection[int], only: int | None) -> list[dict[str, Any]]:
    """Every GPU that is not in ``alone``, or ``only`` one; one in MIG mode is followed by its MIG devices."""
    found: list[dict[str, Any]] = []
    count = pynvml.nvmlDeviceGetCount()
    for index in range(count):
        if index in alone or only not in (None, index):
            found.append({"index": index, "problem": "", "is_left_alone": True})
            continue
        print(json.dumps({"asking": index, "of": count}), flush=True)
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            card = read_one(handle, index)
            found += [card, *(read_mig(mig, card, number) for number, mig in mig_devices(handle))]
        except pynvml.NVMLError as error:
            # A driver that cannot tell one card still tells the others; one that is broken as a whole is not asked on.
            if error.value in (pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
                raise
            found.append({"index": index, "problem": problem_of(error)})
    return found


def read_one(handle: Any, index: int) -> dict[str, Any]:
    """One card. Memory must be readable, or be the machine's; what an older card does not support is left out."""
    utilisation = optional(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return {
        "index": index,
        "uuid": optional(lambda: pynvml.nvmlDeviceGetUUID(handle)) or "",
        "name": optional(lambda: pynvml.nvmlDeviceGetName(handle)) or "",
        **memory_of(handle),
        "utilisation": None if utilisation is None else utilisation / 100,
        "temperature_c": optional(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        "processes": processes(handle),
        "problem": ecc_problem(handle) or mig_mode_problem(handle),
    }


def read_mig(handle: Any, card: dict[str, Any], number: int) -> dict[str, Any]:
    """One MIG device: a GPU of its own to CUDA, with the temperature of the card; utilisation is not told."""
    return {
        "index": 100 * (card["index"] + 1) + number,
        "mig_of": card["uuid"] or str(card["index"]),
        "uuid": optional(lambda: pynvml.nvmlDeviceGetUUID(handle)) or "",
        "name": optional(lambda: pynvml.nvmlDeviceGetName(handle)) or f"{card['name']} MIG {number}",
        **memory_of(handle),
        "utilisation": None,
        "temperature_c": card["temperature_c"],
        "processes": processes(handle),
        "problem": "" if card["problem"] == MIG_MODE else card["problem"],
    }


def memory_of(handle: Any) -> dict[str, Any]:
    """Total and free memory. A GPU without memory of its own says that it cannot tell, or 0 of 0."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        return {"total_mib": 0, "free_mib": 0, "is_unified": True}
    return {"total_mib": memory.total // MIB, "free_mib": memory.free // MIB, "is_unified": memory.total == 0}


MIG_MODE = "it is in MIG mode: its MIG devices take the work"


def mig_devices(handle: Any) -> list[tuple[int, Any]]:
    """The MIG devices of a card, by number."""
    found: list[tuple[int, Any]] = []
    for number in range(optional(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
        with contextlib.suppress(pynvml.NVMLError):
            found.append((number, pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
    return found


def mig_mode_problem(handle: Any) -> str:
    mode = optional(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    return MIG_MODE if mode and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE else ""


def ecc_problem(handle: Any) -> str:
    """Uncorrected memory errors since the driver was loaded, and a row remapping that failed (needs a new card)."""
    errors = optional(
        lambda: pynvml.nvmlDeviceGetTotalEccErrors(
            handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        )
    )
    if errors:
        return f"it has {errors} uncorrected ECC errors"
    rows = optional(lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    return "it could not remap a broken memory row" if rows and rows[3] else ""


def processes(handle: Any) -> list[tuple[int, int | None]]:
    """(pid, MiB) of everybody on the card; the MiB are unknown where the driver does not tell."""
    used: dict[int, int | None] = {}
    for listing in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in optional(lambda listing=listing: listing(handle)) or []:  # type: ignore[misc]
            bytes_used = process.usedGpuMemory
            used[process.pid] = None if bytes_used is None else bytes_used // MIB
    return list(used.items())


def optional(read: Callable[[], T]) -> T | None:
    """Return what ``read`` says; ``None`` if the driver cannot tell. A lost card is an error still."""
    try:
        return read()
    except pynvml.NVMLError as error:
        if error.value in LOST:
            raise
        return None


def problem_of(error: pynvml.NVMLError) -> str:
    if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
        return "it is lost: it fell off the bus"
    if error.value == pynvml.NVML_ERROR_RESET_REQUIRED:
        return "it needs a reset"
    return f"the driver says: {error}"


if __name__ == "__main__":
    main()
