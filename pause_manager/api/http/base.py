"""The base of every REST view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.http import HttpRequest
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from pause_manager.actor import Actor
from pause_manager.api.http import errors
from pause_manager.api.http.parsers import JsonParser
from pause_manager.observability import request_id


class ControlView(APIView):
    """A view whose answers carry ``X-Request-ID`` (the caller's, else a new one) and whose errors carry a code.

    The request id is kept with every event that the request causes.
    """

    parser_classes: Sequence[type[BaseParser]] = [JsonParser]
    max_body_bytes: int = 1 << 20
    """Bodies larger than this are refused with 413 before they are read."""

    idempotency_field: str = ""
    """A member of the body that may carry the key of ``Idempotency-Key`` instead of the header."""

    channel: str = "api"
    """The channel that events record; another transport that calls this view names its own with ``as_view``."""

    request_id: str = ""

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        self.request_id = request_id.of(request)
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
            raise errors.LengthRequired  # the framework would take it for a request without a body

    def check_permissions(self, request: Request) -> None:
        # Before the permissions: what these refuse counts as well.
        super().check_throttles(request)
        super().check_permissions(request)

    def check_throttles(self, request: Request) -> None:
        """Done by :meth:`check_permissions`."""

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response.headers[request_id.HEADER] = self.request_id
        return super().finalize_response(request, response, *args, **kwargs)

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return errors.handle

    @property
    def actor(self) -> Actor:
        """Return the actor of this request."""
        return Actor.user(self.request.user, channel=self.channel, request_id=self.request_id)

    def body(self, serializer: type[Serializer[Any]]) -> dict[str, Any]:
        """The request's body as ``serializer`` takes it, else a ``ValidationError``."""
        return self._valid(serializer(data=self.request.data))

    def query(self, serializer: type[Serializer[Any]]) -> dict[str, Any]:
        """Return the query parameters as ``serializer`` takes them, else raise a ``ValidationError``."""
        return self._valid(serializer(data=self.request.query_params))

    @staticmethod
    def _valid(given: Serializer[Any]) -> dict[str, Any]:
        given.is_valid(raise_exception=True)
        found: dict[str, Any] = given.validated_data
        return found
