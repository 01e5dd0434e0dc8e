"""Runs: list, create, show, delete, and the verbs."""
