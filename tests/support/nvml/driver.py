"""The steering of the test driver: the ``libnvidia-ml.so.1`` of ``nvml.c``, which the real pynvml loads, and a CUDA."""

from __future__ import annotations

import ctypes
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = {"libnvidia-ml.so.1": "nvml.c", "libcuda.so.1": "cuda.c"}

NOT_SUPPORTED = 3
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15


def build(directory: Path) -> Path:
    """Compile the libraries into ``directory``; returns the directory."""
    for library, source in SOURCES.items():
        files = [str(directory / library), str(Path(__file__).with_name(source))]
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", *files], check=True)
    return directory


def start_cuda() -> str:
    """Start the test's CUDA in this process, as user code would; answers the mask that it saw when it was started."""
    library = ctypes.CDLL("libcuda.so.1")
    library.testSeen.restype = ctypes.c_char_p
    library.cuInit(0)
    return str(library.testSeen().decode())


@dataclass
class Card:
    total: int = 40_960
    free: int = 40_000
    utilisation: int = 0
    temperature: int = 40
    error: int = 0
    ecc: int = 0
    migs: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number to (total, free) MiB; not empty: the card is in MIG mode."""
    processes: dict[int, int] = field(default_factory=dict)
    """pid to MiB."""
    uuid: str = ""
    """``GPU-<index>`` unless it is given."""
    name: str = ""
    aborts: bool = False
    """The library aborts when this card is asked."""
    hangs: bool = False
    """The library never returns when this card is asked."""
    unified: int | None = None
    """It has no memory of its own and answers with this error; 0: with 0 of 0."""


@dataclass
class Driver:
    """What the driver says from now on; ``write`` makes it so."""

    directory: Path
    state: Path
    cards: list[Card] = field(default_factory=list)
    init: int = 0
    hang: str = ""

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process that is to find this driver."""
        return {"LD_LIBRARY_PATH": str(self.directory), "NVML_STATE": str(self.state)}

    def write(self) -> None:
        lines = [f"init {self.init}", f"count {len(self.cards)}"]
        lines += [f"hang {self.hang}"] if self.hang else []
        for index, card in enumerate(self.cards):
            figures = (
                card.total,
                card.free,
                card.utilisation,
                card.temperature,
                card.error,
                card.ecc,
                int(bool(card.migs)),
            )
            lines.append(f"gpu {index} {' '.join(map(str, figures))}")
            lines += [f"uuid {index} {card.uuid}"] if card.uuid else []
            lines += [f"name {index} {card.name}"] if card.name else []
            lines += [f"abort {index}"] if card.aborts else []
            lines += [f"hangs {index}"] if card.hangs else []
            lines += [f"unified {index} {card.unified}"] if card.unified is not None else []
            lines += [f"process {index} {pid} {mib}" for pid, mib in card.processes.items()]
            lines += [f"mig {index} {number} {total} {free}" for number, (total, free) in card.migs.items()]
        fresh = self.state.with_name(f".{self.state.name}.{os.getpid()}")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.state)
