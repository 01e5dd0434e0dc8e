"""The page that starts a run: what it starts from, and what is shown of it before it starts."""
