"""The page of the audit trail, in sentences."""
