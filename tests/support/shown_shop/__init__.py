"""The shop of the pictures: a pipeline with prices and a resource, and tasks that run, wait and fail."""
