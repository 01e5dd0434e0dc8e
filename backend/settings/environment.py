"""Typed readers of environment variables, for the settings only."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger("backend.settings")


def text(name: str, default: str = "") -> str:
    """Return the value of ``name``, stripped; ``default`` if it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def required(name: str) -> str:
    """Return the value of ``name``. Raises ``ImproperlyConfigured`` if it is unset or empty."""
    value = text(name)
    if not value:
        raise ImproperlyConfigured(f"Cannot start: {name} is not set.")
    return value


def words(name: str, default: str = "") -> list[str]:
    """Return the comma-separated values of ``name``."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def choice(name: str, allowed: tuple[str, ...]) -> str:
    """Return the value of ``name``, one of ``allowed``; the first one if it is unset."""
    value = text(name, allowed[0])
    if value not in allowed:
        raise ImproperlyConfigured(f"{name}: expected one of {', '.join(allowed)}, got: {value}")
    return value


def number(name: str, default: int, *, least: int | None = None) -> int:
    """Return the whole number in ``name``, ``least`` or more."""
    value = text(name, str(default))
    try:
        found = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}: expected a whole number, got: {value}") from None
    if least is not None and found < least:
        raise ImproperlyConfigured(f"{name}: expected a whole number of at least {least}, got: {value}")
    return found


def forgiving_number(name: str, default: float, *, least: float, most: float) -> float:
    """Return the number in ``name``; warns and returns ``default`` unless it is from ``least`` to ``most`` (P-07)."""
    value = text(name)
    if not value:
        return default
    try:
        found = float(value)
    except ValueError:
        found = float("nan")
    if least <= found <= most:
        return found
    logger.warning("%s: expected a number from %g to %g, got: %s. Using %g.", name, least, most, value, default)
    return default


def switch(name: str, default: bool = False) -> bool:
    """Return whether ``name`` is true."""
    value = text(name, str(default)).lower()
    if value not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ImproperlyConfigured(f"{name}: expected true or false, got: {value}")
    return value in {"1", "true", "yes", "on"}


def broker_url(redis_url: str) -> str:
    """Return the Celery broker URL for a redis-py URL; they differ for Unix sockets."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{unquote(parts.path)}?virtual_host={database}"


DATABASES = ("postgres", "postgresql", "pgsql")
BROKERS = ("redis", "rediss", "unix")


def url(name: str, default: str, schemes: tuple[str, ...], example: str) -> str:
    """Return the URL in ``name``, with one of ``schemes``. Errors do not repeat it: it may contain a password."""
    found = text(name, default)
    if found.partition("://")[0] not in schemes or "://" not in found:
        raise ImproperlyConfigured(f"Cannot use {name}: expected a URL such as {example}.")
    return found


def data_dir(base: Path) -> Path:
    """Return the folder in ``DATA_DIR``, which need not exist. Raises ``ImproperlyConfigured`` if it cannot be one."""
    #: Where servers, files, logs and credentials are stored.
    path = (base / text("DATA_DIR", ".data")).resolve()
    there = next(folder for folder in (path, *path.parents) if _is_there(folder, path))
    if not there.is_dir():
        raise ImproperlyConfigured(f"Cannot use DATA_DIR {path}: {there} is not a folder.")
    return path


def _is_there(folder: Path, path: Path) -> bool:
    try:
        return folder.exists()
    except OSError as error:
        raise ImproperlyConfigured(f"Cannot use DATA_DIR {path}: {_fact(error)}.") from None


def _fact(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


_made: list[Path] = []
"""The secret that this process has created in a new folder, and the folders it created for it, innermost first."""


def undo() -> None:
    """Remove the secret and the folders that :func:`generated_secret` created, unless they hold anything else."""
    secret, *folders = _made or [Path()]
    _made.clear()
    with contextlib.suppress(OSError):
        if folders and list(secret.parent.iterdir()) == [secret]:
            secret.unlink()
            for folder in folders:
                folder.rmdir()


def generated_secret(path: Path) -> str:
    """Return the secret in ``path``, which is created with mode 0600 if it does not exist."""
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _made.extend([path, *missing] if missing else [])
    except OSError as error:
        # In /proc and the like, creating a folder fails with "no such file or directory".
        fact = "nothing can be created there" if isinstance(error, FileNotFoundError) else _fact(error)
        raise ImproperlyConfigured(f"Cannot create DATA_DIR {path.parent}: {fact}.") from None
    try:
        if not path.exists():
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(48))
            try:
                os.link(fresh, path)  # the first process wins; the others read its secret
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"Cannot store the secret key in {path}: {_fact(error)}.") from None
