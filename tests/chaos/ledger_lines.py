"""How stages tell what they do: lines in the ledger of their run."""

from __future__ import annotations

import os
import time

from automation.pipeline.context import StageContext


def note(ctx: StageContext, what: str) -> None:
    """Append one line to the ledger; one ``write`` in append mode is never torn by another process's."""
    line = f"{time.time():.6f} {os.getpid()} {ctx.run_id} {ctx.stage_slug} {ctx.item_key} {what}\n"
    ledger = os.open(ctx.params["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)
