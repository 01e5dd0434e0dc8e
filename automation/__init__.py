"""The engine: pipelines, runs and their items, which can be paused at any item and continue on any worker."""
