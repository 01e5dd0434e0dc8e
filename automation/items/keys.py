"""Keys of items: texts that sort in input order and say where an item came from.

``007`` is the eighth item of the input, ``007.002`` its third output, ``007.002.000`` the first output of that. A stage
with several sources says which one: ``01:007.002.000`` was made from item ``007.002`` of its second source.
"""

from __future__ import annotations


def segment(ordinal: int) -> str:
    """``ordinal`` (>= 0) as text that sorts by number: three digits, else a letter and six, nine or more digits."""
    if ordinal < 1_000:
        return f"{ordinal:03d}"
    if ordinal < 1_000_000:
        return f"a{ordinal:06d}"
    if ordinal < 1_000_000_000:
        return f"b{ordinal:09d}"
    raise ValueError(f"expected an ordinal below 1,000,000,000, got: {ordinal}")


ENCODED_SEGMENTS = tuple(segment(ordinal).encode() for ordinal in range(1_000))
"""The segments that nearly every output has; building a text for each costs more than a no-op stage."""


def child(key: str, ordinal: int) -> str:
    """The key of output number ``ordinal`` of the item ``key``."""
    return f"{key}.{segment(ordinal)}"


def of_source(index: int) -> str:
    """What goes before the keys of items from source number ``index``, so that those of two sources never meet."""
    return f"{index:02d}:"


def source(key: str) -> str:
    """The key of the item that ``key`` was made from; empty for an item of the run's input."""
    return key.rpartition(".")[0]
