"""The settings of Celery; ``backend.celery`` reads the ``CELERY_`` names.

A message only says "look at this": the database is the truth, so no message needs a result, a retry or a long wait.
"""

from __future__ import annotations

from typing import Any

from backend.settings import environment as env
from pause_manager.schedule import CONTROL_TASKS as PAUSE_MANAGER_TASKS
from pause_manager.schedule import entry

CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = "UTC"

CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False  # reconcile sends again, from the database
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

CELERY_TASK_DEFAULT_QUEUE = "stages"
CELERY_TASK_ROUTES = {
    "automation.reconcile": {"queue": "control"},
    "automation.reap_leases": {"queue": "control"},
    "automation.go_on": {"queue": "control"},
    "automation.purge": {"queue": "control"},
    "automation.copy_undone": {"queue": "control"},
    "automation.start_scheduled": {"queue": "control"},
    "credits.*": {"queue": "control"},
    "pause_manager.*": {"queue": "control"},
}

# A request that sends a message must never hang because Redis is unavailable.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
    "visibility_timeout": 3600,
    "socket_connect_timeout": 2,
    "socket_timeout": 3,
    "socket_keepalive": True,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}

CELERY_BEAT_SCHEDULER = "backend.beat:HeartbeatScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
#: How often parked work is looked through.
POLL_SECONDS = env.forgiving_number("PAUSE_POLLING_INTERVAL_SECONDS", 10.0, least=1, most=3600)
#: Free share of a node, in percent, below which nothing starts there.
PAUSE_BELOW = env.forgiving_number("PAUSE_CAPACITY_THRESHOLD_PERCENT", 20.0, least=0, most=100) / 100
CONTROL_TASKS = {
    "automation.reconcile": 5.0,
    "automation.reap_leases": 5.0,
    "automation.purge": 60.0,
    "automation.copy_undone": 5.0,
    "credits.sweep": 5.0,
    "credits.issue_invoices": 300.0,
    "credits.send_notices": 60.0,
    "automation.start_scheduled": 15.0,
    **PAUSE_MANAGER_TASKS,
    "pause_manager.poll": POLL_SECONDS,
}
CELERY_BEAT_SCHEDULE: dict[str, Any] = {task: entry(task, seconds) for task, seconds in CONTROL_TASKS.items()}
