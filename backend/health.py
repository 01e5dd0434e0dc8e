"""``/healthz``: this process responds. ``/readyz``: everything it depends on is available too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from automation.files import place
from automation.files.storage import StorageAway
from automation.gate import file_sharing
from backend import heartbeats
from pause_manager.messaging.redis_clients import bounded
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import clock_skew
from pause_manager.nodes.machines import identity, renaming

LATE_SECONDS = 30
SOCKET_TIMEOUT_SECONDS = 1


class NotReady(Exception):
    """Something that the system depends on is unavailable; the message says what."""


class Notable(Exception):
    """Something is wrong that does not stop any work; the message says what."""


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Respond with 200 as long as the process runs."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Respond with 200 if database, migrations, Redis, beat, a control worker and the file storage are fine, else 503.

    A clock that differs from the database's and a node name used by two machines are reported but do not count.
    """
    checks: dict[str, Callable[[], str]] = {
        "database": check_database,
        "migrations": check_migrations,
        "redis": check_redis,
        "beat": check_beat,
        "control": check_control,
        "clocks": check_clocks,
        "machines": check_machines,
        "storage": check_storage,
    }
    found, ready = {}, True
    for name, check in checks.items():
        try:
            found[name] = check()
        except NotReady as problem:
            found[name], ready = str(problem), False
        except Notable as problem:
            found[name] = str(problem)
    return JsonResponse({"ready": ready, "checks": found}, status=200 if ready else 503)


def check_database() -> str:
    """Raise :class:`NotReady` unless PostgreSQL responds and accepts writes."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only') = 'on'")
            is_read_only = cursor.fetchone()[0]
    except DatabaseError as error:
        raise NotReady("the database does not respond") from error
    if is_read_only:
        raise NotReady("the database is read-only")
    return "ok"


def check_migrations() -> str:
    """Raise :class:`NotReady` unless every migration of the code is applied."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise NotReady("the database does not respond") from error
    if missing:
        raise NotReady(f"{len(missing)} migration{'s are' if len(missing) > 1 else ' is'} not applied")
    return "ok"


def redis_client() -> redis.Redis:
    """A client with short time-outs."""
    return bounded(settings.REDIS_URL, SOCKET_TIMEOUT_SECONDS)


def check_redis() -> str:
    """Raise :class:`NotReady` unless Redis responds."""
    try:
        with redis_client() as client:
            client.ping()
    except redis.RedisError as error:
        raise NotReady("Redis does not respond") from error
    return "ok"


def check_beat() -> str:
    """Raise :class:`NotReady` unless beat has sent a heartbeat recently."""
    return _recently(heartbeats.BEAT, "beat has not reported", "beat last seen {:.0f} s ago")


def check_control() -> str:
    """Raise :class:`NotReady` unless a control worker has started or reconciled recently."""
    return _recently(heartbeats.CONTROL, "no control worker has reported", "control worker last seen {:.0f} s ago")


def check_clocks() -> str:
    """Raise :class:`Notable` unless the clocks of workers, beat and this host agree with the database's."""
    try:
        wrong = [clock.sentence for clock in clock_skew.all_clocks() if clock.is_wrong]
    except DatabaseError as error:
        raise Notable("unknown while the database does not respond") from error
    if wrong:
        raise Notable("; ".join(wrong))
    return "ok"


def check_machines() -> str:
    """Raise :class:`Notable` unless each machine has its own node name, and all of its workers use that name."""
    try:
        wrong = [*identity.contested(), *renaming.differing()]
    except DatabaseError as error:
        raise Notable("unknown while the database does not respond") from error
    if wrong:
        raise Notable("; ".join(wrong))
    return "ok"


def check_storage() -> str:
    """Raise :class:`NotReady` unless files can be stored, and web process and workers store them in one place."""
    try:
        here = place.here()
    except StorageAway as error:
        raise NotReady(str(error)) from error
    try:
        live = file_sharing.told()
    except DatabaseError as error:
        raise NotReady("unknown while the database does not respond") from error
    if (apart := file_sharing.difference(live)) is not None:
        raise NotReady(f"the live workers do not share files: {apart}")
    if others := [one for one in live if one.place != here.key]:
        raise NotReady(f"this process stores files in {here.name}, but workers do not: {others[0].sentence_part}")
    return "ok"


@clock_skew.register
def _of_beat() -> Iterator[clock_skew.Clock]:
    with contextlib.suppress(redis.RedisError):
        last = heartbeats.last(heartbeats.BEAT)
        if last is not None:
            yield clock_skew.Clock("beat", "beat", last.host, database_seconds() - last.at - last.age)


def _recently(who: str, never: str, late: str) -> str:
    try:
        age = heartbeats.age(who)
    except redis.RedisError as error:
        raise NotReady("unknown while Redis does not respond") from error
    if age is None:
        raise NotReady(never)
    if age > LATE_SECONDS:
        raise NotReady(late.format(age))
    return "ok"
