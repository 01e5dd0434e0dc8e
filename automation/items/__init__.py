"""Items, outputs and what has been done of an item, as rows."""
