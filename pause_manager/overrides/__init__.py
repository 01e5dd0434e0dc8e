"""Values that operators set for a while: set, list, end, and the clock that ends them."""

from pause_manager.overrides.kinds import (
    InvalidOverride,
    OverrideKind,
    OverrideRefused,
    OverrideTargetUnknown,
    every_kind,
    kind_of,
    register,
)
from pause_manager.overrides.writer import end, expire, forget, start

__all__ = [
    "InvalidOverride",
    "OverrideKind",
    "OverrideRefused",
    "OverrideTargetUnknown",
    "end",
    "every_kind",
    "expire",
    "forget",
    "kind_of",
    "register",
    "start",
]
