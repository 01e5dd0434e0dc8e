"""The steering of the test driver: a ``libnvidia-ml.so.1`` built from ``nvml.c`` that the real pynvml loads."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")

NOT_SUPPORTED = 3
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15


def build(directory: Path) -> Path:
    """Compile the library into ``directory``; returns the directory."""
    library = directory / "libnvidia-ml.so.1"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return directory


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
            lines += [f"unified {index} {card.unified}"] if card.unified is not None else []
            lines += [f"process {index} {pid} {mib}" for pid, mib in card.processes.items()]
            lines += [f"mig {index} {number} {total} {free}" for number, (total, free) in card.migs.items()]
        fresh = self.state.with_name(f".{self.state.name}.{os.getpid()}")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.state)
