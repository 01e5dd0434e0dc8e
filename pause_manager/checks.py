"""System checks: what must be true before anything here may run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from celery import current_app
from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from pause_manager import loads
from pause_manager.capacity.policy import InvalidPolicy, Policy
from pause_manager.conf import PauseManagerSettings, settings
from pause_manager.schedule import CONTROL_TASKS
from pause_manager.settings_check import check_declared

TASK_CLASS = "pause_manager.pausable:PausableTask"


@register(Tags.models)
def check_database_engine(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """PostgreSQL only: row locks with SKIP LOCKED, advisory locks and database time are what a pause rests on."""
    return [
        Error(
            f"Cannot use {connection.vendor} for database {connection.alias!r}: pause_manager needs PostgreSQL.",
            hint='Set DATABASES["default"]["ENGINE"] to "django.db.backends.postgresql", '
            "for example with DATABASE_URL=postgresql://user@host/name.",
            id="pause_manager.E001",
        )
        for connection in connections.all()
        if connection.alias == "default" and connection.vendor != "postgresql"
    ]


@register()
def check_options(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Every option of ``PAUSE_MANAGER`` is known and of its type."""
    errors = check_declared("PAUSE_MANAGER", PauseManagerSettings, "pause_manager")
    return errors or _check_policies(settings())


def _check_policies(options: PauseManagerSettings) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for pipeline in ("", *options.pipeline_policies):
        try:
            options.policy_of(pipeline)
        except (InvalidPolicy, TypeError, AttributeError) as error:
            where = f"PAUSE_MANAGER['pipeline_policies'][{pipeline!r}]" if pipeline else "PAUSE_MANAGER['policy']"
            known = ", ".join(field.name for field in fields(Policy))
            errors.append(Error(f"{where}: {error}", hint=f"Options: {known}", id="pause_manager.E014"))
    return errors


@register()
def check_celery(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Django loads the Celery app, which has a broker, tasks that obey, and beat entries for ours."""
    app: Any = current_app._get_current_object()  # type: ignore[attr-defined]
    if app.main == "default":
        return [
            Warning(
                "Django loads no Celery app: what a hold kept cannot be sent on from here when it is released.",
                hint="Import it in the project's __init__.py: from <project>.celery import app as celery_app",
                id="pause_manager.W015",
            )
        ]
    warnings: list[CheckMessage] = []
    if not app.conf.broker_url:
        hint = 'Set CELERY_BROKER_URL, for example to "redis://localhost:6379/0".'
        warnings.append(Warning("Celery has no broker URL.", hint=hint, id="pause_manager.W016"))
    if not _is_obeyed(app):
        warnings.append(
            Warning(
                "No task obeys holds: a pause of the fleet stops consumption, and what workers have taken runs on.",
                hint=f'Write app = Celery("{app.main}", task_cls="{TASK_CLASS}"), or give single tasks '
                "@shared_task(base=PausableTask).",
                id="pause_manager.W017",
            )
        )
    if "DatabaseScheduler" not in str(app.conf.beat_scheduler):
        scheduled = {entry.get("task") for entry in (app.conf.beat_schedule or {}).values()}
        if missing := [task for task in CONTROL_TASKS if task not in scheduled]:
            warnings.append(
                Warning(
                    f"Beat does not ask for {', '.join(missing)}.",
                    hint="Write CELERY_BEAT_SCHEDULE = {**BEAT_SCHEDULE, ...} with the one of pause_manager.schedule, "
                    "and have a worker consume the control queue.",
                    id="pause_manager.W018",
                )
            )
    return warnings


@register()
def check_policies_of_tasks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The policies that tasks name are declared. Only of tasks that are loaded: in a worker, all."""
    pausable = sys.modules.get(TASK_CLASS.partition(":")[0])
    if pausable is None or check_declared("PAUSE_MANAGER", PauseManagerSettings, "pause_manager"):
        return []  # options that cannot be read are told of by check_options
    app: Any = current_app._get_current_object()  # type: ignore[attr-defined]
    known = settings().pipeline_policies
    tasks = [task for _, task in sorted(app.tasks.items()) if isinstance(task, pausable.PausableTask)]
    return [
        Warning(
            f"{task.name} goes by the fleet's policy: PAUSE_MANAGER['pipeline_policies'] has no {task.policy!r}.",
            hint="Declared: " + (", ".join(sorted(known)) or "none"),
            id="pause_manager.W019",
        )
        for task in tasks
        if task.policy and task.policy not in known
    ]


def _is_obeyed(app: Any) -> bool:
    """Whether tasks are pausable by class or one by one, or somebody else brings work that asks before it starts."""
    is_class = "PausableTask" in str(app.task_cls) or TASK_CLASS.partition(":")[0] in sys.modules
    return is_class or any(provider.__module__ != "pause_manager.running" for provider in loads.providers())
