"""Checks of ``manage.py up`` before it creates anything: input, pipeline, parameters, ports."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from automation.errors import AutomationError
from automation.management.commands.run_pipeline import parsed_params
from automation.pipeline import get_pipeline, run_input


class Unfit(Exception):
    """The system cannot be started; the message says what is wrong and what is allowed."""


def check_port(name: str, host: str, port: int, hint: str) -> None:
    """Raise :class:`Unfit` if no server can listen on this address."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OverflowError, UnicodeError):
        raise Unfit(f"Cannot listen on {host}:{port}: expected a host and a port from 1 to 65535.") from None
    except OSError as error:
        fact = (error.strerror or str(error)).lower()
        raise Unfit(f"Cannot listen on {host}:{port}: {fact}. Choose another port with {name}{hint}.") from error


def check_run(pipeline_slug: str | None, params: Sequence[str], input_file: Path | None) -> None:
    """Raise :class:`Unfit` if the requested run cannot be created."""
    if pipeline_slug is None:
        if params or input_file is not None:
            raise Unfit("Cannot use --input or --param: expected --run-pipeline, too.")
        return
    try:
        pipeline = get_pipeline(pipeline_slug)
        pipeline.clean_params(parsed_params(params))
    except AutomationError as error:
        raise Unfit(str(error)) from None
    if input_file is None and pipeline.needs_input:
        raise Unfit(f"Cannot run pipeline {pipeline_slug}: it needs input items, expected --input (INPUT=).")
    if input_file is not None:
        if not pipeline.needs_input:
            raise Unfit(f"Cannot run pipeline {pipeline_slug} on {input_file}: it makes its own items.")
        _check_input(pipeline_slug, input_file, params)


def _check_input(pipeline_slug: str, path: Path, params: Sequence[str]) -> None:
    is_stream = path.exists() and not (path.is_file() or path.is_dir())
    if is_stream or str(path) == run_input.STANDARD_INPUT:
        return  # a pipe can only be read once, by the run
    try:
        run_input.check_start(pipeline_slug, path, parsed_params(params))
    except AutomationError as error:
        raise Unfit(str(error)) from None
