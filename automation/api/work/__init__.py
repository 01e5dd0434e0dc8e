"""What a run is made of: items, failures, events; and the pipelines."""
