"""Batches that are handed out one after the other: which was the last, and that the delay before it was no work."""

from __future__ import annotations

from django.db import connection

from automation.gate import standstills
from automation.items.leased_slice import LeasedSlice
from automation.models.tables import STAGE


def hand_out(work: LeasedSlice) -> None:
    """Note that ``work``, of a stage whose batches are apart, was leased as its next batch. The stage is locked."""
    with connection.cursor() as cursor:
        cursor.execute(standstills.END_DELAY, [work.stage_run_id])
        cursor.execute(f"UPDATE {STAGE} SET batch_id = %s WHERE id = %s", [work.slice_id, work.stage_run_id])
