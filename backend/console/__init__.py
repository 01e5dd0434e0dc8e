"""The pages of the console about runs, and how all pages are put together."""
