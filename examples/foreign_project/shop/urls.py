"""The admin, and Slackwater's console: the fleet switch, what waits, and what runs."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("slackwater/", include("pause_manager.console.urls")),  # pause_manager
]
