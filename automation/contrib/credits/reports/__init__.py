"""What people see of credits: of a run, of an account, of a month. ``usage_history`` has charts and pages."""

from automation.contrib.credits.reports.sums import (
    RunUsage,
    StageUsage,
    a_year_ago,
    history,
    of_run,
    summed,
    used_by_function,
    with_amounts,
)

__all__ = [
    "RunUsage",
    "StageUsage",
    "a_year_ago",
    "history",
    "of_run",
    "summed",
    "used_by_function",
    "with_amounts",
]
