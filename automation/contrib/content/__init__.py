"""Search queries become illustrated articles: six stages, one file each."""
