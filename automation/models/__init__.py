"""The rows of the engine."""

from automation.models.accounts import Account, Agent, Membership, Site
from automation.models.files import Artifact
from automation.models.lanes import Lane, RunDependency
from automation.models.questions import RunQuestion
from automation.models.runs import TERMINAL, AutomationRun, Lifecycle, StageRun, Standstill
from automation.models.schedules import Schedule, ScheduleOccurrence
from automation.models.work import ItemChunk, ItemFailure, ItemState, SliceTotals, Ticket, WorkItem, WorkSlice

__all__ = [
    "TERMINAL",
    "Account",
    "Agent",
    "Artifact",
    "AutomationRun",
    "ItemChunk",
    "ItemFailure",
    "ItemState",
    "Lane",
    "Lifecycle",
    "Membership",
    "RunDependency",
    "RunQuestion",
    "Schedule",
    "ScheduleOccurrence",
    "Site",
    "SliceTotals",
    "StageRun",
    "Standstill",
    "Ticket",
    "WorkItem",
    "WorkSlice",
]
