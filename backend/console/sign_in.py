"""The sign-in page."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView
from django.http import HttpResponse
from django.urls import reverse

from pause_manager.console import access, pages


class SignIn(LoginView):
    template_name = "console/sign_in.html"
    redirect_authenticated_user = True

    def get_default_redirect_url(self) -> str:
        """The first page that the user may open."""
        found = pages.visible_to(self.request.user)
        return reverse(f"console:{found[0].name}") if found else super().get_default_redirect_url()

    def render_to_response(self, context: dict[str, Any], **response_kwargs: Any) -> HttpResponse:
        response = super().render_to_response(context, **response_kwargs)
        response.headers["Content-Security-Policy"] = access.POLICY
        return response
