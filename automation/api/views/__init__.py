"""The views, one file a noun."""
