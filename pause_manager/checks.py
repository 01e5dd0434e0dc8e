"""System checks: what must be true before anything here may run."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, get_origin, get_type_hints

import celery
import django
from celery import Task, current_app
from celery.loaders.base import autodiscover_tasks  # type: ignore[attr-defined]
from celery.utils.imports import symbol_by_name
from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

from pause_manager import workloads
from pause_manager.capacity.policy import InvalidPolicy
from pause_manager.capacity.policy_groups import GROUPS
from pause_manager.conf import MACHINE_NAME, PauseManagerSettings, settings
from pause_manager.pausable import PausableMixin, PausableTask, chord_results
from pause_manager.schedule import CONTROL_TASKS
from pause_manager.scopes import wrong_uses
from pause_manager.worker.request import combined

TASK_CLASS = "pause_manager.pausable:PausableTask"
CLASSES = (PausableTask, PausableMixin)
"""Tasks of these honor holds."""

VERSIONS = {
    "Celery": (celery.VERSION[:2], (5, 4), (5, 7)),
    "Django": (django.VERSION[:2], (5, 2), (6, 0)),
    "Python": (sys.version_info[:2], (3, 11), (3, 13)),
}
"""What is installed, and the oldest and newest that the tests are run on."""


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
    return errors or [*_check_node(settings()), *_check_policies(settings())]


def _check_node(options: PauseManagerSettings) -> Iterable[CheckMessage]:
    if options.node and not MACHINE_NAME.fullmatch(options.node):
        yield Error(
            f"PAUSE_MANAGER['node'] expected up to 100 letters, digits, '.', '_' and '-', got: {options.node!r}",
            hint="It is the name of this machine, the same in all of its containers, and in holds: node:NAME.",
            id="pause_manager.E026",
        )


def _check_policies(options: PauseManagerSettings) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for pipeline in ("", *options.pipeline_policies):
        try:
            options.policy_of(pipeline)
        except (InvalidPolicy, TypeError, AttributeError) as error:
            where = f"PAUSE_MANAGER['pipeline_policies'][{pipeline!r}]" if pipeline else "PAUSE_MANAGER['policy']"
            hint = f"Groups: {', '.join(GROUPS)}. docs/reference/settings.md lists the options of each."
            errors.append(Error(f"{where}: {error}", hint=hint, id="pause_manager.E014"))
    return errors


@register()
def check_versions(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Celery, Django and Python are those that the tests are run on."""
    return [message for name, known in VERSIONS.items() for message in _check_version(name, *known)]


def _check_version(
    name: str, found: tuple[int, ...], oldest: tuple[int, int], newest: tuple[int, int]
) -> Iterable[CheckMessage]:
    here, first, last = (".".join(map(str, version)) for version in (found, oldest, newest))
    if found < oldest:
        hint = f"Install {name} {first} to {last}."
        yield Error(f"Cannot work with {name} {here}: it is older than {first}.", hint=hint, id="pause_manager.E020")
    elif found > newest:
        hint = f"Tested are {first} to {last}. To silence this: SILENCED_SYSTEM_CHECKS."
        yield Warning(f"Nobody has tested this with {name} {here}.", hint=hint, id="pause_manager.W021")


@register()
def check_protocol(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Messages are of protocol 2: those of protocol 1 have no headers that could say where they waited."""
    if (protocol := _app().conf.task_protocol) == 2:
        return []
    return [
        Error(
            f"Cannot keep messages of task protocol {protocol}: they name their entry nowhere.",
            hint="Set CELERY_TASK_PROTOCOL = 2, or leave it out.",
            id="pause_manager.E022",
        )
    ]


@register()
def check_uses(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """What a pausable task declares to use are names of resources."""
    app = _app()
    if app.main == "default":
        return []
    _load_tasks(app)
    declared = [(name, task.uses) for name, task in sorted(app.tasks.items()) if isinstance(task, CLASSES)]
    return [
        Error(
            f"Cannot use {name}.uses: {wrong}.",
            hint='Name each resource outside that the task uses: uses = ("openai",).',
            id="pause_manager.E027",
        )
        for name, uses in declared
        if (wrong := wrong_uses(uses)) is not None
    ]


@register()
def check_tasks(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Return where tasks obey holds, those that do not are named, with why; those aside that say ``pausable=False``."""
    app = _app()
    if app.main == "default" or check_declared("PAUSE_MANAGER", PauseManagerSettings, "pause_manager"):
        return []  # both are told of elsewhere
    if settings().every_task:
        return []
    _load_tasks(app)
    registered = sorted(app.tasks.items())  # which makes them, and so loads their classes
    # Work with allocations asks by itself before it starts.
    others = {
        "celery",
        "pause_manager",
        *(type(workload).__module__.partition(".")[0] for workload in workloads.with_allocations()),
    }
    tasks = [task for _, task in registered if _package(task) not in others]
    if not any(isinstance(task, CLASSES) for task in tasks):
        return []
    deaf = [f"{task.name} ({why})" for task in tasks if (why := _why_deaf(task))]
    if not deaf:
        return []
    return [
        Warning(
            f"Holds do not keep these tasks from starting: {', '.join(deaf)}.",
            hint='Set PAUSE_MANAGER = {"every_task": True}, or derive their class from '
            "pause_manager.pausable.PausableMixin, or say that it is meant: @shared_task(pausable=False).",
            id="pause_manager.W023",
        )
    ]


def _load_tasks(app: Any) -> None:
    # Not by the loader: its signal has Celery run all these checks again.
    for module in (*app.conf.imports, *app.conf.include):
        app.loader.import_task_module(module)
    autodiscover_tasks([config.name for config in apps.get_app_configs()])


def _package(task: Any) -> str:
    return str(task.run.__module__ or task.__module__).partition(".")[0]


def _why_deaf(task: Any) -> str:
    if getattr(task, "pausable", True) is False:
        return ""
    if not isinstance(task, CLASSES):
        return f"its class, {type(task).__mro__[1].__qualname__}, is not pausable"
    if getattr(task, "Strategy", None) not in (Task.Strategy, PausableTask.Strategy):
        return "it takes its messages by a Strategy of its own"
    own = symbol_by_name(task.Request)
    try:
        combined(own)
    except TypeError:
        return f"its Request, {own.__qualname__}, cannot be combined with PausableRequest"
    return ""


@register()
def check_celery(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Django loads the Celery app, which has a broker, tasks that obey, and beat entries for ours."""
    app = _app()
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
    else:
        warnings += chord_results.check(app)
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
    if check_declared("PAUSE_MANAGER", PauseManagerSettings, "pause_manager"):
        return []  # options that cannot be read are told of by check_options
    app = _app()
    known = settings().pipeline_policies
    tasks = [task for _, task in sorted(app.tasks.items()) if isinstance(task, PausableTask)]
    return [
        Warning(
            f"{task.name} goes by the fleet's policy: PAUSE_MANAGER['pipeline_policies'] has no {task.policy!r}.",
            hint="Declared: " + (", ".join(sorted(known)) or "none"),
            id="pause_manager.W019",
        )
        for task in tasks
        if task.policy and task.policy not in known
    ]


def _app() -> Any:
    return current_app._get_current_object()  # type: ignore[attr-defined]


def _is_obeyed(app: Any) -> bool:
    """Whether tasks obey, all or by class or one by one, or somebody else brings work that asks before it starts."""
    declared = getattr(django_settings, "PAUSE_MANAGER", {})
    if isinstance(declared, dict) and declared.get("every_task") is True:
        return True
    if "PausableTask" in str(app.task_cls):
        return True
    _load_tasks(app)
    return any(isinstance(task, CLASSES) for task in app.tasks.values()) or any(
        type(workload).__module__.partition(".")[0] != "pause_manager" for workload in workloads.with_allocations()
    )


def check_declared(setting: str, declared: type[Any], prefix: str) -> list[CheckMessage]:
    """Errors for each name of ``settings.<setting>`` that is unknown or of the wrong type."""
    given = getattr(django_settings, setting, {})
    if not isinstance(given, dict):
        return [Error(f"{setting} expected a dictionary, got: {type(given).__name__}", id=f"{prefix}.E010")]
    types = get_type_hints(declared)
    names = [field.name for field in dataclasses.fields(declared)]
    errors: list[CheckMessage] = []
    for name, value in given.items():
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Allowed: " + ", ".join(names)
            errors.append(Error(f"{setting} has no option {name!r}.", hint=hint, id=f"{prefix}.E011"))
        elif not _fits(value, types[name]):
            rule = getattr(types[name], "__name__", types[name])
            errors.append(Error(f"{setting}[{name!r}] expected {rule}, got: {value!r}", id=f"{prefix}.E012"))
        elif isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            errors.append(Error(f"{setting}[{name!r}] expected a number > 0, got: {value!r}", id=f"{prefix}.E013"))
    return errors


def _fits(value: Any, declared: Any) -> bool:
    if declared is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(declared) or declared)
