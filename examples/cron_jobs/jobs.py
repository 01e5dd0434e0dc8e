"""Start commands on this machine, unless a hold stops them or there is no room, and stop them when asked to.

It needs neither a table nor a broker: a file per running command, in a directory of the machine, is all it keeps. With
:class:`CronJobs` registered in every process, holds stop the commands, the node carries them, and the fleet is drained
only when they have ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.db import transaction

from pause_manager import manager, workloads
from pause_manager.capacity.needs import Needs
from pause_manager.capacity.snapshot import Allocation
from pause_manager.models import Hold
from pause_manager.models.clock import database_seconds
from pause_manager.nodes.machines import identity
from pause_manager.workloads import Blocker, Counts, HoldChange, Remaining, WorkKind, Workload

QUEUE = "cron"
"""A name to hold them by (``queue:cron``), although no Celery queue brings them."""


@dataclass(frozen=True)
class Job:
    """A command that runs."""

    name: str
    pid: int
    node: str
    needs: Needs
    started_at: float

    @property
    def ref(self) -> str:
        return f"cron:{self.name}"


def scopes_of(node: str) -> list[str]:
    """The scopes whose holds stop what runs on ``node``."""
    return ["fleet", f"queue:{QUEUE}", f"node:{node}"]


class CronJobs(Workload):
    """The commands of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(self, name: str, command: Sequence[str], needs: Needs) -> str:
        """Start ``command`` as ``name``; returns why not, or an empty text if it runs."""
        node = identity.name()
        held = Hold.objects.covering(scopes_of(node)).values_list("scope", "reason").first()
        if held is not None:
            return f"Held by {held[0]}: {held[1]}"
        verdict = manager.should_pause(needs)
        if verdict.should_pause:
            return verdict.sentence
        process = subprocess.Popen(command)
        file = self._directory / f"{name}.json"
        known = {"name": name, "pid": process.pid, "node": node, "started_at": database_seconds()}
        file.write_text(json.dumps({**known, "needs": asdict(needs)}))
        threading.Thread(target=_forget_after, args=(process, file), daemon=True).start()
        return ""

    def running(self) -> list[Job]:
        """The commands that have not ended."""
        jobs = []
        for file in sorted(self._directory.glob("*.json")):
            with suppress(FileNotFoundError, ProcessLookupError, json.JSONDecodeError):
                known = json.loads(file.read_text())
                os.kill(known["pid"], 0)
                jobs.append(Job(**{**known, "needs": Needs(**known["needs"])}))
        return jobs

    def allocations(self, node: str | None) -> Iterable[tuple[str | None, Allocation]]:
        return [(job.node, Allocation(job.ref, job.needs, job.started_at)) for job in self._on(node)]

    def kinds(self) -> Iterable[WorkKind]:
        return [WorkKind("cron", "command", Needs(cpu=1))]

    def in_progress(self, scopes: Collection[str]) -> Mapping[str, Counts]:
        found: dict[str, Counts] = {}
        for job in self.running():
            for scope in set(scopes_of(job.node)).intersection(scopes):
                found.setdefault(scope, {"commands": 0})["commands"] += 1
        return found

    def remaining(self, mode: str) -> Remaining:
        jobs = self.running()
        return Remaining(running=len(jobs), blockers=tuple(_blocker(job) for job in jobs[: workloads.MOST_BLOCKERS]))

    def hold_changed(self, change: HoldChange) -> None:
        """End what a hold covers that stops at the next item; one that drains lets it finish."""
        quiescing = Hold.objects.covering(change.scopes).filter(mode=Hold.Mode.QUIESCE)
        stopped = set(quiescing.values_list("scope", flat=True))
        self._end(job for job in self.running() if stopped.intersection(scopes_of(job.node)))

    def give_way(self, refs: Sequence[str], reason: str) -> None:
        self._end(job for job in self.running() if job.ref in refs)

    def _on(self, node: str | None) -> list[Job]:
        return [job for job in self.running() if node in (None, job.node)]

    def _end(self, jobs: Iterable[Job]) -> None:
        pids = [job.pid for job in jobs]
        # After the commit: what is rolled back must end nothing.
        transaction.on_commit(lambda: _terminate(pids), robust=True)


def _forget_after(process: subprocess.Popen[bytes], file: Path) -> None:
    process.wait()
    file.unlink(missing_ok=True)


def _terminate(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _blocker(job: Job) -> Blocker:
    started_at = datetime.fromtimestamp(job.started_at, UTC)
    return Blocker(job.ref, stage="command", item=job.name, worker="cron", node=job.node, since=started_at)


DIRECTORY = Path(tempfile.gettempdir()) / "cron-jobs"
