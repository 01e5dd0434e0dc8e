"""Progress, stages, and the reasons why a run waits."""
