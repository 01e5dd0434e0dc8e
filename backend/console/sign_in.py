"""The sign-in page."""

from __future__ import annotations

from django.contrib.auth.views import LoginView
from django.utils.decorators import method_decorator

from backend.console import access


@method_decorator(access.page, name="dispatch")
class SignIn(LoginView):
    template_name = "console/sign_in.html"
    redirect_authenticated_user = True
