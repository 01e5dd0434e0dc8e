"""How long runs are kept after their end: as their site says, else their pipeline, else the settings; else for ever."""

from automation.retention.policy import all_due, delete_due, due

__all__ = ["all_due", "delete_due", "due"]
