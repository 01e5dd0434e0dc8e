"""What is asked: each page with its filters and their combinations, its first page, one in the middle, the last."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

from benchmarks.console.work import LARGE, LONG_RUN, SMALL

STATUSES = ("", "active", "running", "held", "waiting", "completed", "completed_with_failures", "failed", "cancelled")
CAUSES = ("operator", "freeze", "needs_input", "budget", "capacity", "window", "throttled", "dependency", "lane")
SPANS = ("hour", "day", "week", "month")
SITES = {"operator": "site-500", LARGE: "site-3", SMALL: "site-41"}


def _runs(who: str) -> Iterator[str]:
    site = SITES[who]
    yield from (f"status={status}" for status in STATUSES)
    yield from (f"site={site}&status={status}" for status in STATUSES)
    yield from (f"pipeline=drill&status={status}" for status in STATUSES)
    yield from (f"site={site}&pipeline=content&status={status}" for status in STATUSES)
    yield from (f"cause={cause}" for cause in CAUSES)
    yield from (f"cause={cause}&pipeline=content" for cause in ("operator", "lane", "capacity"))
    yield from (f"cause={cause}&site={site}&status=waiting" for cause in ("operator", "lane", "capacity"))
    yield from (f"lane={lane}&status={status}" for lane in (site, "site-7") for status in ("", "waiting", "held"))
    yield from (f"q={text}" for text in ("drill", site, "0a1b", "nothing-of-it"))
    yield f"q=drill&status=failed&site={site}"


def _places() -> Iterator[tuple[str, str]]:
    """The first run of pages in the middle and at the end, by the database."""
    from django.db import connection

    with connection.cursor() as cursor:
        for where in ("middle", "last"):
            share = {"middle": 0.5, "last": 0.999}[where]
            cursor.execute(
                "SELECT created_at, id FROM automation_automationrun WHERE created_at <= (SELECT max(created_at) "
                "- (max(created_at) - min(created_at)) * %s FROM automation_automationrun) "
                "ORDER BY created_at DESC LIMIT 1",
                [share],
            )
            at, pk = cursor.fetchone()
            yield where, f"{at.isoformat()}_{pk}"


def _value(statement: str) -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement)
        return str(cursor.fetchone()[0])


def for_user(who: str) -> Iterator[tuple[str, str]]:
    """Labels and paths; those that ``who`` may open."""
    yield "overview", "/"
    for query in _runs(who):
        yield f"runs {query}", f"/runs/?{query}"
    places = dict(_places())
    for where, before in places.items():
        for status in ("", "completed", "failed", "completed_with_failures", "active"):
            yield f"runs {status}, {where} page", f"/runs/?{urlencode({'status': status, 'before': before})}"
        query = urlencode({"site": SITES[who], "before": before})
        yield f"runs of a site, {where} page", f"/runs/?{query}"
    since, until = (places[where].partition("_")[0] for where in ("last", "middle"))
    for status in ("", "failed", "waiting"):
        yield f"runs {status} of a range", f"/runs/?{urlencode({'status': status, 'from': since, 'to': until})}"
    for span in SPANS:
        yield f"runs, chart of a {span}", f"/runs/?span={span}"
    yield "failures", "/failures/"
    yield "failures of a pipeline", "/failures/?pipeline=content"
    yield "failures of no pipeline", "/failures/?pipeline=nothing"
    yield "schedules", "/schedules/"
    yield "lanes", "/lanes/"
    yield "lane with a long line", "/lanes/?lane=site-7"
    yield "resources", "/resources/"
    yield "fleet", "/fleet/"
    yield "windows", "/windows/"
    yield from _queue()
    yield from _audit()
    yield from _search(who)
    if who != SMALL:
        run = _value(f"SELECT {LONG_RUN}")
        ended = _value(
            "SELECT run_id FROM automation_stagerun WHERE id = (SELECT max(stage_run_id) FROM automation_itemfailure)"
        )
        yield "run of 10,000 slices", f"/runs/{run}/"
        if who == "operator":
            yield "run that failed", f"/runs/{ended}/"
    if who in ("operator", LARGE):
        yield from _credits()
    if who == "operator":
        yield from _operator()


def _queue() -> Iterator[tuple[str, str]]:
    for show in ("", "stuck", "sent", "dropped", "expired", "revoked"):
        yield f"pause queue {show}", f"/pause-queue/?show={show}"
    deep = _value(
        "SELECT priority || '_' || to_char(paused_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ') || '_' || id "
        "|| '_50000' FROM pause_manager_pausequeueentry WHERE finished_at IS NULL AND priority = 3 "
        "ORDER BY paused_at LIMIT 1 OFFSET 200"
    )
    yield "pause queue, middle page", f"/pause-queue/?{urlencode({'after': deep})}"


def _audit() -> Iterator[tuple[str, str]]:
    scope = "run:" + _value("SELECT id FROM automation_automationrun WHERE lifecycle = 'failed' LIMIT 1")
    queries = [
        {},
        {"action": "complete"},
        {"action": "node_saturated"},
        {"action": "nothing"},
        {"actor": "person-7"},
        {"actor": "nobody"},
        {"channel": "console"},
        {"channel": "cli"},
        {"scope": scope},
        {"scope": "queue:queue-3"},
        {"text": "upgrade 7"},
        {"text": "not there"},
        {"hours": "1"},
        {"hours": "720"},
        {"since": "2020-01-01", "until": "2020-02-01"},
        {"action": "complete", "actor": "person-7"},
        {"action": "hold_placed", "actor": "capacity"},
        {"action": "complete", "channel": "cli"},
        {"actor": "fleet", "channel": "console"},
        {"action": "create", "actor": "person-7", "channel": "schedule", "hours": "720"},
        {"action": "complete", "text": "not there", "hours": "720"},
        {"scope": scope, "action": "complete", "actor": "nobody"},
    ]
    for query in queries:
        label = ", ".join(f"{name} {value[:20]}" for name, value in query.items())
        yield f"audit {label}", f"/audit/?{urlencode(query)}"
        yield f"audit export {label}", f"/audit/export/?{urlencode(query)}"
    old = _value(
        "SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00') || '_' || id "
        "FROM pause_manager_controlevent WHERE id = (SELECT (min(id) + max(id)) / 2 "
        "FROM pause_manager_controlevent)"
    )
    yield "audit, middle page", f"/audit/?{urlencode({'before': old})}"
    yield "audit export jsonl", "/audit/export/?type=jsonl"


def _search(who: str) -> Iterator[tuple[str, str]]:
    for text in ("a", "drill", "dr", SITES[who], "site", "0a1b2c", "node-1", "zzz", "%"):
        yield f"search {text}", f"/find/?{urlencode({'q': text})}"


def _credits() -> Iterator[tuple[str, str]]:
    account = _value(f"SELECT id FROM automation_account WHERE name = '{LARGE}'")
    yield "credits", f"/credits/?account={account}"
    for by in ("site", "stage", "run"):
        yield f"credits by {by}", f"/credits/?account={account}&by={by}"
    yield "credits of one site", f"/credits/?account={account}&site=site-3&by=run"
    for kind in ("charge", "top_up"):
        yield f"credits, {kind}", f"/credits/?account={account}&kind={kind}"
    for by in ("month", "run"):
        yield f"credits CSV by {by}", f"/credits/usage/?account={account}&by={by}"


def _operator() -> Iterator[tuple[str, str]]:
    run = _value(f"SELECT {LONG_RUN}")
    schedule = _value("SELECT max(id) FROM automation_schedule")
    yield "start a run", "/runs/new/"
    for query in ("pipeline=drill", "site=site-7", f"again={run}", "pipeline=drill&site=site-3"):
        yield f"start a run, {query.partition('=')[0]}", f"/runs/new/?{query}"
    yield "a schedule", f"/schedules/{schedule}/"
    yield "settings", "/settings/"
    yield "tasks", "/tasks/"
    for path in (
        "automationrun",
        "automationrun/?q=drill",
        "automationrun/?lifecycle=failed",
        "stagerun",
        "workitem",
        "workslice",
        "itemfailure",
        "schedule",
        "scheduleoccurrence",
    ):
        yield (
            f"admin {path}",
            f"/admin/automation/{path}".replace("/?", "?").replace("?", "/?") + ("" if "?" in path else "/"),
        )
    for path in ("controlevent", "hold", "pausequeueentry"):
        yield f"admin {path}", f"/admin/pause_manager/{path}/"
