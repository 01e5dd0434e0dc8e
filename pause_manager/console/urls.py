"""URLs of the pause manager's console: ``path("slackwater/", include("pause_manager.console.urls"))``.

Another app's console may include more under the same namespace: see ``patterns``.
"""

from __future__ import annotations

from django.urls import URLPattern, path

from pause_manager.console import palette, views
from pause_manager.console.audit import page as audit
from pause_manager.console.live import endpoint

app_name = "console"


def patterns() -> list[URLPattern]:
    """Return the URLs of the stream, the palette and all registered pages."""
    return [
        path("events/", endpoint.stream, name="live"),
        path("find/", palette.find, name="find"),
        path("audit/export/", audit.export, name="audit-export"),
        *views.urls(),
    ]


urlpatterns = patterns()
