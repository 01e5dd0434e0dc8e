"""Settings by environment: ``dev`` (default), ``test`` and ``prod``."""
