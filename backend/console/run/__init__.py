"""The page of one run: its card and buttons, life, throughput, failures, outputs, files and log. The list is `runs`."""
