"""A run's page by the run's short name: ``latest``, or the first digits of its id."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from automation.models import AutomationRun
from automation.runs import run_names
from backend.console import access


@require_safe
@access.for_viewers
def page(request: HttpRequest, called: str) -> HttpResponse:
    """Redirect to the page under the run's id, which does not change when other runs are created."""
    try:
        run = run_names.find(called, AutomationRun.objects.visible_to(request.user))
    except run_names.NoSuchRun:
        raise Http404 from None
    except run_names.AmbiguousRunName as error:
        return render(request, "404.html", {"message": str(error)}, status=404)
    return redirect("console:run", run_id=run.pk)
