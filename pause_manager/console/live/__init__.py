"""One server-sent stream for all open pages of a browser, and what it listens to."""
