"""The gauges of the pause manager: holds, pause queue, nodes and GPUs, and what has been counted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from pause_manager import nodes
from pause_manager.database.reads import rows_of
from pause_manager.fleet import drain
from pause_manager.messaging.broker import BrokerAway
from pause_manager.models import Resource, WorkerNode
from pause_manager.nodes import clock_skew, known_tasks, members
from pause_manager.nodes.report import shown
from pause_manager.observability import metrics, waiting
from pause_manager.observability.exposition import gauge, register
from pause_manager.pausable import chord_results
from pause_manager.pause_queue import runnable, stuck, unserved
from pause_manager.resources import report

MIB = 1024 * 1024
DEGRADED_SECONDS = 60.0

HOLDS = """
    SELECT split_part(scope, ':', 1), kind, mode, count(*),
           max(extract(epoch FROM statement_timestamp() - created_at))::float8
      FROM pause_manager_hold WHERE released_at IS NULL GROUP BY 1, 2, 3
"""
QUEUE = """
    SELECT priority, count(*), max(extract(epoch FROM statement_timestamp() - paused_at))::float8
      FROM pause_manager_pausequeueentry WHERE finished_at IS NULL GROUP BY 1
"""
POLL = """
    SELECT extract(epoch FROM statement_timestamp() - polled_at)::float8
      FROM pause_manager_pollstate WHERE polled_at IS NOT NULL
"""
FLEET = """
    SELECT mode, version, extract(epoch FROM statement_timestamp() - mode_since)::float8 FROM pause_manager_controlstate
"""
TALLIES = """
    SELECT name, labels, value, extract(epoch FROM statement_timestamp() - counted_at)::float8
      FROM pause_manager_countertotal
"""
STATEMENTS = (HOLDS, QUEUE, known_tasks.STUCK, POLL, FLEET, members.LIVE, TALLIES)


@register("holds")
def _holds() -> Iterable[Metric]:
    count = gauge("slackwater_holds", "Holds in force, by kind of scope, kind and mode.", "scope", "kind", "mode")
    oldest = gauge("slackwater_hold_oldest_age_seconds", "Age of the oldest hold in force.", "scope", "kind", "mode")
    for scope, kind, mode, holds, age in rows_of(HOLDS):
        count.add_metric([scope, kind, mode], holds)
        oldest.add_metric([scope, kind, mode], age)
    return count, oldest


@register("resources")
def _resources() -> Iterable[Metric]:
    state = gauge("slackwater_resource_state", "1 for the state in which a resource is, else 0.", "resource", "state")
    in_use = gauge("slackwater_resource_in_use", "Items and tasks in progress that use a resource.", "resource")
    limit = gauge("slackwater_resource_limit", "How many may use a resource at once, where it has a limit.", "resource")
    waiting = gauge("slackwater_resource_waiting", "Parked tasks and idle stages that wait for a resource.", "resource")
    for one in report.of_all():
        for known in Resource.State.values:
            state.add_metric([one.name, known], float(known == one.state))
        in_use.add_metric([one.name], one.in_use)
        waiting.add_metric([one.name], one.waiting)
        if (most := min(filter(None, (one.max_at_once, one.permitted)), default=None)) is not None:
            limit.add_metric([one.name], most)
    return state, in_use, limit, waiting


@register("fleet")
def _fleet() -> Iterable[Metric]:
    paused = gauge("slackwater_fleet_paused", "1 for the mode in which the fleet is paused, else 0.", "mode")
    since = gauge("slackwater_fleet_paused_age_seconds", "Seconds since the fleet was paused; 0 if it is not.")
    version = gauge("slackwater_fleet_version", "Version of the fleet switch; it rises by one with each change.")
    workers = gauge(
        "slackwater_workers",
        "Celery workers and remote agents, by whether they obey the current fleet switch; silent ones are lost.",
        "kind",
        "obeys",
    )
    current = 0
    for mode, number, age in rows_of(FLEET):
        for known in ("drain", "quiesce"):
            paused.add_metric([known], mode == known)
        since.add_metric([], age if mode else 0.0)
        version.add_metric([], number)
        current = number
    for kind, count in members.of_version(current).by_kind.items():
        workers.add_metric([kind, "yes"], count.acknowledged)
        workers.add_metric([kind, "no"], count.total - count.acknowledged - count.lost)
        workers.add_metric([kind, "lost"], count.lost)
    in_hand = gauge(
        "slackwater_in_hand",
        "Work in hand: running, of lost workers, and how many workers have not reported theirs.",
        "state",
    )
    readable = gauge("slackwater_in_hand_readable", "1 if what workers have in hand can be read.")
    found = drain.measure()
    readable.add_metric([], found.is_available)
    if found.is_available:
        in_hand.add_metric(["running"], found.running)
        in_hand.add_metric(["of_lost_workers"], found.stale_running)
        in_hand.add_metric(["unreported_workers"], found.unreported)
    return paused, since, version, workers, in_hand, readable


@register("clocks")
def _clocks() -> Iterable[Metric]:
    offset = gauge(
        "slackwater_clock_offset_seconds",
        "Seconds by which the database's clock is ahead of a host's, as measured by workers, web processes and beat.",
        "host",
        "who",
    )
    worst: dict[tuple[str, str], float] = {}
    for clock in clock_skew.all_clocks():
        key = (clock.host, clock.who)
        worst[key] = max(worst.get(key, 0.0), clock.offset, key=abs)
    for (host, who), seconds in worst.items():
        offset.add_metric([host, who], seconds)
    return [offset]


@register("pause_queue")
def _pause_queue() -> Iterable[Metric]:
    count = gauge("slackwater_pause_queue_entries", "Entries of the pause queue, whatever they wait for.", "priority")
    oldest = gauge(
        "slackwater_pause_queue_oldest_age_seconds",
        "Age of the oldest entry; 0 if there is none.",
        "priority",
    )
    polled = gauge("slackwater_poll_age_seconds", "Seconds since the pause queue was last polled.")
    stuck_now = gauge(
        "slackwater_pause_queue_stuck", "Parked messages that no worker accepts, by what is wrong with them.", "problem"
    )
    for problem, entries in stuck.counts().items():
        stuck_now.add_metric([problem], entries)
    without_worker = gauge(
        "slackwater_queue_unserved", "1 for each queue in which work waits and that no live worker serves.", "queue"
    )
    for queue in unserved.every():
        without_worker.add_metric([queue], 1)
    expiring = gauge(
        "slackwater_pause_queue_chords_expiring",
        "Parked members of chords and groups that have waited so long that results of other members may soon expire.",
    )
    expiring.add_metric([], chord_results.count_expiring())
    found = {priority: (entries, age) for priority, entries, age in rows_of(QUEUE)}
    for priority in range(1, 6):
        entries, age = found.get(priority, (0, 0.0))
        count.add_metric([str(priority)], entries)
        oldest.add_metric([str(priority)], age)
    for (age,) in rows_of(POLL):
        polled.add_metric([], age)
    return count, oldest, polled, stuck_now, without_worker, expiring


@register("waiting")
def _waiting() -> Iterable[Metric]:
    count = gauge(
        "slackwater_waiting",
        "Waiting runs and parked tasks, by the first reason why they wait, as counted within the last minutes.",
        "work",
        "reason",
    )
    for (work, reason), number in waiting.latest().items():
        count.add_metric([work, reason], number)
    return [count]


@register("runnable", reads_database=False)
def _runnable() -> Iterable[Metric]:
    """Outside a transaction, since the broker is asked; without samples while it cannot say."""
    count = gauge(
        "slackwater_runnable",
        "Work that another worker of the queue could start now, for autoscalers. Absent while the broker is away.",
        "queue",
    )
    try:
        found = runnable.by_queue()
    except BrokerAway:
        found = {}
    for queue, number in found.items():
        count.add_metric([queue], number)
    return [count]


@register("nodes")
def _nodes() -> Iterable[Metric]:
    told = {
        name: gauge(f"slackwater_node_{name}", help, "node")
        for name, help in (
            ("online", "1 if the node was sampled lately."),
            ("consuming", "1 if the workers of the node take new work."),
            ("saturated", "1 if the node takes no new work, as too little of it is free."),
            ("held", "1 if a hold keeps new work from the node."),
            ("sample_age_seconds", "Seconds since the node was last sampled; 0 while it is live."),
            ("cores", "Cores of the node that our processes may use."),
            ("foreign_cores", "Cores that other processes use or want."),
            ("own_cores", "Cores that our processes use."),
            ("free_cores", "Cores less foreign use, less what our work declared; below 0 if contended."),
            ("free_ratio", "Free share for work that needs one core, 0 to 1."),
            ("pause_below_ratio", "Free share below which the node takes no new work, 0 to 1."),
            ("memory_bytes", "Memory of the node that our processes may use."),
            ("free_memory_bytes", "Free memory of the node, as its sensor reports it."),
        )
    }
    of_gpu = {
        name: gauge(f"slackwater_gpu_{name}", help, "node", "gpu")
        for name, help in (
            ("usable", "1 if the GPU takes new work; 0 if it is lost or has errors, or its driver is silent."),
            ("memory_bytes", "Memory of the GPU."),
            ("free_memory_bytes", "Free memory of the GPU, as its driver reports it."),
            ("own_memory_bytes", "Memory of the GPU that our processes occupy."),
            ("utilisation_ratio", "How busy the GPU is with all its users, 0 to 1."),
            ("temperature_celsius", "Temperature of the GPU."),
        )
    }
    saturated = set(_saturated())
    for node in shown():
        name = node["id"]
        values = {
            "online": node["is_online"],
            "consuming": node["is_consuming"],
            "saturated": name in saturated,
            "held": node["held"] is not None,
            "sample_age_seconds": node["age_seconds"],
            "cores": node["cores"],
            "foreign_cores": node["foreign_cores"],
            "own_cores": node["own_cores"],
            "free_cores": node["room_cores"],
            "free_ratio": node["free_share"],
            "pause_below_ratio": node["pause_below"],
            "memory_bytes": node["memory_mib"] * MIB,
            "free_memory_bytes": node["free_memory_mib"] * MIB,
        }
        _add(told, [name], values)
        for gpu in node["gpus"]:
            figures = {
                "usable": not gpu["problem"],
                "memory_bytes": gpu["total_mib"] * MIB,
                "free_memory_bytes": None if gpu["free_mib"] is None else gpu["free_mib"] * MIB,
                "own_memory_bytes": gpu["own_mib"] * MIB,
                "utilisation_ratio": gpu["utilisation"],
                "temperature_celsius": gpu["temperature_c"],
            }
            _add(of_gpu, [name, gpu["uuid"] or str(gpu["index"])], figures)
    return [*told.values(), *of_gpu.values()]


def _saturated() -> Iterable[str]:
    seen = WorkerNode.objects.seen_within(nodes.REMEMBERED).filter(policy_state__is_saturated=True)
    return seen.values_list("name", flat=True)


def _add(families: dict[str, Any], labels: list[str], values: dict[str, Any]) -> None:
    """A sample for each value that is known."""
    for name, value in values.items():
        if value is not None:
            families[name].add_metric(labels, float(value))


@register("tallies")
def _tallies() -> Iterator[Metric]:
    rows: dict[str, list[tuple[dict[str, str], float]]] = {}
    degraded = gauge("slackwater_gate_degraded", "1 if a layer of the gate failed within a minute.", "layer")
    for name, labels, value, age in rows_of(TALLIES):
        rows.setdefault(name, []).append((json.loads(labels) if labels else {}, value))
        if name == metrics.DEGRADED.name:
            degraded.add_metric([json.loads(labels)["layer"]], float(age <= DEGRADED_SECONDS))
    yield degraded
    for metric in metrics.catalogue.values():
        if isinstance(metric, metrics.Counter):
            yield _counter(metric, rows.get(metric.name, []))
        else:
            yield _histogram(metric, rows.get(f"{metric.name}_sum", []), rows.get(f"{metric.name}_bucket", []))


def _counter(metric: metrics.Counter, rows: list[tuple[dict[str, str], float]]) -> Metric:
    family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=list(metric.labels))
    known = [(labels, value) for labels, value in rows if labels.keys() == set(metric.labels)]
    for labels, value in known if known or metric.labels else [({}, 0.0)]:
        family.add_metric([labels[name] for name in metric.labels], value)
    return family


def _histogram(
    metric: metrics.Histogram, sums: list[tuple[dict[str, str], float]], buckets: list[tuple[dict[str, str], float]]
) -> Metric:
    """Rows hold what fell between two bounds; a bound of another version counts for the next one that is known."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=list(metric.labels))
    bounds = [*metric.buckets, float("inf")]
    counts: dict[tuple[str, ...], list[float]] = {} if metric.labels else {(): [0.0] * len(bounds)}
    for labels, value in buckets:
        if labels.keys() == {*metric.labels, "le"}:
            key = tuple(labels[name] for name in metric.labels)
            place = next(index for index, bound in enumerate(bounds) if float(labels["le"]) <= bound)
            counts.setdefault(key, [0.0] * len(bounds))[place] += value
    totals = {tuple(labels[name] for name in metric.labels): value for labels, value in sums if _fits(metric, labels)}
    for key, found in counts.items():
        running, cumulative = 0.0, []
        for bound, value in zip(bounds, found, strict=True):
            running += value
            cumulative.append(("+Inf" if bound == float("inf") else f"{bound:g}", running))
        family.add_metric(list(key), cumulative, totals.get(key, 0.0))
    return family


def _fits(metric: metrics.Histogram, labels: dict[str, str]) -> bool:
    return labels.keys() == set(metric.labels)
