"""The figures of one minute of one node, gathered sample by sample. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pause_manager.probes.sample import Sample


@dataclass
class MinuteRollup:
    """Sums, least and greatest of the samples of a minute."""

    at: datetime
    samples: int = 0
    cores: float = 0.0
    foreign_sum: float = 0.0
    foreign_max: float = 0.0
    own_sum: float = 0.0
    memory_mib: int = 0
    free_memory_mib_min: int = 0
    _gpus: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, sample: Sample) -> MinuteRollup:
        """The empty minute that ``sample`` falls into."""
        at = datetime.fromtimestamp(sample.view.sampled_at // 60 * 60, UTC)
        return cls(at)

    def holds(self, sample: Sample) -> bool:
        """Return whether ``sample`` falls into this minute."""
        return MinuteRollup.of(sample).at == self.at

    def add(self, sample: Sample) -> None:
        """Count ``sample`` in."""
        view = sample.view
        least = self.free_memory_mib_min if self.samples else view.free_memory_mib
        self.samples += 1
        self.cores, self.memory_mib = view.cores, view.memory_mib
        self.foreign_sum += view.foreign_cores
        self.foreign_max = max(self.foreign_max, view.foreign_cores)
        self.own_sum += sample.own_cores
        self.free_memory_mib_min = min(least, view.free_memory_mib)
        for gpu in view.gpus:
            kept = self._gpus.setdefault(gpu.id, {"known": 0, "busy": 0.0, "free": None, "own": 0, "problem": ""})
            kept["uuid"], kept["index"] = gpu.uuid, gpu.index
            kept["total"], kept["problem"] = gpu.total_mib, gpu.problem or kept["problem"]
            kept["own"] = max(kept["own"], gpu.own_mib)
            if gpu.free_mib is not None:
                kept["free"] = gpu.free_mib if kept["free"] is None else min(kept["free"], gpu.free_mib)
            if gpu.utilisation is not None:
                kept["known"] += 1
                kept["busy"] += gpu.utilisation

    def figures(self) -> dict[str, Any]:
        """The columns of ``CapacitySample``."""
        return {
            "samples": self.samples,
            "cores": self.cores,
            "foreign_cores": round(self.foreign_sum / self.samples, 3),
            "foreign_cores_max": self.foreign_max,
            "own_cores": round(self.own_sum / self.samples, 3),
            "memory_mib": self.memory_mib,
            "free_memory_mib_min": self.free_memory_mib_min,
            "gpus": [
                {
                    "uuid": kept["uuid"],
                    "index": kept["index"],
                    "total_mib": kept["total"],
                    "free_mib_min": kept["free"],
                    "own_mib_max": kept["own"],
                    "utilisation": round(kept["busy"] / kept["known"], 3) if kept["known"] else None,
                    "problem": kept["problem"],
                }
                for kept in sorted(self._gpus.values(), key=lambda kept: (kept["index"], kept["uuid"]))
            ],
        }
