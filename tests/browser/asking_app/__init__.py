"""An app whose pipeline asks people, for workers that a browser looks at."""
