#!/usr/bin/env python
"""Slackwater's command line."""

import os
import sys


def main() -> None:
    """Run a management command; a configuration mistake is one sentence, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backend.settings.dev")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
