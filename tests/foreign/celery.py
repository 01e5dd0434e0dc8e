"""The foreign project's Celery app; the one line that makes its tasks pausable is ``task_cls``."""

import os
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.foreign.settings")
warnings.filterwarnings("ignore", category=SecurityWarning)

if os.environ.get("FOREIGN_TELEMETRY"):
    from tests.foreign import telemetry

    telemetry.start(os.environ["FOREIGN_TELEMETRY"])

app = Celery("foreign", task_cls=os.environ.get("FOREIGN_TASK_CLS", "pause_manager.pausable:PausableTask"))
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["tests.foreign"])
for _module in ("counted_tasks", "echo_task", "soak_tasks"):
    app.autodiscover_tasks(["tests.foreign"], related_name=_module)
