"""The tools: which REST operation each is, and what an assistant is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automation.api.agents import views as agents
from automation.api.progress import views as progress
from automation.api.runs import views as runs
from automation.api.views import capacity
from pause_manager.api import fleet
from pause_manager.api.http.base import ControlView


@dataclass(frozen=True)
class Tool:
    """One tool. ``operation`` names the REST operation whose schema it has, ``view`` carries that out."""

    name: str
    title: str
    description: str
    view: type[ControlView]
    operation: str
    for_agents: bool = False
    """For agents alone; the others are for users alone."""
    reads: bool = False
    needs_reason: bool = False
    is_destructive: bool = False
    is_idempotent: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Members of the body that the tool stands for."""
    hidden: tuple[str, ...] = ()
    """Members of the body that make no sense for the tool."""
    required: tuple[str, ...] = ()
    """Arguments that the operation requires in this case alone."""


_HELD = "`job_id` and `token` are those of the job that queue.claim answered. "
_WHY = "`reason` is kept in the audit trail: say on whose behalf and why. "

_READS = (
    Tool(
        "runs.list",
        "List runs",
        "List the pipeline runs that you may see, newest first, with their status. Filter by status, site or pipeline. "
        "Where there are more, `next` is the `cursor` of the next page.",
        runs.RunList,
        "list_runs",
        reads=True,
    ),
    Tool(
        "runs.show",
        "Show a run",
        "Show one run: status, times, parameters, who created it, why it failed. See runs.progress for how far it is "
        "and runs.explain for why it does not go on.",
        runs.RunDetail,
        "show_run",
        reads=True,
    ),
    Tool(
        "runs.progress",
        "Show the progress of a run",
        "Show how far a run and each of its stages are: items done, failed and left, rates, estimated time left, and "
        "what is at work now.",
        progress.RunProgress,
        "show_progress",
        reads=True,
    ),
    Tool(
        "runs.explain",
        "Explain why a run waits",
        "List every reason why a run may not go on now (holds of the run, pipeline, queue or fleet, capacity, …), and "
        "what would start if none were left. `may_proceed` is true when nothing keeps it.",
        progress.RunExplanation,
        "explain_run",
        reads=True,
    ),
    Tool(
        "fleet.status",
        "Show the fleet switch",
        "Show whether the whole fleet is paused, what is still at work, whether it is drained (`metrics.isDrained`: "
        "safe to upgrade, once no worker is lagging), which workers have obeyed, and which commands are available now "
        "with their impact.",
        fleet.WorkerPause,
        "show_worker_pause",
        reads=True,
    ),
    Tool(
        "capacity.show",
        "Show the fleet's capacity",
        "Show every node with CPU, memory, GPUs and what is reserved, and whether new work of each stage would have to "
        "wait for room, with the figures that say so.",
        capacity.Capacity,
        "show_capacity",
        reads=True,
    ),
)

_CHANGES = (
    Tool(
        "runs.pause",
        "Pause a run",
        "Pause one run: no further item starts, items at work finish; nothing is lost, and runs.resume undoes it. "
        f"Pausing it again changes nothing. {_WHY}Refused for a run that has ended or is being cancelled.",
        runs.PauseRun,
        "pause_run",
        needs_reason=True,
        is_idempotent=True,
    ),
    Tool(
        "runs.resume",
        "Resume a paused run",
        "Release the operator's hold of one run: it goes on with exactly the items that were left, unless something "
        f"else keeps it (see runs.explain). {_WHY}Refused for a run that no operator has paused.",
        runs.ResumeRun,
        "resume_run",
        needs_reason=True,
    ),
    Tool(
        "runs.cancel",
        "Cancel a run for good",
        "End one run for good; this cannot be undone. Items at work finish, what was made stays, what was not reached "
        f"is never done. Cancelling it again changes nothing. {_WHY}If in doubt, pause it instead.",
        runs.CancelRun,
        "cancel_run",
        needs_reason=True,
        is_destructive=True,
        is_idempotent=True,
    ),
    Tool(
        "fleet.pause",
        "Pause the whole fleet",
        "Pause all workers of everybody, or change the pause. `drain`: what is leased goes on to its end, nothing new "
        "starts; `quiesce`: it stops at its next item. Nothing is lost, and fleet.resume undoes it. `confirmation` is "
        f"what the operator has confirmed, in words: ask before. {_WHY}Refused if it is paused just so already.",
        fleet.WorkerPause,
        "set_worker_pause",
        needs_reason=True,
        is_destructive=True,
        fixed={"action": "pause"},
        hidden=("forceResume",),
        required=("mode", "confirmation"),
    ),
    Tool(
        "fleet.resume",
        "Resume the whole fleet",
        "Let all workers take work again; other holds stay in force. Refused while the fleet is not paused, and while "
        "something is still at work unless `forceResume` is true, which needs a `confirmation` in the operator's "
        f"words: an upgrade that is under way may then meet new work. {_WHY}",
        fleet.WorkerPause,
        "set_worker_pause",
        needs_reason=True,
        is_destructive=True,
        fixed={"action": "resume"},
        hidden=("mode", "deadlineSeconds"),
    ),
)

_QUEUE = (
    Tool(
        "queue.claim",
        "Claim a job",
        "Lease the next job: some items of a stage, with the token that proves the lease. `job` is null if there is "
        "none or while the fleet is paused (`system.workersPaused`), which is no error: ask again later. Then call "
        "queue.heartbeat every `heartbeatSeconds`, hand in with queue.checkpoint, and end with queue.complete.",
        agents.Claim,
        "claim_job",
        for_agents=True,
    ),
    Tool(
        "queue.items",
        "List further items of a job",
        f"List the items of a job after the first ones, if the claim answered `more`. {_HELD}",
        agents.Items,
        "list_job_items",
        for_agents=True,
        reads=True,
    ),
    Tool(
        "queue.heartbeat",
        "Keep a job",
        "Keep the lease of a job, and hear whether to stop. With `stop`, begin no further item: hand in what is done "
        f"with queue.checkpoint and `release`. {_HELD}",
        agents.Heartbeat,
        "heartbeat_job",
        for_agents=True,
        is_idempotent=True,
    ),
    Tool(
        "queue.checkpoint",
        "Hand in a part of a job",
        "Commit the outputs and failures of every item up to `cursor`: all of it or nothing. Sent again, it is not "
        f"committed again. `release` gives the rest of the job back. {_HELD}",
        agents.Checkpoint,
        "checkpoint_job",
        for_agents=True,
        is_idempotent=True,
    ),
    Tool(
        "queue.complete",
        "Complete a job",
        "As queue.checkpoint with the last item (`lastKey`) as `cursor`; refused while items are left. "
        f"The job is over then. {_HELD}",
        agents.Complete,
        "complete_job",
        for_agents=True,
        is_idempotent=True,
    ),
    Tool(
        "queue.fail",
        "Give a job back undone",
        "Give a job back as it was last committed, because of an `error`. It counts against the next item, which is "
        f"given up after three in a row, unless `retryAfter` asks for so many seconds of patience. {_HELD}",
        agents.Fail,
        "fail_job",
        for_agents=True,
        is_destructive=True,
    ),
)

TOOLS = {tool.name: tool for tool in (*_READS, *_CHANGES, *_QUEUE)}
