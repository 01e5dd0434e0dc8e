"""Choices that look free and are the same for the same seed text, in any process on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A sequence of numbers from SHA-256 of ``seed``; ``random`` is avoided, for its sequences are no promise."""

    def __init__(self, *seed: object) -> None:
        self._seed = "\x1f".join(map(str, seed)).encode()
        self._throws = 0

    def below(self, limit: int) -> int:
        """A number from 0 up to and without ``limit``."""
        self._throws += 1
        digest = hashlib.sha256(self._seed + self._throws.to_bytes(4)).digest()
        return int.from_bytes(digest[:8]) % limit

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.below(10_000) / 10_000

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(len(options))]
