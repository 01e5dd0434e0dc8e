"""An operator's process: carries out the orders of :class:`tests.support.delivery_lives.Here`, one JSON per line."""

from __future__ import annotations

import json
import os
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.foreign.settings"

import django
from django.db import connection

django.setup()

from tests.foreign.celery import app
from tests.support.delivery_lives import Here

app.set_current()


def main() -> None:
    orders = Here()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        verb, *args = json.loads(line)
        answer: dict[str, str] = {}
        try:
            getattr(orders, verb)(*args)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            # As between two requests.
            connection.close_if_unusable_or_obsolete()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
