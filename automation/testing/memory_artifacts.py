"""Artifacts in memory: what ``ctx.artifacts`` is in a test."""

from __future__ import annotations

import io
from typing import IO
from uuid import UUID

from automation.files.storage import CHUNK_BYTES, Content
from automation.pipeline.context import Artifacts

RUN_ID = UUID(int=0)
"""The id of every run here."""


class MemoryArtifacts(Artifacts):
    """Artifacts of one run in memory; ``files`` is shared by its stages."""

    def __init__(self, stage_slug: str, files: dict[str, bytes], run_id: UUID = RUN_ID) -> None:
        self._run_id = run_id
        self._stage_slug = stage_slug
        self.files = files

    def open(self, name: str, *, stage: str | None = None) -> IO[bytes]:
        full = self.name(name, stage=stage)
        if full not in self.files:
            raise FileNotFoundError(full)
        return io.BytesIO(self.files[full])

    def read(self, name: str, *, stage: str | None = None) -> bytes:
        with self.open(name, stage=stage) as file:
            return file.read()

    def exists(self, name: str, *, stage: str | None = None) -> bool:
        return self.name(name, stage=stage) in self.files

    def delete(self, name: str) -> None:
        self.files.pop(self.name(name), None)

    def _write(self, name: str, full: str, source: Content) -> None:
        self.files[full] = b"".join(iter(lambda: source.read(CHUNK_BYTES), b""))
