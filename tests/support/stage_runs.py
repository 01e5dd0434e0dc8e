"""Runs a pipeline's stages here and now, without engine and database, in slices of any size.

As a program (``python -m tests.unit.pipelines.stage_runs FOLDER SLICE FILE``) it prints a digest of all that a content
run left behind, for comparing processes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.files.storage import FileSystemStorage

from automation.pipeline import AnyStage, Payload, Pipeline, Stage
from automation.pipeline.context import Artifacts, StageContext

RUN_ID = UUID(int=7)


def context(stage: type[AnyStage], folder: Path, params: dict[str, Any], items: Sequence[Payload] = ()) -> StageContext:
    return StageContext(
        run_id=RUN_ID,
        stage_slug=stage.slug,
        params=params,
        logger=logging.getLogger("tests"),
        artifacts=Artifacts(RUN_ID, stage.slug, FileSystemStorage(str(folder))),
        sleep=time.sleep,
        items=lambda: iter(items),
    )


def run_stage(
    stage: type[AnyStage], items: Sequence[Payload], folder: Path, params: dict[str, Any], slice_size: int = 1_000_000
) -> list[Payload]:
    """What the stage makes of ``items``; a new instance and context for each slice, as in another process."""
    stage().prepare(context(stage, folder, params, items))
    outputs: list[Payload] = []
    for at in range(0, len(items), slice_size):
        instance, ctx = stage(), context(stage, folder, params)
        assert isinstance(instance, Stage)
        for number, item in enumerate(items[at : at + slice_size], start=at):
            ctx.item_key = f"{number:08}"
            made: Any = instance.process(item, ctx)
            outputs += json.loads(json.dumps(list(made)))
    stage().finish(context(stage, folder, params), iter(outputs))
    return outputs


def run_pipeline(
    pipeline: type[Pipeline], items: Sequence[Payload], folder: Path, slice_size: int = 1_000_000, **params: Any
) -> dict[str, list[Payload]]:
    """Outputs of every stage, by slug."""
    cleaned = pipeline.clean_params(params)
    current = [pipeline.clean_item(dict(item)) for item in items]
    outputs: dict[str, list[Payload]] = {}
    for stage in pipeline.stages:
        current = outputs[stage.slug] = run_stage(stage, current, folder, cleaned, slice_size)
    return outputs


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in sorted((folder / "runs" / str(RUN_ID)).rglob("*")) if path.is_file())


def digest(outputs: dict[str, list[Payload]], folder: Path) -> str:
    """One hash over all outputs and all files."""
    found = hashlib.sha256(json.dumps(outputs, sort_keys=True).encode())
    for path in files_of(folder):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def main(folder: str, slice_size: str, input_file: str) -> None:
    import django
    from django.conf import settings

    settings.configure(INSTALLED_APPS=[])
    django.setup()
    from automation.contrib.content.keywords import Keywords
    from automation.contrib.content.pipelines import ContentPipeline

    with Path(input_file).open("rb") as file:
        items = list(Keywords().read(file, input_file).items())
    outputs = run_pipeline(ContentPipeline, items, Path(folder), int(slice_size))
    print(digest(outputs, Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
