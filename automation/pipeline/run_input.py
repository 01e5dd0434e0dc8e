"""The input of a run: read by its pipeline's reader, every item checked, before the run is created."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from automation.errors import InvalidInput
from automation.inputs import Input
from automation.inputs.spool import CHUNK_BYTES, spool
from automation.pipeline import item_types
from automation.pipeline.payloads import UnfitPayload, encode
from automation.pipeline.pipeline import Pipeline
from automation.pipeline.registry import get_pipeline
from automation.pipeline.stage import Payload

STANDARD_INPUT = "-"


def checked_item(pipeline: type[Pipeline], item: Payload) -> bytes:
    """``item`` made fit for the first stage, as JSON. The one place where an item of an input is checked.

    Raises :class:`InvalidInput` with the reason alone; callers add which item it is.
    """
    try:
        encoded = encode(pipeline.clean_item(item))
        for check in item_types.input_checks(pipeline):
            check(encoded)
    except UnfitPayload as error:
        raise InvalidInput(str(error).replace("an output", "an item")) from None
    return encoded


def of_file(pipeline: type[Pipeline], file: BinaryIO, name: str) -> Input:
    """Read and check a file, which must be seekable and stay open while items are read."""
    return pipeline.reader.read(file, name, lambda item: checked_item(pipeline, item))


def of_text(pipeline: type[Pipeline], text: str, name: str = "the text") -> Input:
    """Read and check what somebody typed or pasted."""
    return of_file(pipeline, io.BytesIO(text.encode("utf-8", "surrogatepass")), name)


def of_records(pipeline: type[Pipeline], records: Iterable[Any]) -> Input:
    """Read and check items that came as JSON."""
    return pipeline.reader.from_records(records, check=lambda item: checked_item(pipeline, item))


def opened(path: Path | str) -> BinaryIO:
    """The file for reading and seeking; standard input (``-``) is copied to a temporary file first."""
    if str(path) == STANDARD_INPUT:
        copy = spool()
        while chunk := sys.stdin.buffer.read(CHUNK_BYTES):
            copy.write(chunk)
        return copy
    try:
        file = Path(path).open("rb")  # noqa: SIM115  (the caller closes it)
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
    if file.seekable():
        return file
    with file:
        copy = spool()
        while chunk := file.read(CHUNK_BYTES):
            copy.write(chunk)
    return copy


def name_of(path: Path | str) -> str:
    """The file's name for messages."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


def check_start(pipeline_slug: str, path: Path | str | None, params: Mapping[str, Any] | None = None) -> Input | None:
    """Check what a run is to be started with, without a database: pipeline, parameters, and every line of the file.

    Returns what was read, for its report (its items are gone with the file), or ``None`` for a pipeline that makes its
    own items. Raises ``UnknownPipeline``, ``InvalidParams`` or ``InvalidInput``: sentences for people.
    """
    pipeline = get_pipeline(pipeline_slug)
    pipeline.clean_params(params or {})
    check_need(pipeline, is_given=path is not None)
    if path is None:
        return None
    with opened(path) as file:
        return of_file(pipeline, file, name_of(path))


def check_need(pipeline: type[Pipeline], *, is_given: bool) -> None:
    """Raise :class:`InvalidInput` if the pipeline needs an input and has none, or has one and takes none."""
    if pipeline.needs_input and not is_given:
        raise InvalidInput(f"Cannot create a run of {pipeline.slug}: it needs input items, got none.")
    if is_given and not pipeline.needs_input:
        raise InvalidInput(f"Cannot create a run of {pipeline.slug}: it makes its own items and takes no input.")
