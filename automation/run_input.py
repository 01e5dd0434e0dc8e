"""The input of a run, checked before the run is created."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automation.errors import InvalidInput
from automation.inputs import Input, read_keywords
from automation.pipeline import get_pipeline


def check_start(pipeline_slug: str, path: Path | str | None, params: Mapping[str, Any] | None = None) -> Input | None:
    """Check what a run is to be started with, without a database: pipeline, parameters, and every line of the file.

    Returns what was read, for a preview (its items are gone with the file), or ``None`` for a pipeline that makes its
    own items. Raises ``UnknownPipeline``, ``InvalidParams`` or ``InvalidInput``: sentences for people.
    """
    pipeline = get_pipeline(pipeline_slug)
    pipeline.clean_params(params or {})
    if not pipeline.needs_input:
        if path is not None:
            raise InvalidInput(
                f"Cannot create a run of {pipeline.slug}: it makes its own items and takes no input."
            )
        return None
    if path is None:
        raise InvalidInput(f"Cannot create a run of {pipeline.slug}: it needs input items, got none.")
    try:
        with Path(path).open("rb") as file:
            return read_keywords(file, str(path))
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
