"""The page of pausable tasks: what runs, waits and failed."""
