"""Inside a worker's main process: what holds, what is in hand, and the one thread that works with the database."""
