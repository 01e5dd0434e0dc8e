"""How long final runs are kept: set by their site, else their pipeline, else the settings; else forever."""

from automation.retention.policy import all_due, delete_due, due

__all__ = ["all_due", "delete_due", "due"]
