"""The life of a run: created, started, advanced, ended, repaired. Writes every lifecycle."""
