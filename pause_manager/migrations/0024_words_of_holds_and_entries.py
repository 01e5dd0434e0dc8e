"""Rename the columns whose words said something else: data and indexes stay as they are."""

from django.db import migrations, models
from django.db.models import Case, F, Q, When

RENAMED = {
    "hold": {"settled_at": "drained_at", "went_on_at": "work_resumed_at"},
    "pausequeueentry": {
        "kept_by": "waits_for",
        "sending": "generation",
        "answered_at": "confirmed_at",
        "answered_by": "confirmed_by",
    },
    "runningtask": {"asks": "polls_for_stop", "gives_way": "stop_reason", "seen_at": "heartbeat_at"},
}
INDEXES = {"hold_not_gone_on": "hold_not_resumed", "entry_unanswered": "entry_unconfirmed"}

# PostgreSQL carries a new name of a column into the conditions of indexes by itself; Django's state does not.
DATABASE = [
    migrations.RunSQL(
        f"ALTER TABLE pause_manager_{model} RENAME COLUMN {old} TO {new}",
        f"ALTER TABLE pause_manager_{model} RENAME COLUMN {new} TO {old}",
    )
    for model, columns in RENAMED.items()
    for old, new in columns.items()
] + [
    migrations.RunSQL(f"ALTER INDEX {old} RENAME TO {new}", f"ALTER INDEX {new} RENAME TO {old}")
    for old, new in INDEXES.items()
]

STATE = [
    migrations.RemoveIndex("hold", "hold_not_gone_on"),
    migrations.RemoveIndex("pausequeueentry", "entry_of_kind"),
    migrations.RemoveIndex("pausequeueentry", "entry_ended"),
    migrations.RemoveIndex("pausequeueentry", "entry_unanswered"),
    *[
        migrations.RenameField(model, old, new)
        for model, columns in RENAMED.items()
        for old, new in columns.items()
    ],
    migrations.AddIndex(
        "hold",
        models.Index(
            fields=["scope"],
            condition=Q(released_at__isnull=False, work_resumed_at__isnull=True),
            name="hold_not_resumed",
        ),
    ),
    migrations.AddIndex(
        "pausequeueentry",
        models.Index(
            fields=["work_queue", "pipeline", "priority", "needs", "paused_at", "id"],
            condition=Q(finished_at__isnull=True, waits_for="capacity"),
            name="entry_of_kind",
        ),
    ),
    migrations.AddIndex(
        "pausequeueentry",
        models.Index(
            Case(When(outcome="sent", then=F("confirmed_at")), default=F("finished_at")),
            condition=Q(finished_at__isnull=False),
            name="entry_ended",
        ),
    ),
    migrations.AddIndex(
        "pausequeueentry",
        models.Index(
            fields=["queue", "sent_at"],
            condition=Q(outcome="sent", confirmed_at__isnull=True),
            name="entry_unconfirmed",
        ),
    ),
]


class Migration(migrations.Migration):
    dependencies = [("pause_manager", "0023_counter_totals_and_policy_state")]

    operations = [migrations.SeparateDatabaseAndState(DATABASE, STATE)]
