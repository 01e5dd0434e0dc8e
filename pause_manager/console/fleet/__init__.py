"""The page of the fleet: its switch, machines, workers and the drain."""
