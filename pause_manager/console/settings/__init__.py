"""The page of thresholds and overrides."""
