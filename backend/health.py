"""``/healthz``: this process answers. ``/readyz``: what it needs is there too."""

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
from backend import ticks
from pause_manager.messaging.redis_clients import bounded
from pause_manager.models.clock import database_seconds
from pause_manager.nodes import clock_skew
from pause_manager.nodes.machines import identity, renaming

LATE_SECONDS = 30
SOCKET_TIMEOUT_SECONDS = 1


class NotReady(Exception):
    """Something that the system needs is not there; the message says what."""


class Notable(Exception):
    """Something is wrong that keeps nobody from working; the message says what."""


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database, migrations, Redis, beat, a control worker and the storage of files are fine, else 503.

    A clock that differs from the database's and a name that two machines have are told and change nothing.
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
    """Whether PostgreSQL answers a query and takes changes."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_read_only') = 'on'")
            is_read_only = cursor.fetchone()[0]
    except DatabaseError as error:
        raise NotReady("the database does not answer") from error
    if is_read_only:
        raise NotReady("the database is read-only")
    return "ok"


def check_migrations() -> str:
    """Whether every migration of the code is applied."""
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise NotReady("the database does not answer") from error
    if missing:
        raise NotReady(f"{len(missing)} migrations are not applied")
    return "ok"


def redis_client() -> redis.Redis:
    """A client that gives up soon."""
    return bounded(settings.REDIS_URL, SOCKET_TIMEOUT_SECONDS)


def check_redis() -> str:
    """Whether Redis answers."""
    try:
        with redis_client() as client:
            client.ping()
    except redis.RedisError as error:
        raise NotReady("Redis does not answer") from error
    return "ok"


def check_beat() -> str:
    """Whether beat ticked lately."""
    return _lately(ticks.BEAT, "no tick of beat is known", "the last tick was {:.0f} s ago")


def check_control() -> str:
    """Whether a control worker started or reconciled lately."""
    return _lately(ticks.CONTROL, "no control worker is known", "a control worker last did its work {:.0f} s ago")


def check_clocks() -> str:
    """Whether the clocks of workers, of beat and of this host agree with the database's."""
    try:
        wrong = [clock.sentence for clock in clock_skew.all_clocks() if clock.is_wrong]
    except DatabaseError as error:
        raise Notable("unknown while the database does not answer") from error
    if wrong:
        raise Notable("; ".join(wrong))
    return "ok"


def check_machines() -> str:
    """Whether each machine has a name of its own, and all of its workers ask for one name."""
    try:
        wrong = [*identity.contested(), *renaming.differing()]
    except DatabaseError as error:
        raise Notable("unknown while the database does not answer") from error
    if wrong:
        raise Notable("; ".join(wrong))
    return "ok"


def check_storage() -> str:
    """Whether files can be kept, and web process and workers keep them in one place."""
    try:
        here = place.here()
    except StorageAway as error:
        raise NotReady(str(error)) from error
    try:
        live = file_sharing.told()
    except DatabaseError as error:
        raise NotReady("unknown while the database does not answer") from error
    if (apart := file_sharing.difference(live)) is not None:
        raise NotReady(f"the live workers do not share files: {apart}")
    if others := [one for one in live if one.place != here.key]:
        raise NotReady(f"this process keeps files in {here.name}, and workers do not: {others[0].sentence_part}")
    return "ok"


@clock_skew.register
def _of_beat() -> Iterator[clock_skew.Clock]:
    with contextlib.suppress(redis.RedisError):
        tick = ticks.last(ticks.BEAT)
        if tick is not None:
            yield clock_skew.Clock("beat", "beat", tick.host, database_seconds() - tick.at - tick.age)


def _lately(who: str, never: str, late: str) -> str:
    try:
        age = ticks.age(who)
    except redis.RedisError as error:
        raise NotReady("unknown while Redis does not answer") from error
    if age is None:
        raise NotReady(never)
    if age > LATE_SECONDS:
        raise NotReady(late.format(age))
    return "ok"
