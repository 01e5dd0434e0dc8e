"""The settings of a foreign project; the test gives it the servers, and says whether its tasks are pausable."""

import json
import os

import dj_database_url
from kombu import Exchange, Queue

from pause_manager.schedule import beat_schedule

SECRET_KEY = "only-for-tests-and-worthless-anywhere-else"
USE_TZ = True
INSTALLED_APPS = ["pause_manager"]
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ["REDIS_URL"]
RESULTS = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
BROKER = os.environ.get("FOREIGN_BROKER", RESULTS)
TASK_CLS = os.environ.get("FOREIGN_TASK_CLS", "pause_manager.pausable:PausableTask")

CELERY_BROKER_URL = BROKER
CELERY_RESULT_BACKEND = os.environ.get("FOREIGN_BACKEND", RESULTS)
CELERY_RESULT_EXPIRES = int(os.environ.get("FOREIGN_RESULT_EXPIRES", "86400"))
CELERY_ACCEPT_CONTENT = os.environ.get("FOREIGN_ACCEPT", "json,pickle").split(",")
CELERY_RESULT_ACCEPT_CONTENT = ["json", "pickle"]
CELERY_TASK_ACKS_LATE = os.environ.get("FOREIGN_ACKS_LATE") == "1"
CELERY_TASK_REJECT_ON_WORKER_LOST = os.environ.get("FOREIGN_REJECTS_LOST") == "1"
CELERY_TASK_TRACK_STARTED = True
CELERY_WORKER_POOL_START_METHOD = os.environ.get("FOREIGN_START_METHOD", "fork")
CELERY_WORKER_POOL_RESTARTS = os.environ.get("FOREIGN_POOL_RESTARTS") == "1"
CELERY_TASK_DEFAULT_QUEUE = "foreign"
if os.environ.get("FOREIGN_TOPOLOGY") == "quorum":
    # Countdowns and retries wait in RabbitMQ, by Celery's native delayed delivery, which needs a topic exchange.
    arguments = {"x-queue-type": "quorum"}
    CELERY_TASK_QUEUES = [Queue("foreign", Exchange("delayed", type="topic"), "foreign", queue_arguments=arguments)]
elif os.environ.get("FOREIGN_TOPOLOGY") == "dead-letters":
    # What a task rejects comes back after two seconds in a queue that nobody consumes.
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "foreign-later"}
    CELERY_TASK_QUEUES = [Queue("foreign", queue_arguments=arguments)]
elif os.environ.get("FOREIGN_TOPOLOGY") == "topic":
    media = Exchange("media", type="topic")
    CELERY_TASK_QUEUES = [
        Queue("foreign"),
        Queue("feeds", media, "feed.#"),
        Queue("videos", media, "video.#"),
        Queue("everything", media, "#"),
    ]
CELERY_TASK_DEFAULT_PRIORITY = 3
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if BROKER.startswith("redis"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "visibility_timeout": int(os.environ.get("FOREIGN_VISIBILITY", "3600")),
        "unacked_restore_throttle": 1,
        "client_name": os.environ.get("FOREIGN_CLIENT"),
    }
CELERY_BEAT_SCHEDULE = beat_schedule(poll=float(os.environ.get("FOREIGN_POLL", "10")))

PAUSE_MANAGER = {
    "redis_url": REDIS_URL,
    "channel": f"{os.environ['REDIS_PREFIX']}control",
    "node_key_prefix": f"{os.environ['REDIS_PREFIX']}node:",
    "runtime_dir": os.environ["DATA_DIR"],
    "with_gpus": False,
    "capacity": os.environ.get("FOREIGN_CAPACITY") == "1",
    "answer_grace_seconds": float(os.environ.get("FOREIGN_GRACE", "10")),
    **json.loads(os.environ.get("FOREIGN_OPTIONS", "{}")),
}
