"""The parts of ``manage.py up``: checks before the start, and a supervisor that keeps its processes running."""
