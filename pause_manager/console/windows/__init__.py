"""The page of pause windows."""
