"""Pauses and starts any Celery work."""

__version__ = "0.1.0"
