"""A task that tells exactly what it was given, whatever that is."""

from __future__ import annotations

import pickle

from celery import shared_task

from tests.foreign.tasks import store

TOLD = "foreign-told"
_OF_THE_DELIVERY = ("redelivered",)


@shared_task(bind=True)
def tells(self, /, *args, what, **kwargs):
    request = self.request
    headers = {name: value for name, value in (request.headers or {}).items() if name not in _OF_THE_DELIVERY}
    told = (args, kwargs, headers, request.shadow, request.reply_to, request.stamps, self.name)
    store().rpush(TOLD, pickle.dumps((what, told)))


@shared_task(bind=True, name="tests.foreign.echo_task." + "x" * 300)
def named_at_length(self, /, *args, what, **kwargs):
    store().rpush(TOLD, pickle.dumps((what, (args, kwargs, self.name))))
