"""The states of an entry of the pause queue as a page of documentation, made from the table of transitions."""

from __future__ import annotations

from pause_manager.pause_queue.transitions import TABLE, State

_PAGE = """# The states of an entry of the pause queue

Written by `manage.py write_reference` from `pause_manager/pause_queue/transitions.py`. Do not edit.

An entry is a run's dispatch, or a message of a pausable task. `confirmed` is the end of what the pause queue has to do
with it: the task runs or has run, or dispatch looks after the run. If its worker is lost after that, it waits again.

```mermaid
stateDiagram-v2
    [*] --> waiting: park
{arrows}
{ends}
```

| transition | from | to | when |
|---|---|---|---|
| park | nothing | waiting | something stops what is to be sent or to start, for the first time |
{rows}

Every other pair is refused and changes nothing.
"""


def page() -> str:
    """The whole page."""
    arrows = [f"    {source} --> {arrow.target}: {arrow.name}" for arrow in TABLE for source in arrow.sources]
    ends = [f"    {state} --> [*]" for state in State if state not in (State.WAITING, State.SENT)]
    rows = [f"| {arrow.name} | {', '.join(arrow.sources)} | {arrow.target} | {arrow.meaning} |" for arrow in TABLE]
    return _PAGE.format(arrows="\n".join(arrows), ends="\n".join(ends), rows="\n".join(rows))
