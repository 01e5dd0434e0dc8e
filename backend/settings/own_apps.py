"""Which apps with pipelines of your own there are: ``SLACKWATER_APPS``, else what ``DATA_DIR`` remembers of it.

The system that ``manage.py up`` starts and every shell beside it must have the same apps, or runs are created that no
worker knows. So ``up`` writes down what it was started with, and where the modules were found, and all commands of
the same ``DATA_DIR`` read it. The file is ``apps.json``: ``{"apps": ["photos"], "paths": ["/srv/pipelines"]}``.
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
    """The apps to install: ``named``, else those that are written down. Each can be found from here on.

    Raises ``ImproperlyConfigured`` for one that cannot.
    """
    apps, source = list(named), "SLACKWATER_APPS"
    if not apps and "SLACKWATER_APPS" not in os.environ:
        apps, paths = _written(data_dir / FILE)
        source = str(data_dir / FILE)
        sys.path.extend(path for path in paths if path not in sys.path)
    for app in apps:
        _require(app, source)
    return apps


def remember(apps: Sequence[str], data_dir: Path) -> None:
    """Write down ``apps`` and where they are, for the commands of the same ``data_dir``; none: forget them."""
    file = data_dir / FILE
    if not apps:
        file.unlink(missing_ok=True)
        return
    told = {"apps": list(apps), "paths": sorted({_folder_of(app) for app in apps})}
    fresh = file.with_name(f".{FILE}.{os.getpid()}")
    fresh.write_text(json.dumps(told, indent=2) + "\n")
    fresh.replace(file)


def _written(file: Path) -> tuple[list[str], list[str]]:
    try:
        told = json.loads(file.read_text())
        apps, paths = told["apps"], told["paths"]
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except (OSError, ValueError, KeyError, TypeError):
        apps, paths = None, None
    if not (isinstance(apps, list) and isinstance(paths, list) and all(isinstance(one, str) for one in apps + paths)):
        raise ImproperlyConfigured(f'Cannot read {file}: expected {{"apps": ["name"], "paths": ["folder"]}}.')
    return apps, paths


def _require(app: str, source: str) -> None:
    module = app
    # An app may be named by its configuration class, as in INSTALLED_APPS.
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
        told = f"{type(error).__name__}: {error}"
        raise ImproperlyConfigured(f"Cannot load the app {app} ({source}): {told}.") from None


def _folder_of(app: str) -> str:
    """The folder from which the top package of ``app`` was imported."""
    spec = find_spec(app.partition(".")[0])
    assert spec is not None
    folders = spec.submodule_search_locations
    here = Path(next(iter(folders))) if folders else Path(str(spec.origin))
    return str(here.parent.resolve())
