"""The page of failures across runs."""
