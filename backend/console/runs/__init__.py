"""The list of runs: filters, counts, rows and the buttons that act on several. The page of one run is `run`."""
