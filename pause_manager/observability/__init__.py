"""Logs, metrics, the audit trail, counters and their history, and which layers of the gate cannot be read."""
