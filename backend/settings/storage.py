"""Turns ``STORAGE_URL``, the place of files, into Django's ``STORAGES["default"]``."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SHAPES = (
    "expected file:///path (?shared=1 if every machine has that directory) or s3://bucket/prefix"
    "?endpoint_url=http://host:9000&region=name&addressing_style=path"
)
FILE_OPTIONS = ("shared",)
S3_OPTIONS = ("endpoint_url", "region", "addressing_style")
STYLES = ("auto", "virtual", "path")
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class WrongURL(ValueError):
    """The value cannot be used; the message says what is wrong and what is allowed."""


@dataclass(frozen=True)
class Files:
    """``STORAGES["default"]``, and the problem with the variable, if any."""

    backend: dict[str, Any]
    problem: str = ""


def files(url: str, default: Path) -> Files:
    """Return the storage for ``url``; if it cannot be used, one that says so. If empty, the directory ``default``."""
    try:
        return Files(_local(default, is_shared=False) if not url else _parsed(url))
    except WrongURL as wrong:
        problem = f"STORAGE_URL: {wrong}"
        return Files({"BACKEND": "automation.files.storage.Unusable", "OPTIONS": {"problem": problem}}, problem)


def _parsed(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        has_login, host, port = "@" in parts.netloc, parts.netloc, parts.port
    except ValueError as error:
        raise WrongURL(f"{SHAPES}, got one that is not a URL ({error})") from None
    if has_login:
        raise WrongURL(
            "expected no user or password in it, since it is shown; S3 credentials belong in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if parts.fragment:
        raise WrongURL(f"expected nothing after #, got: #{parts.fragment}")
    if parts.scheme == "file":
        return _file(host, unquote(parts.path), _options(parts.query, FILE_OPTIONS))
    if parts.scheme == "s3":
        if port is not None:
            raise WrongURL(f"expected a bucket after s3://, got: {host} (a server goes into endpoint_url)")
        return _s3(host, unquote(parts.path).strip("/"), _options(parts.query, S3_OPTIONS))
    raise WrongURL(f"{SHAPES}, got: {url}")


def _file(host: str, path: str, options: dict[str, str]) -> dict[str, Any]:
    if host not in ("", "localhost"):
        raise WrongURL(f"expected an absolute path with three slashes, file:///{host}{path}, got: file://{host}{path}")
    if not path.startswith("/") or not path.strip("/"):
        raise WrongURL(f"expected file:/// and a directory, got: file://{path}")
    if "\x00" in path:
        raise WrongURL("expected a path without NUL")
    if Path(path).exists() and not Path(path).is_dir():
        raise WrongURL(f"expected a directory, got a file: {path}")
    shared = options.get("shared", "0").lower()
    if shared not in YES + NO:
        raise WrongURL(f"expected shared=1 or shared=0, got: shared={shared}")
    return _local(Path(path), is_shared=shared in YES)


def _local(path: Path, *, is_shared: bool) -> dict[str, Any]:
    return {
        "BACKEND": "automation.files.local.LocalFiles",
        "OPTIONS": {"location": str(path), "is_shared": is_shared},
    }


def _s3(bucket: str, prefix: str, options: dict[str, str]) -> dict[str, Any]:
    if _BUCKET.fullmatch(bucket) is None:
        raise WrongURL(
            "expected the name of a bucket after s3:// (3 to 63 lower-case letters, digits, dots and hyphens), "
            f"got: {bucket or 'nothing'}"
        )
    if ".." in prefix.split("/"):
        raise WrongURL(f"expected a prefix without .., got: {prefix}")
    endpoint = options.get("endpoint_url", "")
    if "endpoint_url" in options:
        _check_endpoint(endpoint)
    style = options.get("addressing_style", "auto")
    if style not in STYLES:
        raise WrongURL(f"expected addressing_style to be one of {', '.join(STYLES)}, got: {style}")
    return {
        "BACKEND": "automation.files.s3.S3Files",
        "OPTIONS": {
            "bucket_name": bucket,
            "location": prefix,
            "endpoint_url": endpoint or None,
            "region_name": options.get("region") or None,
            "addressing_style": style,
        },
    }


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in endpoint:
        raise WrongURL(f"expected endpoint_url=http://host:port or https://host, got: {endpoint or 'nothing'}")


def _options(query: str, allowed: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise WrongURL(f"expected {' or '.join(allowed)} after the ?, got: {name}{hint}")
        if name in found:
            raise WrongURL(f"expected {name} once, got it twice")
        found[name] = value
    return found
