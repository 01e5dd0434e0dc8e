"""The console on a database with a past: every page asked over HTTP, on a million runs."""
