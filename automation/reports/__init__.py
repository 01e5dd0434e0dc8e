"""What is shown of runs: status, progress, explanations, estimates. Reads only."""
