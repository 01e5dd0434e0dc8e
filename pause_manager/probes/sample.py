"""A sample: what one node measured at one time, as a value that goes through JSON and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from pause_manager.capacity.snapshot import ContainerView, GpuView, NodeView


@dataclass(frozen=True)
class Sample:
    """The view that decisions are made from, and the figures behind it for people."""

    view: NodeView
    own_cores: float = 0.0
    busy_cores: float = 0.0
    load_1m: float = 0.0
    foreign_corrected_by: str = ""
    """How foreign use was raised to foreign demand on a full CPU; empty: it was not."""
    own_processes: int = 0
    pressure: dict[str, float] = field(default_factory=dict)
    """PSI: the share of time in which something waited, by ``cpu``, ``memory``, ``io`` and ``cpu_group``."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; allocations are not part of a sample."""
        figures = asdict(self)
        for absent in (
            "allocations",
            "is_online",
            "pause_below",
            "threshold_moved_by",
            "pause_below_reason",
            "workers",
        ):
            del figures["view"][absent]
        return figures

    def as_json(self) -> bytes:
        """The bytes that :meth:`of_json` reads."""
        return orjson.dumps(self.as_dict())

    @classmethod
    def of_dict(cls, figures: dict[str, Any]) -> Sample:
        """The sample of :meth:`as_dict`. What another version wrote and this one does not know is left out."""
        view = figures["view"]
        gpus = tuple(of_known(GpuView, gpu) for gpu in view["gpus"])
        listed = ("gpus", "gpu_numbers")
        containers = tuple(
            of_known(ContainerView, one | {name: tuple(one.get(name, ())) for name in listed})
            for one in view.get("containers", ())
        )
        view = of_known(NodeView, {**view, "gpus": gpus, "containers": containers})
        made: Sample = of_known(cls, {**figures, "view": view})
        return made

    @classmethod
    def of_json(cls, text: bytes | str) -> Sample:
        """The sample of :meth:`as_json`; ``ValueError``, ``KeyError`` or ``TypeError`` if it is none."""
        return cls.of_dict(orjson.loads(text))


def of_known(declared: Any, values: dict[str, Any]) -> Any:
    """``declared`` made of ``values``, without what it does not know."""
    try:
        return declared(**values)
    except TypeError:
        names = declared.__dataclass_fields__.keys()
        return declared(**{name: value for name, value in values.items() if name in names})
