"""REST for credits."""
