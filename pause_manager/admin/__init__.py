"""The admin of holds, events, nodes and parked work: for superusers, as this app has no accounts to limit them."""

from pause_manager.admin import events, holds, nodes, overrides, queue, resources, windows

__all__ = ["events", "holds", "nodes", "overrides", "queue", "resources", "windows"]
