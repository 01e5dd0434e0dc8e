"""Real workers that sample this machine."""

from tests.support.sampling_workers import watching, workers

__all__ = ["watching", "workers"]
