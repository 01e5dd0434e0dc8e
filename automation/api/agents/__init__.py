"""The pull protocol over HTTP, ``/api/queue/jobs/``."""
