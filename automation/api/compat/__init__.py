"""Endpoints that name a site, for callers who know them from an earlier system."""
