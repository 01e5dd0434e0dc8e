"""The tools: the REST operation of each, and its description for assistants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automation.api.agents import views as agents
from automation.api.progress import views as progress
from automation.api.runs import questions
from automation.api.runs import views as runs
from automation.api.serial_gate import views as serial_gate
from pause_manager.api import capacity, fleet
from pause_manager.api.http.base import ControlView


@dataclass(frozen=True)
class Tool:
    """One tool. ``operation`` is the id of its REST operation, which defines its schema; ``view`` performs it."""

    name: str
    title: str
    description: str
    view: type[ControlView]
    operation: str
    for_agents: bool = False
    """For agents only; the others are for users only."""
    reads: bool = False
    needs_reason: bool = False
    is_destructive: bool = False
    is_idempotent: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Members of the body that the tool sets itself."""
    hidden: tuple[str, ...] = ()
    """Members of the body that do not apply to the tool."""
    required: tuple[str, ...] = ()
    """Arguments that the operation requires only in this case."""


_HELD = "`job_id` and `token` are those that queue.claim returned. "
_WHY = "`reason` is recorded in the audit trail: say on whose behalf and why. "

_READS = (
    Tool(
        "runs.list",
        "List runs",
        "List the pipeline runs that you can see, newest first, with their status. Filter by status, site or pipeline. "
        "If there are more, `next` is the `cursor` of the next page.",
        runs.RunList,
        "list_runs",
        reads=True,
    ),
    Tool(
        "runs.show",
        "Show a run",
        "Show one run: status, times, parameters, who created it, why it failed. See runs.progress for how far it is "
        "and runs.explain for why it is not running.",
        runs.RunDetail,
        "show_run",
        reads=True,
    ),
    Tool(
        "runs.progress",
        "Show the progress of a run",
        "Show how far a run and each of its stages are: items done, failed and left, rates, estimated time left, and "
        "the items in progress.",
        progress.RunProgress,
        "show_progress",
        reads=True,
    ),
    Tool(
        "runs.explain",
        "Explain why a run waits",
        "List every reason why a run may not proceed now (holds on run, pipeline, queue or fleet, capacity, …), and "
        "what would start without them. `may_proceed` is true if there is none.",
        progress.RunExplanation,
        "explain_run",
        reads=True,
    ),
    Tool(
        "runs.questions",
        "List what a run asks",
        "List the questions of one run, newest first: what its stage asks about which item, the choices, or the error "
        "of an item whose attempts are used up. `state` `open`: those that wait for an answer. See runs.answer.",
        questions.RunQuestions,
        "list_questions",
        reads=True,
    ),
    Tool(
        "fleet.status",
        "Show the fleet switch",
        "Show whether the whole fleet is paused, what is still running, whether it is drained (`metrics.isDrained`: "
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
        "wait for capacity, with the figures behind that.",
        capacity.Capacity,
        "show_capacity",
        reads=True,
    ),
)

_CHANGES = (
    Tool(
        "runs.pause",
        "Pause a run",
        "Pause one run: no further item starts, items in progress finish; nothing is lost, and runs.resume undoes it. "
        f"Pausing it again changes nothing. {_WHY}Refused for a run that has ended or is being cancelled.",
        runs.PauseRun,
        "pause_run",
        needs_reason=True,
        is_idempotent=True,
    ),
    Tool(
        "runs.resume",
        "Resume a paused run",
        "Release the operator's hold on one run: it continues with exactly the items that were left, unless something "
        f"else stops it (see runs.explain). {_WHY}Refused for a run that no operator has paused.",
        runs.ResumeRun,
        "resume_run",
        needs_reason=True,
    ),
    Tool(
        "runs.cancel",
        "Cancel a run for good",
        "End one run for good; this cannot be undone. Items in progress finish, outputs are kept, items not reached "
        f"will not run. Cancelling it again changes nothing. {_WHY}If in doubt, pause it instead.",
        runs.CancelRun,
        "cancel_run",
        needs_reason=True,
        is_destructive=True,
        is_idempotent=True,
    ),
    Tool(
        "runs.answer",
        "Answer what a run asks",
        "Answer an open question of one run (see runs.questions); with the last answer the run continues. Ask a person "
        f"first: the question is meant for one, and `fail` ends the run. {_WHY}Refused if the run asks nothing.",
        questions.AnswerRun,
        "answer_run",
        needs_reason=True,
        is_destructive=True,
    ),
    Tool(
        "lanes.freeze",
        "Freeze a lane",
        "Start nothing of a lane any more, no run and no item, until somebody unfreezes it; items in progress finish. "
        f"Freezing it again changes nothing. {_WHY}",
        serial_gate.Freeze,
        "freeze_lane",
        needs_reason=True,
        is_destructive=True,
        is_idempotent=True,
    ),
    Tool(
        "lanes.unfreeze",
        "Lift the freeze of a lane",
        "Let a frozen lane start work again; other holds stay in force. A stage may have frozen it because a check "
        f"failed: ask a person first. {_WHY}Refused for a lane that is not frozen.",
        serial_gate.Unfreeze,
        "unfreeze_lane",
        needs_reason=True,
        is_destructive=True,
    ),
    Tool(
        "fleet.pause",
        "Pause the whole fleet",
        "Pause all workers of all users, or change the pause. `drain`: leased work runs to its end, nothing new "
        "starts; `quiesce`: it stops at its next item. Nothing is lost, and fleet.resume undoes it. `confirmation` is "
        f"what the operator has confirmed, in words: ask first. {_WHY}Refused if it is paused in the same way already.",
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
        "work is still running unless `forceResume` is true, which needs a `confirmation` in the operator's "
        f"words: an upgrade in progress may then meet new work. {_WHY}",
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
        "none or while the fleet is paused (`system.workersPaused`), which is not an error: try again later. Then call "
        "queue.heartbeat every `heartbeatSeconds`, hand in with queue.checkpoint, and end with queue.complete.",
        agents.Claim,
        "claim_job",
        for_agents=True,
    ),
    Tool(
        "queue.items",
        "List further items of a job",
        f"List the items of a job after the first ones, if the claim returned `more`. {_HELD}",
        agents.Items,
        "list_job_items",
        for_agents=True,
        reads=True,
    ),
    Tool(
        "queue.heartbeat",
        "Keep a job",
        "Renew the lease of a job, and learn whether to stop. With `stop`, begin no further item: hand in what is done "
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
        f"This ends the job. {_HELD}",
        agents.Complete,
        "complete_job",
        for_agents=True,
        is_idempotent=True,
    ),
    Tool(
        "queue.ask",
        "Ask a person about an item",
        "Ask a person about the item after the cursor: the run is held until the question is answered, and the job is "
        "given back as it was last committed. Who gets the item then gets the `answer` with it. Hand in what "
        f"is done with queue.checkpoint first. {_HELD}",
        agents.Ask,
        "ask_about_job",
        for_agents=True,
    ),
    Tool(
        "queue.freeze",
        "Freeze the lane of a job",
        "Freeze the lane of the run because a check has failed on the item after the cursor: nothing of the lane "
        f"starts until an operator lifts it. The job is given back as it was last committed. {_HELD}",
        agents.Freeze,
        "freeze_lane_of_job",
        for_agents=True,
        is_destructive=True,
    ),
    Tool(
        "queue.fail",
        "Give a job back undone",
        "Give a job back as it was last committed, because of an `error`. It counts against the next item, which "
        f"fails for good after three in a row, unless `retryAfter` asks to retry after that many seconds. {_HELD}",
        agents.Fail,
        "fail_job",
        for_agents=True,
        is_destructive=True,
    ),
)

TOOLS = {tool.name: tool for tool in (*_READS, *_CHANGES, *_QUEUE)}
