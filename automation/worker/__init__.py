"""What runs in Celery's worker processes: the loop over the items of a slice, and what ends it."""
