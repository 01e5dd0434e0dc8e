"""Runs that start by the clock: schedules, their occurrences, and what becomes of each."""
