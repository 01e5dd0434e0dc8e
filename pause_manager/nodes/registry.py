"""Nodes: the only writer of WorkerNode and CapacitySample, and the one place that says which nodes there are, and how.

Live samples are in Redis and expire by themselves; the database keeps the last one every few seconds. A node is
online while either of them is younger than ``missed_samples`` intervals, by Redis's or the database's clock: the
clocks of the nodes are never compared.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import orjson
import redis
from django.db import connection, transaction
from django.db.models.functions import Now

from pause_manager import capacity, conf
from pause_manager.actor import Actor
from pause_manager.capacity.snapshot import NodeView
from pause_manager.database import batches
from pause_manager.messaging.redis_clients import client as client
from pause_manager.models import CapacitySample, Hold, Machine, WorkerNode
from pause_manager.nodes.machines import identity
from pause_manager.nodes.persisted_state import PersistedNodeState
from pause_manager.nodes.rollup import MinuteRollup
from pause_manager.observability import audit
from pause_manager.probes import processes
from pause_manager.probes.sample import Sample
from pause_manager.probes.sampler_election import SamplerElection

logger = logging.getLogger("pause_manager.nodes.registry")

REMEMBERED = timedelta(hours=1)
"""Nodes that are gone for longer are no longer listed."""

# The machine's row first, as who renames it: after that its name stays.
_KEEP = f"""
    WITH machine AS (
        UPDATE {Machine._meta.db_table} SET last_seen_at = clock_timestamp() WHERE boot_id = %(boot_id)s RETURNING name
    ), kept AS (
        INSERT INTO {WorkerNode._meta.db_table} (name, sample, first_seen_at, last_seen_at, is_consuming)
        SELECT %(name)s, %(sample)s, clock_timestamp(), clock_timestamp(), true
         WHERE coalesce((SELECT name FROM machine), %(name)s) = %(name)s
        ON CONFLICT (name) DO UPDATE SET sample = excluded.sample, last_seen_at = excluded.last_seen_at
    )
    SELECT extract(epoch FROM clock_timestamp())::float8, (SELECT name FROM machine)
"""
_MERGE = f"""
    UPDATE {CapacitySample._meta.db_table} AS sample SET node_id = %(into)s
     WHERE node_id = %(of)s AND NOT EXISTS (
           SELECT FROM {CapacitySample._meta.db_table} AS own
            WHERE own.node_id = %(into)s AND own.minute = sample.minute)
"""


@dataclass(frozen=True)
class KnownNode:
    """A node as far as it is known: its row, its latest sample, and how old that may be."""

    row: WorkerNode
    sample: Sample
    is_online: bool
    age_seconds: float
    """Since the node was last seen; 0 while Redis has a live sample."""

    @property
    def view(self) -> NodeView:
        """Return what decisions are made from; without loads."""
        # A sample may be older than the node's name.
        view = replace(self.sample.view, name=self.row.name, is_online=self.is_online)
        policy = conf.settings().policy_of()
        return capacity.with_threshold(view, self.row.pause_below, self.watch.adaptation, policy)

    @property
    def watch(self) -> PersistedNodeState:
        """Return what its last sampler kept of it."""
        return PersistedNodeState.of_dict(self.row.policy_state)


def live_nodes() -> list[NodeView]:
    """Every node seen within the last hour, by name, without loads. A constant number of queries."""
    return [state.view for state in states()]


def live_node(name: str) -> NodeView | None:
    """The node of this name, if it was seen within the last hour, without loads."""
    return next((state.view for state in states(name)), None)


# Every claim asks both: read without the ORM, which takes longer than the statements.
_LOCK = f"""
    SELECT policy_state::text, pause_below, statement_timestamp() - last_seen_at,
           extract(epoch FROM statement_timestamp())::float8
      FROM {WorkerNode._meta.db_table} WHERE name = %s FOR NO KEY UPDATE"""
_HELD = f"SELECT reason FROM {Hold._meta.db_table} WHERE released_at IS NULL AND scope = %s LIMIT 1"


def lock(name: str, sample: Sample | None = None) -> tuple[KnownNode | None, float | None]:
    """The node of this name, without loads, and the database's time; its row is locked until the transaction ends.

    ``sample`` is what :func:`latest` gave before the transaction. Without it the node is judged by what the workers of
    this machine tell each other, or by what the database was told last: Redis is never asked while a row is locked.
    (``None``, ``None``) if the database does not know the node.
    """
    sample = sample or own_sample(name)
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [name])
        found = cursor.fetchone()
    if found is None:
        return None, None
    policy_state, pause_below, age, now = found
    row: Any = WorkerNode(name=name, policy_state=orjson.loads(policy_state), pause_below=pause_below)
    row.age = age
    if sample is not None:
        return _live_state(row, sample), now
    return next(iter(_states([row], {})), None), now


def latest(name: str) -> Sample | None:
    """The live sample of the node, if there is one; looks into Redis, so not within a transaction."""
    return own_sample(name) or _readable(name, _live_samples([name]).get(name))


def own_sample(name: str) -> Sample | None:
    """The live sample of the node if it is this machine, by the file that its workers share."""
    settings = conf.settings()
    if not name or name != identity.known_name():
        return None
    return SamplerElection(settings.runtime_dir).hear(within_seconds=settings.offline_seconds)


def states(name: str | None = None) -> list[KnownNode]:
    """Every node (or the named one) seen within the last hour, by name. One look into Redis, at most two queries.

    A caller that locks something calls it before: Redis may hang. A row whose sample cannot be understood (of a much
    later version, say) is left out, with a warning.
    """
    seen = WorkerNode.objects.seen_within(REMEMBERED).with_age().defer("sample").order_by("name")
    rows = list(seen if name is None else seen.filter(name=name))
    return _states(rows, _live_samples([row.name for row in rows]))


def _states(rows: list[WorkerNode], live: dict[str, bytes | str]) -> list[KnownNode]:
    silent = [row.name for row in rows if row.name not in live]
    kept = dict(WorkerNode.objects.filter(name__in=silent).values_list("name", "sample")) if silent else {}
    found: list[KnownNode] = []
    for row in rows:
        try:
            if row.name in live:
                found.append(_live_state(row, Sample.of_json(live[row.name])))
            else:
                found.append(_kept_state(row, kept[row.name]))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("Cannot read the sample of node %s: %s.", row.name, error)
    return found


def _readable(name: str, sample: bytes | str | None) -> Sample | None:
    try:
        return None if sample is None else Sample.of_json(sample)
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("Cannot read the sample of node %s: %s.", name, error)
        return None


def _live_state(row: WorkerNode, sample: Sample) -> KnownNode:
    return KnownNode(row, sample, is_online=True, age_seconds=0.0)


def _kept_state(row: WorkerNode, sample: dict[str, Any]) -> KnownNode:
    age: float = row.age.total_seconds()  # type: ignore[attr-defined]
    is_online = age <= conf.settings().offline_seconds
    return KnownNode(row, Sample.of_dict(sample), is_online=is_online, age_seconds=max(0.0, age))


def _live_samples(names: list[str]) -> dict[str, bytes | str]:
    if not names:
        return {}
    try:
        found = client().mget([_key(name) for name in names])
    except redis.RedisError as error:
        logger.warning("Redis is away (%s): nodes are judged by what the database last knew.", error)
        return {}
    return {name: text for name, text in zip(names, found, strict=True) if text is not None}


def announce(sample: Sample) -> bool:
    """Put ``sample`` into Redis until it is too old to count; ``False`` if Redis is away."""
    settings = conf.settings()
    # Half an interval of grace: the third sample is missed only when its time has passed.
    expires = int((settings.missed_samples + 0.5) * settings.sample_seconds * 1000)
    try:
        client().set(_key(sample.view.name), sample.as_json(), px=expires)
    except redis.RedisError:
        return False
    return True


@dataclass(frozen=True)
class SavedSample:
    """What the database answers to a sample."""

    now: float
    """Its time, in seconds since the epoch."""
    name: str
    """What the machine is called, if it is known: a sample under another name is not kept."""


def save_sample(sample: Sample, *, boot_id: str = "") -> SavedSample:
    """Keep ``sample`` as the last of its node, which is this machine, or the one with that ``boot_id``."""
    name, boot_id = sample.view.name, boot_id or processes.boot_id()
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, {"boot_id": boot_id, "name": name, "sample": sample.as_json().decode()})
        now, is_called = cursor.fetchone()
    return SavedSample(now, is_called or "")


def save_minute(minute: MinuteRollup, name: str) -> None:
    """Add ``minute`` to the history of the node of this name.

    If another worker sampled a part of it, the part with more samples stays.
    """
    figures = minute.figures()
    with transaction.atomic():
        node = WorkerNode.objects.only("pk").get(name=name)
        row, is_new = CapacitySample.objects.select_for_update().get_or_create(
            node=node, minute=minute.at, defaults=figures
        )
        if not is_new and row.samples < minute.samples:
            CapacitySample.objects.filter(pk=row.pk).update(**figures)


def set_consuming(name: str, is_consuming: bool) -> bool:
    """Note whether the workers of node ``name`` take new work; return whether that changed."""
    return bool(
        WorkerNode.objects.filter(name=name).exclude(is_consuming=is_consuming).update(is_consuming=is_consuming)
    )


def held() -> dict[str, str]:
    """The nodes that a hold keeps from new work, each with the reason."""
    holds = Hold.objects.active().filter(scope__startswith="node:")
    return {scope.removeprefix("node:"): reason for scope, reason in holds.values_list("scope", "reason")}


def held_because(name: str) -> str | None:
    """The reason of the hold that keeps the node of this name from new work, perhaps empty; ``None`` without one."""
    with connection.cursor() as cursor:
        cursor.execute(_HELD, [f"node:{name}"])
        found = cursor.fetchone()
    return found[0] if found else None


def save_state(name: str, watch: PersistedNodeState) -> bool:
    """Keep what is known of a judged node; ``False`` if the database does not know the node yet."""
    return bool(WorkerNode.objects.filter(name=name).update(policy_state=watch.as_dict()))


def saved_state(name: str) -> tuple[float | None, PersistedNodeState]:
    """The node's own threshold and what was kept of it, if anything."""
    row = WorkerNode.objects.filter(name=name).values_list("pause_below", "policy_state").first()
    return (row[0], PersistedNodeState.of_dict(row[1])) if row else (None, PersistedNodeState())


def set_threshold(name: str, pause_below: float | None, *, actor: Actor, reason: str = "") -> bool:
    """Set the node's own threshold, 0 to 1, or take it away; return whether there is such a node.

    A threshold that it has already is no change and leaves no event.
    """
    with transaction.atomic():
        node = WorkerNode.objects.select_for_update(no_key=True).filter(name=name).only("pause_below").first()
        if node is None:
            return False
        if node.pause_below != pause_below:
            WorkerNode.objects.filter(pk=node.pk).update(pause_below=pause_below)
            audit.record(
                "threshold_set",
                scope=f"node:{name}",
                actor=actor,
                reason=reason,
                before={"pause_below": node.pause_below},
                after={"pause_below": pause_below},
            )
        return True


def override_threshold(name: str, pause_below: float) -> tuple[int, float | None] | None:
    """Set the node's own threshold; return its key and the threshold it had, ``None`` if there is no such node."""
    node = WorkerNode.objects.select_for_update(no_key=True).filter(name=name).only("pause_below").first()
    if node is None:
        return None
    WorkerNode.objects.filter(pk=node.pk).update(pause_below=pause_below)
    return node.pk, node.pause_below


def restore_threshold(pk: int, overridden: float, pause_below: float | None) -> bool:
    """Put back what :func:`override_threshold` returned, if the node still has the ``overridden`` threshold."""
    return bool(WorkerNode.objects.filter(pk=pk, pause_below=overridden).update(pause_below=pause_below))


def still_called_so(seen: Sequence[KnownNode]) -> list[KnownNode]:
    """Those of ``seen`` that have not been renamed since: what is read of a node now is under its new name."""
    names = set(WorkerNode.objects.filter(pk__in=[state.row.pk for state in seen]).values_list("name", flat=True))
    return [state for state in seen if state.row.name in names]


def rename_machine(old: str, new: str) -> None:
    """The row continues under the new name; what another machine of that name has left behind becomes a part of it."""
    before = WorkerNode.objects.filter(name=new).only("pk", "pause_below").first()
    row = WorkerNode.objects.filter(name=old).only("pk", "pause_below").first()
    if row is None:
        return
    threshold = row.pause_below
    if before is not None:
        threshold = before.pause_below if threshold is None else threshold
        with connection.cursor() as cursor:
            cursor.execute(_MERGE, {"into": row.pk, "of": before.pk})
        before.delete()
    WorkerNode.objects.filter(pk=row.pk).update(name=new, pause_below=threshold)
    transaction.on_commit(lambda: _carry_live_sample(old, new), robust=True)


def _carry_live_sample(old: str, new: str) -> None:
    """Until the next sample, which has the new name, the last one stands for it."""
    with contextlib.suppress(redis.RedisError):  # away, or it has none: the database has a sample
        client().rename(_key(old), _key(new))


def forget_history() -> None:
    """Delete what is older than ``history_days``."""
    is_old = "{} < statement_timestamp() - make_interval(secs => 86400 * %(days)s::float8)"
    days = {"days": conf.settings().history_days}
    samples, seen = CapacitySample._meta.db_table, WorkerNode._meta.db_table
    batches.delete(samples, "minute", is_old.format("minute"), days, size=10_000)
    # What a node has told last is in the history too: such a node goes the next time.
    unused = f"NOT EXISTS (SELECT FROM {samples} AS sample WHERE sample.node_id = old.id)"
    batches.delete(seen, "last_seen_at", f"{is_old.format('last_seen_at')} AND {unused}", days)
    Machine.objects.filter(last_seen_at__lt=Now() - timedelta(days=conf.settings().history_days)).delete()


def _key(name: str) -> str:
    return f"{conf.settings().node_key_prefix}{name}"
