"""What the containers of one machine tell the one of them that speaks for it, as values that go through JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import orjson

from pause_manager.capacity.snapshot import GpuView
from pause_manager.probes.sample import of_known


@dataclass(frozen=True)
class Limit:
    """A limit that a control group sets: cores, or MiB."""

    group: str
    """Tells the group from any other of the machine, from wherever it is looked at."""
    size: float
    used: float
    """By everybody in the group; of memory what the kernel could not drop."""


@dataclass(frozen=True)
class Report:
    """What one container used since its last report, and how far it may go."""

    container: str
    label: str
    """What people call it: the host name in it."""
    cpus: int
    """The CPUs its workers may run on, a bit each."""
    own_cores: float = 0.0
    own_memory_mib: int = 0
    own_processes: int = 0
    wait_factor: float = 1.0
    """(time running + time waiting for a CPU) / time running, of its threads."""
    cpu_limits: tuple[Limit, ...] = ()
    memory_limits: tuple[Limit, ...] = ()
    oom_kills: int = 0
    """Of its own control group, since that was made."""
    gpus: tuple[GpuView, ...] = ()
    gpu_problem: str = ""
    gpu_note: str = ""

    def as_json(self) -> bytes:
        """The bytes that :meth:`of_json` reads."""
        return orjson.dumps({**asdict(self), "cpus": hex(self.cpus)})

    @classmethod
    def of_dict(cls, figures: dict[str, Any]) -> Report:
        """The report of :meth:`as_json`, decoded. What another version wrote and this one does not know is left out."""
        made: Report = of_known(
            cls,
            {
                **figures,
                "cpus": int(figures["cpus"], 16),
                "gpus": tuple(of_known(GpuView, gpu) for gpu in figures["gpus"]),
                "cpu_limits": tuple(of_known(Limit, limit) for limit in figures["cpu_limits"]),
                "memory_limits": tuple(of_known(Limit, limit) for limit in figures["memory_limits"]),
            },
        )
        return made

    @classmethod
    def of_json(cls, text: bytes | str) -> Report:
        """The report of :meth:`as_json`; ``ValueError``, ``KeyError`` or ``TypeError`` if it is none."""
        return cls.of_dict(orjson.loads(text))
