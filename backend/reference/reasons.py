"""The meaning of each reason of the gate, for its page; a test fails when one is missing or never given."""

from __future__ import annotations

REASONS = {
    "finished": "The run has ended.",
    "cancel": "A cancel was requested.",
    "copying": "A retry whose items are still being copied.",
    "fleet": "The fleet is paused.",
    "freeze": "Its lane is frozen.",
    "dependency": "A run that it depends on has not completed.",
    "operator": "An operator holds the run, its pipeline or a queue.",
    "window": "A pause window holds its pipeline, lane, queue or resource; the reason says until when.",
    "lane": "All places of its lane are taken, or go to runs before it.",
    "node": "Every node that could run it is held.",
    "budget": "A budget holds it.",
    "needs_input": "A question must be answered first.",
    "throttled": 'A resource that its stage uses said "too much"; it is asked again at a stated time.',
    "resource": "A resource that its stage uses has no free place: by its limit, or while it is asked again.",
    "capacity": "It waits for capacity.",
    "code_missing": "This release lacks a stage or the pipeline of the run.",
    "files_not_shared": "Workers keep files in different storages.",
    "unreadable": "Something that decides cannot be read; nothing starts until it can.",
    "no_worker": "No live worker serves its queue.",
    "no_agent": "No remote agent asks for this stage.",
    "no_free_worker": "All workers of its queue are busy with other runs.",
    "at_work": "A pause or cancel waits for an item that is being processed.",
    "gives_way": "It was asked to leave its node. The run continues elsewhere.",
    "failing": "Loops of a stage fail before any item is to blame.",
    "waits": "A provider asked an item to wait.",
    "loses_workers": "Leases on the same item keep ending without anyone to blame.",
}
