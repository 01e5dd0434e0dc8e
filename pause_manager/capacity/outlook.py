"""Reasons why parked work waits, in the units of its needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pause_manager.capacity.admission import Verdict, should_pause
from pause_manager.capacity.headroom import Headroom, Share, to_millicores
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.node_headroom import is_readable, resume_threshold
from pause_manager.capacity.placement.eligible import can_ever_run
from pause_manager.capacity.placement.headrooms import Headrooms
from pause_manager.capacity.placement.ledger import ReservationLedger
from pause_manager.capacity.placement.ledgers import resuming_ledger
from pause_manager.capacity.policy import Policy
from pause_manager.capacity.snapshot import NodeView
from pause_manager.capacity.wording import amount, least, why_own
from pause_manager.capacity.yielding import NodeState

_Found = tuple[bool, float, str, Share, NodeView, Headroom]


def outlook(
    nodes: Sequence[NodeView],
    needs: Needs,
    policy: Policy,
    now: float,
    states: Mapping[str, NodeState] | None = None,
    ledger: ReservationLedger | None = None,
    kept_for: Mapping[str, Needs] | None = None,
    queue: str = "",
    headrooms: Headrooms | None = None,
) -> Verdict:
    """Return why parked work with ``needs`` did not resume, with the figures of the node that comes nearest.

    ``ledger`` is what a poll has left of the rooms (what is on its way has its room there), ``kept_for`` the nodes that
    are kept free, with the needs they are kept for; ``rooms`` as for ``should_pause``. Codes beside those of that:
    kept_free, must_settle, below_resume_threshold, does_not_fit, next_poll.
    """
    states, kept_for, headrooms = states or {}, kept_for or {}, headrooms or Headrooms(now)
    verdict = should_pause(nodes, needs, policy, now, queue, headrooms)
    if verdict.code not in ("has_room", "below_threshold"):
        return verdict
    if ledger is None:
        ledger = resuming_ledger(nodes, policy, now, states)
    found: list[_Found] = []
    for node in nodes:
        if not (is_readable(node, now, policy) and node.serves(queue) and can_ever_run(node, needs, queue)):
            continue
        left = ledger.headrooms.get(node.name) or headrooms.of(node, policy)
        share = left.share(needs, queue)
        if share is not None:
            is_open = node.name in ledger.headrooms and kept_for.get(node.name, needs) == needs
            found.append((is_open, float(share), node.name, share, node, left))
    _, _, name, share, node, left = max(found, key=lambda one: one[:3])
    has = f"{name} has {amount(share)} free, {needs} needed"
    state, from_on = states.get(name), resume_threshold(node, policy)
    if kept_for.get(name, needs) != needs:
        return _because(verdict, "kept_free", f"{has}; it is kept free for work that needs {kept_for[name]}.")
    if state is not None and not state.takes_parked_work(now):
        must = f"must keep {least(share, from_on)} free for {policy.resume_dwell_seconds:g} s first"
        if now < state.cooldown_until:
            must = f"takes no parked work for another {state.cooldown_until - now:.0f} s, as work there had to give way"
        return _because(verdict, "must_settle", f"{has}; it {must}.")
    if share.is_below(from_on):
        on = f"parked work resumes only with {least(share, from_on)} free{why_own(node)}"
        return _because(verdict, "below_resume_threshold", f"{has}; {on}.")
    if not left.fits(needs, from_on, ledger.margin_of(name), queue):
        beside = ""
        if not left.container_fits(to_millicores(needs.cpu), needs.memory_mib, queue):
            beside = ", but no container there whose workers do this has so much left"
        elif left.fits(needs, from_on, queue=queue):
            beside = ", besides what is reserved for other processes that recently used more"
        elif needs.gpus and left.groups:
            beside = ", but no worker there that does this sees such GPUs and has room in its container"
        return _because(verdict, "does_not_fit", f"{has}{beside}.")
    return _because(verdict, "next_poll", f"{has}; it resumes with one of the next polls.")


def _because(verdict: Verdict, code: str, sentence: str) -> Verdict:
    return replace(verdict, should_pause=True, code=code, sentence=sentence)
