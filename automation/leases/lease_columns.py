"""The columns of a lease, for statements in SQL."""

from __future__ import annotations

from automation.models.tables import ITEM
from pause_manager.times import KEEPS_PLACE_SECONDS

NOBODY = (
    "lease_token = NULL, lease_owner = '', lease_keeper = '', lease_excused = false, lease_yield = '', "
    "leased_at = NULL, lease_expires_at = NULL, item_key = '', item_since = NULL, item_limit = NULL"
)
AFRESH = (
    "crashes = 0, expiries = 0, waits = 0, waited_seconds = 0, waits_for = '', overrun_key = '', overrun_attempts = 0,"
)
NO_LEASE = NOBODY + ", lease_node = '', lease_gpus = '{}'"
KEEPS = f"""
    slice.lost_at > statement_timestamp() - make_interval(secs => {KEEPS_PLACE_SECONDS})
    AND slice.lease_token IS NULL AND slice.finished_at IS NULL
"""
"""SQL over ``slice``: it was lost a moment ago and keeps its admission on its node."""

# From the cursor on, which is seldom far behind: a loop commits several times per second.
ITEM_AT = f"""
    coalesce((SELECT item.key FROM {ITEM} AS item
               WHERE slice.phase = 1 AND {{number}} >= 0 AND item.made_by_id = slice.source_id
                 AND item.key >= slice.first_key AND item.key > slice.cursor AND item.key <= slice.last_key
               ORDER BY item.key OFFSET greatest(0, {{number}} - slice.processed - slice.failed) LIMIT 1), '')
"""
"""SQL over ``slice``: the key of its item of that number; empty for none."""
