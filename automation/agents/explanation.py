"""Why an agent gets no work: it is disabled or held, its node has no room, or nothing that it may take is due."""

from __future__ import annotations

from django.db import transaction

from automation import gate
from automation.agents import claiming
from automation.agents.registry import silent_since
from automation.dispatch import admission
from automation.errors import NoRoom
from automation.gate import installed_code
from automation.models import Agent, AutomationRun, Lifecycle, StageRun
from automation.pipeline import definition
from automation.pipeline.params import AGENT
from automation.reports.explanation import of_run
from pause_manager import fleet, nodes, times
from pause_manager.actor import SYSTEM
from pause_manager.holds import wording
from pause_manager.models import Hold
from pause_manager.nodes import watching
from pause_manager.reasons import Explanation, Reason, ReasonCode

DISABLED, NO_WORK, SILENT = ReasonCode.DISABLED, ReasonCode.NO_WORK, ReasonCode.SILENT
MOST_RUNS = 3


def explain(agent: Agent) -> Explanation:
    """Every reason why a claim of ``agent`` would give it nothing now; it claims nothing.

    An agent is in no line; the place is that of the run whose work it would get.
    """
    reasons = [*_of_itself(agent), *_of_holds(agent)]
    candidates = list(claiming.candidates(agent))
    if candidates:
        return Explanation((*reasons, *_of_room(agent, candidates)))
    of_runs, run = _of_runs(agent)
    if run is None:
        return Explanation((*reasons, *of_runs))
    theirs = of_run(run)
    is_alone = not any(reason.keeps for reason in reasons)
    return Explanation((*reasons, *of_runs), theirs.position, theirs.expected_start if is_alone else None)


def _of_itself(agent: Agent) -> list[Reason]:
    if not agent.is_enabled:
        return [Reason(DISABLED, "It is disabled.", None, SYSTEM.name, "it is enabled in the admin")]
    since = silent_since(agent)
    if since is None:
        return []
    lifted = "it asks: is it running, with the right address and token?"
    when = f"It last called at {times.written(since)}" if agent.last_seen_at else "It has never called"
    return [Reason(SILENT, f"{when}.", since, SYSTEM.name, lifted, keeps=False)]


def _of_holds(agent: Agent) -> list[Reason]:
    held = Hold.objects.covering(["fleet", f"node:{agent.node}"]).order_by("created_at")
    reasons = [wording.reason_of(hold) for hold in held]
    if fleet.state().is_paused and not any(reason.code == ReasonCode.FLEET for reason in reasons):
        sentence = "The state of the fleet switch cannot be read, and counts as paused."
        lifted = "it can be read again; see the log and /readyz"
        reasons.insert(0, Reason(ReasonCode.UNREADABLE, sentence, None, SYSTEM.name, lifted))
    return reasons


def _of_room(agent: Agent, candidates: list[StageRun]) -> list[Reason]:
    if not watching.is_watched():
        return []
    sample = nodes.latest(agent.node)
    first = ""
    for stage_run in candidates:
        if stage_run.run.ignores_capacity:
            return []
        needs = definition.of(stage_run).needs
        try:
            # What is admitted here is given back: this is a question.
            with transaction.atomic():
                admission.room_here(agent.node, needs, stage_run.run.pipeline, sample=sample, run_id=stage_run.run_id)
                transaction.set_rollback(True)
            return []
        except NoRoom as full:
            first = first or str(full)
    return [
        Reason(ReasonCode.CAPACITY, f"Its node has no room: {first}", None, "capacity", "there is room on its node")
    ]


def _of_runs(agent: Agent) -> tuple[list[Reason], AutomationRun | None]:
    """Nothing is due for it: what keeps the first run that it may work for, and that run."""
    runs = AutomationRun.objects.unfinished().filter(
        account=agent.account_id,
        pipeline__in=installed_code.aliases(agent.pipelines),
        start_requested_at__isnull=False,
    )
    runs = runs if agent.site_id is None else runs.filter(site=agent.site_id)
    lifted = f"a run of {' or '.join(agent.pipelines)} has work for agents"
    for run in runs.order_by("priority", "created_at")[:MOST_RUNS]:
        reason = next((one for one in gate.explain(run) if one.keeps), None)
        if reason is not None:
            why = f"Run {str(run.pk)[:8]} ({run.pipeline}) waits: {reason.sentence}"
            figures = {"run": str(run.pk)}
            return [Reason(NO_WORK, why, reason.since, reason.actor, reason.lifted_by, figures=figures)], run
        running = run.stages.filter(lifecycle=Lifecycle.RUNNING)
        if any(definition.of(stage).interface == AGENT for stage in running):
            return [_no_work("Every slice of it that is due is leased.", lifted)], None
    return [_no_work(f"No stage for agents of {' or '.join(agent.pipelines)} is running.", lifted)], None


def _no_work(sentence: str, lifted: str) -> Reason:
    return Reason(NO_WORK, sentence, None, SYSTEM.name, lifted)
