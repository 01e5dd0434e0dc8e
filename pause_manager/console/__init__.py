"""The pages of the console that a drop-in has: fleet, tasks, pause queue, resources, windows, audit, settings."""
