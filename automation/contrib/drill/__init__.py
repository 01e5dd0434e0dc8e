"""A pipeline to try pausing with and to test by."""
