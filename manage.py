#!/usr/bin/env python
"""Slackwater's command line."""

import os
import sys


def main() -> None:
    """Run a management command; a wrong setting or an absent database is one sentence, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings.dev")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import Error as DatabaseError

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    except DatabaseError as error:
        from pause_manager import database

        if not database.is_away(error):
            raise
        sys.exit(database.explain(error))
    except Exception as error:
        # A pipeline that is declared wrongly names itself and the mistake.
        if type(error).__name__ != "PipelineError" or "--traceback" in sys.argv:
            raise
        sys.exit(str(error))


if __name__ == "__main__":
    main()
