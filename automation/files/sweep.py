"""Free the storage of contents that no name has any more: replaced ones, and what was written and never used."""

from __future__ import annotations

import logging
from typing import Any

from django.core.files.storage import default_storage
from django.db import connection

from automation import conf
from automation.files import place
from automation.files.storage import StorageAway, used
from automation.models.tables import ARTIFACT, RUN, SLICE, STAGE

logger = logging.getLogger("automation.files")

AT_ONCE = 1_000


def sweep(limit: int = AT_ONCE) -> int:
    """Delete what is due, ``limit`` at most, of the runs whose files are in this process's storage; returns how many.

    A replaced content stays for ``replaced_file_seconds``: somebody may be reading it. One that was never used goes
    when its slice is held under its token no more, for then it never will be.
    """
    values: dict[str, Any] = {"older": conf.settings().replaced_file_seconds, "limit": limit}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT EXISTS (SELECT FROM {ARTIFACT} WHERE NOT is_current)")
        if not cursor.fetchone()[0]:
            return 0
        try:
            values["storage"] = place.here().id
        except StorageAway as error:
            logger.warning("%s What no name has any more is deleted when it can be.", error)
            return 0
        cursor.execute(_DUE, values)
        due = cursor.fetchall()
    deleted = 0
    for pk, location in due:
        try:
            with used(default_storage):
                default_storage.delete(location)
        except StorageAway as error:
            logger.warning("%s What no name has any more is deleted when it can be.", error)
            break
        with connection.cursor() as cursor:
            # The content first: a process that dies in between leaves a row that says what is left to do.
            cursor.execute(f"DELETE FROM {ARTIFACT} WHERE id = %s AND NOT is_current", [pk])
        deleted += 1
    return deleted


_DUE = f"""
    SELECT artifact.id, artifact.location
      FROM {ARTIFACT} AS artifact
      JOIN {STAGE} AS stage ON stage.id = artifact.stage_run_id
      JOIN {RUN} AS run ON run.id = stage.run_id
     WHERE NOT artifact.is_current AND run.storage = %(storage)s
       AND coalesce(artifact.replaced_at, artifact.created_at)
           < clock_timestamp() - make_interval(secs => %(older)s)
       AND (artifact.replaced_at IS NOT NULL OR NOT EXISTS (
            SELECT FROM {SLICE} AS slice
             WHERE slice.stage_run_id = artifact.stage_run_id AND slice.lease_token = artifact.token
               AND slice.finished_at IS NULL))
     LIMIT %(limit)s
"""
