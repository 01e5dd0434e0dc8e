"""``Idempotency-Key``: a command that is sent again gets the first one's outcome and is not carried out again.

The record is written in the transaction of the command, so both stand or neither does: after a crash the key is
free. A repeat that comes while the first is running waits for it at the record's unique constraint.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from django.core.files.uploadedfile import UploadedFile
from django.db import OperationalError, connection, transaction
from django.http import QueryDict
from psycopg.errors import LockNotAvailable
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from pause_manager.api.http.base import ControlView
from pause_manager.errors import IdempotencyConflict
from pause_manager.models import IdempotencyRecord

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
WAIT_SECONDS = 10
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_RECORD = IdempotencyRecord._meta.db_table

P = ParamSpec("P")
V = TypeVar("V", bound=ControlView)
Method = Callable[Concatenate[V, Request, P], Response]


class InvalidKey(exceptions.ParseError):
    """The idempotency key is malformed."""

    default_code = "idempotency_key_invalid"


class StillAtWork(exceptions.APIException):
    """The first request with this idempotency key is still being processed."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "idempotency_in_progress"


def idempotent(method: Method[V, P]) -> Method[V, P]:
    """Make a view's method obey ``Idempotency-Key``.

    Kept are answers that say what came of the command: 2xx and 409. Any other leaves the key free, since nothing was
    carried out. The same key with another method, path or body is refused with :class:`IdempotencyConflict`.
    """

    @functools.wraps(method)
    def wrapper(view: V, request: Request, *args: P.args, **kwargs: P.kwargs) -> Response:
        key = key_of(view, request)
        if key is None:
            return method(view, request, *args, **kwargs)
        fingerprint = fingerprint_of(request)
        with transaction.atomic():
            if not _take(key, view.actor.name, fingerprint):
                return _replay(key, view.actor.name, fingerprint)
            try:
                with transaction.atomic():
                    response = method(view, request, *args, **kwargs)
            except Exception as error:
                response = view.handle_exception(error)
                if response.status_code != status.HTTP_409_CONFLICT:
                    transaction.set_rollback(True)
                    return response
            _keep(key, view.actor.name, response)
            return response

    return cast("Method[V, P]", wrapper)


def key_of(view: ControlView, request: Request) -> str | None:
    """The key of the header, or of the member of the body that the view names; raises :class:`InvalidKey`."""
    keys = [request.headers.get(HEADER)]
    if view.idempotency_field and isinstance(request.data, Mapping):
        keys.append(request.data.get(view.idempotency_field))
    given = [key for key in keys if key is not None]
    for key in given:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InvalidKey(f"{HEADER}: expected 1 to 200 visible ASCII characters, got: {str(key)[:40]!r}.")
    if len(set(given)) > 1:
        raise InvalidKey(f"{HEADER}: expected the same key as in {view.idempotency_field}, got another.")
    return given[0] if given else None


def fingerprint_of(request: Request) -> str:
    """SHA-256 of method, path with query, and body; the order of JSON members and form boundaries do not matter."""
    digest = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    data = request.data
    if isinstance(data, QueryDict):
        for name, values in sorted(data.lists()):
            for value in values:
                digest.update(f"\n{name}=".encode())
                for part in _parts(value):
                    digest.update(part)
    else:
        digest.update(json.dumps(data, sort_keys=True).encode())
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if not isinstance(value, UploadedFile):
        yield str(value).encode()
        return
    yield f"{value.name}\n".encode()
    yield from value.chunks()
    value.seek(0)


def _take(key: str, actor: str, fingerprint: str) -> bool:
    """Return whether this request is the first with its key; waits for a first one that is running."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
        try:
            cursor.execute(
                f"INSERT INTO {_RECORD} (actor, key, fingerprint) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [actor, key, fingerprint],
            )
        except OperationalError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                raise StillAtWork(f"Cannot answer: the first request with this {HEADER} is still running.") from None
            raise
        is_first = bool(cursor.rowcount)
        cursor.execute("SET LOCAL lock_timeout = DEFAULT")
    return is_first


def _replay(key: str, actor: str, fingerprint: str) -> Response:
    record = IdempotencyRecord.objects.get(actor=actor, key=key)
    if record.fingerprint != fingerprint:
        raise IdempotencyConflict(f"Cannot use {HEADER} {key!r}: it was used before with another request.")
    return Response(record.body, status=record.status, headers={REPLAYED_HEADER: "true"})


def _keep(key: str, actor: str, response: Response) -> None:
    body = json.loads(JSONRenderer().render(response.data) or b"null")
    IdempotencyRecord.objects.filter(actor=actor, key=key).update(status=response.status_code, body=body)
