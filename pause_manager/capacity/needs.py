"""The needs of one piece of work."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite


class InvalidNeeds(ValueError):
    """A need is not a number >= 0; the sentence names it."""


@dataclass(frozen=True)
class Needs:
    """Cores, MiB of memory, MiB on each GPU, and number of GPUs that one loop or task needs."""

    cpu: float = 1.0
    memory_mib: int = 0
    gpu_memory_mib: int = 0
    gpus: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not isfinite(value) or value < 0:
                raise InvalidNeeds(f"Cannot declare Needs.{field.name}: expected a number >= 0, got: {value!r}")
        if self.gpu_memory_mib and not self.gpus:
            object.__setattr__(self, "gpus", 1)

    def __str__(self) -> str:
        parts = [f"{self.cpu:g} core{'' if self.cpu == 1 else 's'}"] if self.cpu else []
        parts += [f"{self.memory_mib:,} MiB"] if self.memory_mib else []
        if self.gpus:
            on = "one GPU" if self.gpus == 1 else f"{self.gpus} GPUs"
            parts.append(f"{self.gpu_memory_mib:,} MiB on {on}" if self.gpu_memory_mib else on)
        return ", ".join(parts) or "nothing"
