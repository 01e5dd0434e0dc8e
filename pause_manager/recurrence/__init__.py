"""When something that recurs comes next, on the wall clock of a time zone. Pure: no clock, no database."""

from pause_manager.recurrence.rule import KINDS, InvalidRule, Rule

__all__ = ["KINDS", "InvalidRule", "Rule"]
