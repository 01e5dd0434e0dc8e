"""The health verdict: is work flowing, is it succeeding, are the figures fresh; with causes and next steps."""

from pause_manager.health.verdict import FLOWING, FRESH, QUESTIONS, SUCCEEDING, Answer, Verdict, judge

__all__ = ["FLOWING", "FRESH", "QUESTIONS", "SUCCEEDING", "Answer", "Verdict", "judge"]
