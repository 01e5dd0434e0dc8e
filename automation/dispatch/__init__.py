"""The only enqueuer, and the reconciler that repairs whatever is missing."""

from automation.dispatch.dispatcher import TASK, dispatch, of_runs, on_commit, replace_lost_tickets

__all__ = ["TASK", "dispatch", "of_runs", "on_commit", "replace_lost_tickets"]
