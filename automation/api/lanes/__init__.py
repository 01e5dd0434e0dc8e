"""``/api/v1/lanes/`` and ``/api/v1/queue/``: which runs take turns, and who waits."""
