"""Your own apps with pipelines: ``SLACKWATER_APPS``, else those that ``DATA_DIR`` remembers.

The system that ``manage.py up`` starts and every shell beside it must have the same apps, or shells would create runs
that no worker knows. So ``up`` stores its apps and the folders of their modules, and all commands with the same
``DATA_DIR`` read them. The file is ``apps.json``: ``{"apps": ["photos"], "paths": ["/srv/pipelines"]}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

FILE = "apps.json"


def load(named: Sequence[str], data_dir: Path) -> list[str]:
    """Return the apps to install: ``named``, else the remembered ones. Each can be imported from then on.

    Raises ``ImproperlyConfigured`` for one that cannot be found.
    """
    apps, source = list(named), "SLACKWATER_APPS"
    if not apps and "SLACKWATER_APPS" not in os.environ:
        apps, paths = _remembered(data_dir / FILE)
        source = str(data_dir / FILE)
        sys.path.extend(path for path in paths if path not in sys.path)
    for app in apps:
        _require(app, source)
    return apps


def remember(apps: Sequence[str], data_dir: Path) -> None:
    """Store ``apps`` and their folders for the commands of the same ``data_dir``; without apps, remove the file."""
    file = data_dir / FILE
    if not apps:
        file.unlink(missing_ok=True)
        return
    stored = {"apps": list(apps), "paths": sorted({_folder_of(app) for app in apps})}
    fresh = file.with_name(f".{FILE}.{os.getpid()}")
    fresh.write_text(json.dumps(stored, indent=2) + "\n")
    fresh.replace(file)


def _remembered(file: Path) -> tuple[list[str], list[str]]:
    try:
        stored = json.loads(file.read_text())
        apps, paths = stored["apps"], stored["paths"]
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except (OSError, ValueError, KeyError, TypeError):
        apps, paths = None, None
    if not (isinstance(apps, list) and isinstance(paths, list) and all(isinstance(one, str) for one in apps + paths)):
        raise ImproperlyConfigured(f'Cannot read {file}: expected {{"apps": ["name"], "paths": ["folder"]}}.')
    return apps, paths


def _require(app: str, source: str) -> None:
    module = app
    # As in INSTALLED_APPS, an app may be named by its configuration class.
    if app.rpartition(".")[2][:1].isupper():
        module = app.rpartition(".")[0]
    try:
        # Not imported: an app may use Django, which is not set up yet.
        if find_spec(module) is None:
            raise ModuleNotFoundError(name=module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if not f"{module}.".startswith(f"{missing}."):
            raise ImproperlyConfigured(f"Cannot load the app {app} ({source}): it needs {missing}.") from None
        raise ImproperlyConfigured(
            f"Cannot find the app {app} ({source}): there is no module {missing} in this checkout or on PYTHONPATH. "
            "Set PYTHONPATH to the folder that has it."
        ) from None
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise ImproperlyConfigured(f"Cannot load the app {app} ({source}): {problem}.") from None


def _folder_of(app: str) -> str:
    """Return the folder that the top package of ``app`` is imported from."""
    spec = find_spec(app.partition(".")[0])
    assert spec is not None
    folders = spec.submodule_search_locations
    here = Path(next(iter(folders))) if folders else Path(str(spec.origin))
    return str(here.parent.resolve())
