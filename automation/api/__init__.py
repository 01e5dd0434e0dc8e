"""The REST API of the engine, ``/api/v1/automation/``."""
