"""The pages, topics and finders that the pause manager has itself."""

from __future__ import annotations

from pause_manager.console import pages, palette, shell
from pause_manager.console.audit.page import PAGE as AUDIT
from pause_manager.console.fleet import finders
from pause_manager.console.fleet.page import PAGE as FLEET
from pause_manager.console.live import topics
from pause_manager.console.queue.page import PAGE as QUEUE
from pause_manager.console.resources.page import PAGE as RESOURCES
from pause_manager.console.settings.page import PAGE as SETTINGS
from pause_manager.console.tasks.page import PAGE as TASKS
from pause_manager.console.windows.page import PAGE as WINDOWS

pages.register(FLEET, QUEUE, TASKS, RESOURCES, WINDOWS, AUDIT, SETTINGS)
topics.register("fleet-badge", shell.badge_topic)
topics.register("fleet-banner", shell.banner_topic)
palette.register(palette.pages_found, finders.switch_found, finders.machines_found, finders.holds_found)
