"""The engine in the admin: state is read-only, runs are operated by actions, accounts and sites are edited."""

from automation.admin import accounts, agents, runs, schedules, work

__all__ = ["accounts", "agents", "runs", "schedules", "work"]
