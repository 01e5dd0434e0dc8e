"""Who gets what at every URL of the system: one row for each URL and method. A URL without a row fails the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.support.api_users import AUTOMATION

EVERY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Access(NamedTuple):
    """The status that each caller gets."""

    anonymous: int
    """Nobody."""
    member: int
    """A member of the account without any permission."""
    viewer: int
    """A member of the group Viewers: who may view runs and what their items contain."""
    blind: int
    """A member who may view runs, but not what their items contain."""
    operator: int
    """A member of the group Operators: who may operate runs as well."""
    stranger: int
    """The same, in another account."""
    fleet: int
    """One of the group Fleet operators, who belongs to no account."""
    superuser: int
    agent: int
    """A remote agent by its token."""


def everybody(status: int = 200) -> Access:
    return Access(*[status] * len(Access._fields))


def views_a_run(status: int = 200) -> Access:
    return Access(401, 403, status, status, status, 404, 403, status, 403)


def lists_runs(status: int = 200) -> Access:
    return Access(401, 403, status, status, status, status, 403, status, 403)


def changes_a_run(status: int = 200) -> Access:
    return Access(401, 403, 403, 403, status, 404, 403, status, 403)


def deletes_a_run(status: int = 204) -> Access:
    return Access(401, 403, 403, 403, 403, 403, 403, status, 403)


def sees_the_fleet(status: int = 200) -> Access:
    return Access(401, status, status, status, status, status, status, status, 403)


def changes_the_fleet(status: int = 200) -> Access:
    return Access(401, 403, 403, 403, 403, 403, status, status, 403)


def works_as_agent(status: int) -> Access:
    return Access(401, 403, 403, 403, 403, 403, 403, 403, status)


VIEWS_A_PAGE = Access(302, 403, 200, 200, 200, 200, 403, 200, 302)
VIEWS_A_PAGE_OF_A_RUN = VIEWS_A_PAGE._replace(stranger=404)
WHO_VIEWS = ("viewer", "blind", "operator", "stranger", "superuser")
OPENS_A_STREAM = VIEWS_A_PAGE._replace(anonymous=403, agent=403)
OPERATES_BY_PAGE = Access(302, 403, 403, 403, 200, 200, 403, 200, 302)
VIEWS_A_FLEET_PAGE = Access(302, 200, 200, 200, 200, 200, 200, 200, 302)
SEES_CREDITS_BY_PAGE = Access(302, 403, 403, 403, 403, 403, 403, 200, 302)
OPERATES_THE_FLEET_BY_PAGE = Access(302, 403, 403, 403, 403, 403, 200, 200, 302)
SIGNS_IN = Access(200, 302, 302, 302, 302, 302, 302, 302, 200)


@dataclass(frozen=True)
class Row:
    """``url`` as the resolver has it; what stands in angle brackets is filled in from the world."""

    method: str
    url: str
    access: Access
    query: str = ""
    body: Any = None

    def __str__(self) -> str:
        return f"{self.method} /{self.url}{self.query}"


def page_rows(url: str, access: Access) -> list[Row]:
    """A page of the console: whoever sees it may post to it, and is told when no action is named."""
    posts = Access(*(400 if status == 200 else status for status in access))
    return [Row("GET", url, access), Row("POST", url, posts)]


_HERE = AUTOMATION.lstrip("/")
_RUN = f"{_HERE}runs/<str:run_id>/"
_ENTRY = "api/v1/pause-queue/<str:entry_id>/"
_JOBS = "api/queue/jobs/"
_PAGE = "runs/<uuid:run_id>/"
_NEW = {"pipeline": "drill", "site": "ours", "params": {"items": 1}}
_PAUSE = {"action": "pause", "mode": "drain", "reason": "upgrade", "confirmation": "yes"}
_QUEUE = {"scopes": ["queue:stages"]}
_HELD = {"token": 1}
_OVERRIDE = {"kind": "node_threshold", "target": "nowhere", "value": 0.4, "expires_in_seconds": 60}
_NOBODY = "00000000-0000-0000-0000-000000000000"
_DEPENDENCY = {"after": _NOBODY, "reason": "not needed"}

AUTOMATION_ROWS = [
    Row("GET", f"{_HERE}runs/", lists_runs()),
    Row("POST", f"{_HERE}runs/", changes_a_run(201), body=_NEW),
    *(Row("GET", f"{_RUN}{part}", views_a_run()) for part in ("", "progress/", "stages/", "explain/")),
    *(Row("GET", f"{_RUN}{part}/", views_a_run()) for part in ("failures", "events")),
    # It is not final, so it cannot be deleted: who may, is told so.
    Row("DELETE", _RUN, deletes_a_run(409), "?confirmation=yes"),
    Row("PATCH", _RUN, changes_a_run(), body={"priority": 2}),
    Row("GET", f"{_RUN}items/", views_a_run(), "?stage=input"),
    # The run is running and not paused, so these three do not apply to it: who may, is told so.
    *(Row("POST", f"{_RUN}{verb}/", changes_a_run(409)) for verb in ("start", "resume", "retry-failed")),
    *(Row("POST", f"{_RUN}{verb}/", changes_a_run()) for verb in ("pause", "cancel")),
    # It has started, and waits for nothing: who may, is told so.
    Row("POST", f"{_RUN}dependencies/", changes_a_run(409), body=_DEPENDENCY | {"after": [_NOBODY]}),
    Row("POST", f"{_RUN}dependencies/release/", changes_a_run(409), body=_DEPENDENCY),
    Row("POST", f"{_RUN}answer/", changes_a_run(409), body={"answer": "yes"}),
    Row("GET", f"{_RUN}questions/", views_a_run()),
    *(
        Row("POST", f"{_HERE}runs/{verb}/", changes_a_run(), body={"filter": {"site": "ours"}})
        for verb in ("pause", "resume", "cancel")
    ),
    *(
        Row("POST", f"api/v1/serial-gate/{verb}", changes_a_run(status), "?work_item=<str:run_id>")
        for verb, status in (("pause", 200), ("resume", 409))
    ),
    Row("POST", "api/v1/serial-gate/freeze", changes_a_run(), "?lane=ours", body={"reason": "a check"}),
    Row("POST", "api/v1/serial-gate/unfreeze", changes_a_run(409), "?lane=ours"),
    Row("GET", f"{_HERE}pipelines/", lists_runs()),
    Row("GET", f"{_HERE}pipelines/<str:pipeline>/explain/", views_a_run(), "?site=ours"),
    Row("GET", f"{_HERE}agents/<str:agent>/explain/", views_a_run()),
    *(Row("GET", f"{_HERE}{name}/", lists_runs()) for name in ("current_run", "current_processing", "history")),
    *(
        Row("GET", f"{_HERE}{name}/", views_a_run(), "?site_id=ours")
        for name in ("current_run", "current_processing", "history")
    ),
    *(Row("GET", f"{_HERE}{name}/", views_a_run(), "?run_id=<str:run_id>") for name in ("current_processing", "logs")),
    *(
        Row("POST", f"{_HERE}{verb}/", changes_a_run(status), target)
        for verb, status in (("pause", 200), ("resume", 409), ("cancel", 200))
        for target in ("?site_id=ours", "?run_id=<str:run_id>")
    ),
    *(Row(method, f"{_HERE}<path:rest>/", everybody(404)) for method in EVERY_METHOD),
]

_SCHEDULE = "api/v1/schedules/<str:schedule_id>/"
_NIGHTLY = {"site": "ours", "name": "new", "pipeline": "drill", "kind": "daily", "at": "03:00"}

_CONFIG = {"pipeline": "drill", "frequency": "daily", "scheduled_time": "03:00"}

SCHEDULE_ROWS = [
    *(Row("GET", f"{_HERE}{name}/", views_a_run(), "?site_id=ours") for name in ("config", "pipeline_overview")),
    Row("GET", f"{_HERE}estimate/", views_a_run(), "?site_id=ours&pipeline=drill"),
    Row("PUT", f"{_HERE}config/", changes_a_run(), "?site_id=ours", body=_CONFIG),
    Row("GET", "api/v1/schedules/", lists_runs()),
    Row("POST", "api/v1/schedules/", changes_a_run(201), body=_NIGHTLY),
    *(Row("GET", f"{_SCHEDULE}{part}", views_a_run()) for part in ("", "next/", "occurrences/")),
    Row("PATCH", _SCHEDULE, changes_a_run(), body={"priority": 1}),
    Row("DELETE", _SCHEDULE, changes_a_run(204)),
    *(Row("POST", f"{_SCHEDULE}{verb}/", changes_a_run()) for verb in ("skip", "pause")),
    # It is not paused, and its site has an unfinished run: who may, is told so.
    *(Row("POST", f"{_SCHEDULE}{verb}/", changes_a_run(409)) for verb in ("resume", "run_now")),
]

_WINDOW = "api/v1/pause-windows/<str:window>/"
_NIGHT = {"name": "new", "scope": "queue:gpu", "kind": "daily", "at": "22:00", "duration_minutes": 480, "reason": "x"}

FLEET_ROWS = [
    Row("GET", "api/system/worker-pause", sees_the_fleet()),
    Row("POST", "api/system/worker-pause", changes_the_fleet(), body=_PAUSE),
    Row("GET", "api/v1/health/", sees_the_fleet()),
    Row("GET", "api/v1/holds/", sees_the_fleet()),
    Row("POST", "api/v1/holds/", changes_the_fleet(), body=_QUEUE),
    Row("POST", "api/v1/holds/release/", changes_the_fleet(), body=_QUEUE),
    Row("GET", "api/v1/pause-windows/", sees_the_fleet()),
    Row("POST", "api/v1/pause-windows/", changes_the_fleet(201), body=_NIGHT),
    Row("GET", _WINDOW, sees_the_fleet()),
    Row("PATCH", _WINDOW, changes_the_fleet(), body={"mode": "quiesce"}),
    Row("DELETE", _WINDOW, changes_the_fleet(204)),
    Row("POST", f"{_WINDOW}skip/", changes_the_fleet()),
    Row("GET", "api/v1/overrides/", sees_the_fleet()),
    # Nobody has ever heard of the node, and of no override with such a number.
    Row("POST", "api/v1/overrides/", changes_the_fleet(404), body=_OVERRIDE),
    Row("DELETE", "api/v1/overrides/<str:override_id>/", changes_the_fleet(404)),
    Row("GET", "api/v1/waiting/", sees_the_fleet()),
    Row("POST", "api/v1/nodes/<str:node>/threshold/", changes_the_fleet(404), body={"pause_below": 0.4}),
    Row("GET", "api/v1/resources/", sees_the_fleet()),
    Row("GET", "api/v1/resources/<str:resource>/", sees_the_fleet(404)),
    Row("PATCH", "api/v1/resources/<str:resource>/", changes_the_fleet(), body={"max_at_once": 4}),
    Row("GET", "api/v1/resources/<str:resource>/line/", sees_the_fleet(404)),
    Row("POST", "api/v1/resources/<str:resource>/probe/", changes_the_fleet(404), body={"reason": "it is back"}),
    Row("GET", "api/v1/capacity/", lists_runs()),
    Row("GET", "api/v1/agents/available-capacity", lists_runs()),
    Row("GET", "api/v1/agents/<str:agent_id>/capacity", lists_runs()),
    Row("GET", "api/v1/pause-queue/", lists_runs()),
    Row("GET", f"{_ENTRY}explain/", views_a_run()),
    Row("POST", f"{_ENTRY}force-resume/", changes_a_run()),
    Row("POST", f"{_ENTRY}force-pause/", changes_a_run()),
    # A run is no message: whoever sees it is told so.
    Row("POST", f"{_ENTRY}drop/", changes_a_run(400)),
    Row("POST", f"{_ENTRY}answer/", changes_a_run(400), body={"answer": "retry"}),
    Row("POST", f"{_ENTRY}reroute/", changes_a_run(400), body={"queue": "elsewhere"}),
    Row(
        "POST",
        "api/v1/pause-queue/rename/",
        changes_a_run()._replace(stranger=200),
        body={"old": "shop.old", "new": "shop.new"},
    ),
    # Members see the events of runs of their accounts.
    Row("GET", "api/v1/audit/", lists_runs()),
    Row("GET", "api/v1/audit/export/", lists_runs()),
]

# A lease that is the agent's own is `test_jobs`' business: here the token is wrong, so who is let in hears of that.
AGENT_ROWS = [
    Row("POST", f"{_JOBS}claim", works_as_agent(200), body={}),
    Row("GET", f"{_JOBS}<str:job_id>/items", works_as_agent(409), "?token=1"),
    Row("POST", f"{_JOBS}<str:job_id>/heartbeat", works_as_agent(409), body=_HELD),
    Row("POST", f"{_JOBS}<str:job_id>/checkpoint", works_as_agent(409), body={**_HELD, "cursor": "1"}),
    Row("POST", f"{_JOBS}<str:job_id>/complete", works_as_agent(409), body={**_HELD, "cursor": "1"}),
    Row("POST", f"{_JOBS}<str:job_id>/ask", works_as_agent(409), body={**_HELD, "question": "Publish?"}),
    Row("POST", f"{_JOBS}<str:job_id>/freeze", works_as_agent(409), body={**_HELD, "reason": "the totals differ"}),
    Row("POST", f"{_JOBS}<str:job_id>/fail", works_as_agent(409), body={**_HELD, "error": "broken"}),
]

CONSOLE_ROWS = [
    *page_rows("", VIEWS_A_PAGE),
    *page_rows("runs/", VIEWS_A_PAGE),
    *page_rows("failures/", VIEWS_A_PAGE),
    *page_rows("lanes/", VIEWS_A_PAGE),
    *page_rows("schedules/", VIEWS_A_PAGE),
    Row("GET", "schedules/new/", OPERATES_BY_PAGE),
    Row("POST", "schedules/new/", OPERATES_BY_PAGE._replace(operator=422, stranger=422, superuser=422)),
    Row("POST", "schedules/preview/", OPERATES_BY_PAGE),
    Row("GET", "schedules/<int:schedule_id>/", OPERATES_BY_PAGE._replace(stranger=404)),
    Row("POST", "schedules/<int:schedule_id>/", OPERATES_BY_PAGE._replace(operator=422, stranger=404, superuser=422)),
    *page_rows("fleet/", VIEWS_A_FLEET_PAGE),
    *page_rows("windows/", VIEWS_A_FLEET_PAGE),
    *page_rows("audit/", VIEWS_A_PAGE),
    *page_rows("settings/", OPERATES_THE_FLEET_BY_PAGE),
    *page_rows("credits/", SEES_CREDITS_BY_PAGE),
    Row("GET", "credits/usage/", SEES_CREDITS_BY_PAGE, "?account=<int:account_id>"),
    Row("GET", "audit/export/", VIEWS_A_PAGE),
    *page_rows("pause-queue/", VIEWS_A_PAGE),
    *page_rows("resources/", VIEWS_A_FLEET_PAGE),
    *page_rows("tasks/", OPERATES_THE_FLEET_BY_PAGE),
    Row("GET", "find/", VIEWS_A_FLEET_PAGE, "?q=fleet"),
    Row("GET", "events/", OPENS_A_STREAM, "?topic=runs"),
    # What a stranger names is gone, in a stream of their own.
    Row("GET", "events/", OPENS_A_STREAM, "?topic=run/<uuid:run_id>"),
    Row(
        "GET",
        "events/",
        VIEWS_A_FLEET_PAGE._replace(**dict.fromkeys((*WHO_VIEWS, "member", "fleet"), 400), anonymous=403, agent=403),
        "?topic=nothing",
    ),
    Row("GET", "runs/new/", OPERATES_BY_PAGE),
    # An empty form is shown again.
    Row("POST", "runs/new/", OPERATES_BY_PAGE._replace(operator=422, stranger=422, superuser=422)),
    Row("POST", "runs/new/preview/", OPERATES_BY_PAGE),
    Row("GET", _PAGE, VIEWS_A_PAGE_OF_A_RUN),
    Row("POST", f"{_PAGE}control/", OPERATES_BY_PAGE._replace(stranger=404), body={"verb": "pause"}),
    Row("POST", f"{_PAGE}answer/", OPERATES_BY_PAGE._replace(operator=409, stranger=404, superuser=409)),
    Row("GET", f"{_PAGE}files/<path:name>", VIEWS_A_PAGE_OF_A_RUN._replace(blind=403, stranger=404)),
    # Whoever sees the run is sent on to its page.
    Row(
        "GET",
        "runs/<slug:called>/",
        VIEWS_A_PAGE_OF_A_RUN._replace(viewer=302, blind=302, operator=302, superuser=302),
    ),
    *(Row(method, "sign-in/", SIGNS_IN) for method in ("GET", "POST", "PUT")),
    *(Row(method, "sign-in/", SIGNS_IN._replace(anonymous=405, agent=405)) for method in ("PATCH", "DELETE")),
    Row("POST", "sign-out/", everybody(302)),
    *(Row(method, "favicon.ico", everybody(302)) for method in EVERY_METHOD),
]

OTHER_ROWS = [
    Row("GET", "healthz", everybody()),
    Row("GET", "readyz", everybody()),
    Row("GET", "metrics", everybody(401)._replace(superuser=200)),
    # Whoever has a token may ask what there is; who may call which tool is told by the tool, as over REST.
    Row("POST", "mcp", everybody()._replace(anonymous=401), body={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    # What there is to call is no secret: the same document is in the repository.
    Row("GET", "api/schema/", everybody()._replace(agent=403)),
    Row("GET", "api/docs/", everybody()._replace(agent=403)),
]

LANE_ROWS = [
    Row("GET", "api/v1/queue/", lists_runs()),
    Row("GET", "api/v1/lanes/", lists_runs()),
    Row("GET", "api/v1/lanes/<str:lane>/", views_a_run()),
    Row("PATCH", "api/v1/lanes/<str:lane>/", changes_a_run(), body={"width": 2}),
]


def uses_credits(status: int = 200) -> Access:
    """Neither Viewers nor Operators have the permissions of credits."""
    return Access(401, 403, 403, 403, 403, 403, 403, status, 403)


_CREDITS = "api/v1/credits/"
_BOOKING = {"credits": "1", "key": "k", "reason": "x"}
_ORDER = {"credits": "1", "key": "k", "provider": "stripe"}

CREDIT_ROWS = [
    *(
        Row("GET", _CREDITS + path, uses_credits())
        for path in (
            *("usage/chart/", "usage/rows/"),
            *("accounts/", "accounts/<str:account_id>/", "transfers/", "usage/", "prices/", "invoices/", "payments/"),
            *("sites/<str:site_id>/budget/", "runs/<str:run_id>/"),
        )
    ),
    # There is no such invoice.
    Row("GET", f"{_CREDITS}invoices/<str:number>/pdf/", uses_credits(404)),
    Row("PATCH", f"{_CREDITS}accounts/<str:account_id>/", uses_credits(), body={"low_balance": "1"}),
    Row("POST", f"{_CREDITS}accounts/<str:account_id>/top-ups/", uses_credits(), body=_BOOKING),
    # No provider is set up.
    Row("POST", f"{_CREDITS}accounts/<str:account_id>/payments/", uses_credits(404), body=_ORDER),
    Row("POST", "webhooks/payments/<str:provider>/", Access(*(9 * (404,)))),
    Row("POST", f"{_CREDITS}transfers/<str:transfer_id>/corrections/", uses_credits(), body=_BOOKING),
    Row("PATCH", f"{_CREDITS}sites/<str:site_id>/budget/", uses_credits(), body={"monthly": "1"}),
    # Nothing of the run has a price.
    Row("PATCH", f"{_CREDITS}runs/<str:run_id>/", uses_credits(409), body={"limit": "1"}),
]

SECTIONS = {
    "automation": AUTOMATION_ROWS,
    "schedules": SCHEDULE_ROWS,
    "credits": CREDIT_ROWS,
    "lanes": LANE_ROWS,
    "fleet": FLEET_ROWS,
    "agents": AGENT_ROWS,
    "console": CONSOLE_ROWS,
    "other": OTHER_ROWS,
}
GROUPS = ("admin/",)
"""Prefixes with one rule for all that is below them."""
