"""Table names, for statements written in SQL."""

from automation.models.accounts import Site
from automation.models.files import Artifact
from automation.models.lanes import Lane, RunDependency
from automation.models.questions import RunQuestion
from automation.models.runs import AutomationRun, StageRun, Standstill
from automation.models.schedules import Schedule, ScheduleOccurrence
from automation.models.work import ItemChunk, ItemFailure, ItemState, SliceTotals, Ticket, WorkItem, WorkSlice

RUN, STAGE, STANDSTILL = (model._meta.db_table for model in (AutomationRun, StageRun, Standstill))
SLICE, SLICE_TOTALS, TICKET = (model._meta.db_table for model in (WorkSlice, SliceTotals, Ticket))
ITEM, ITEM_FAILURE = (model._meta.db_table for model in (WorkItem, ItemFailure))
ITEM_STATE, ITEM_CHUNK = (model._meta.db_table for model in (ItemState, ItemChunk))
ARTIFACT = Artifact._meta.db_table
QUESTION = RunQuestion._meta.db_table
LANE, DEPENDENCY = (model._meta.db_table for model in (Lane, RunDependency))
SITE, SCHEDULE, OCCURRENCE = (model._meta.db_table for model in (Site, Schedule, ScheduleOccurrence))
