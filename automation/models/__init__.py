"""The rows of the engine."""

from automation.models.accounts import Account, Agent, Membership, Site
from automation.models.files import Artifact
from automation.models.questions import RunQuestion
from automation.models.runs import TERMINAL, AutomationRun, Lifecycle, StageRun, Standstill
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
    "Lifecycle",
    "Membership",
    "RunQuestion",
    "Site",
    "SliceTotals",
    "StageRun",
    "Standstill",
    "Ticket",
    "WorkItem",
    "WorkSlice",
]
