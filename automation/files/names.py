"""The names of files: the one check that every name passes, and a safe name made from any text."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from django.utils.text import slugify

from automation.conf import SLUG
from automation.errors import FileNameRefused

MOST_BYTES = 400
"""Of a name, in UTF-8."""
MOST_PART_BYTES = 200
"""Of each part of it: file systems take 255, and a version is added."""
MOST_SHOWN = 100
SLUG_CHARACTERS = 80
VERSION = re.compile(r"[0-9a-f]{16}")


def checked(name: Any) -> str:
    """``name`` if it can be that of a file of a stage, else :class:`FileNameRefused` with what is wrong with it.

    It is a relative path of parts between slashes, none of them empty, ``.`` or ``..``, without backslashes and control
    characters, of 400 bytes at most and 200 in each part.
    """
    if not isinstance(name, str):
        raise FileNameRefused(repr(name)[:MOST_SHOWN], f"is not a text but {type(name).__name__}")
    if (fact := _wrong(name)) is not None:
        raise FileNameRefused(repr(name[:MOST_SHOWN]), fact)
    return name


def checked_stage(slug: Any) -> str:
    """``slug`` if it can be that of a stage, else :class:`FileNameRefused`."""
    if not isinstance(slug, str) or SLUG.fullmatch(slug) is None:
        raise FileNameRefused(repr(slug)[:MOST_SHOWN], "is not the slug of a stage")
    return slug


def _wrong(name: str) -> str | None:
    if not name:
        return "is empty"
    if name.startswith("/"):
        return "is absolute"
    if "\\" in name:
        return "has a backslash"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        return "has a character that is not allowed (NUL, a line break or another control character)"
    parts = name.split("/")
    if "" in parts:
        return "has an empty part between two slashes, or after the last"
    if ".." in parts or "." in parts:
        return "has a part that is . or .."
    if any(part != part.strip() for part in parts):
        return "has a part that begins or ends with a space"
    if len(name.encode()) > MOST_BYTES:
        return f"is longer than {MOST_BYTES} bytes"
    if any(len(part.encode()) > MOST_PART_BYTES for part in parts):
        return f"has a part longer than {MOST_PART_BYTES} bytes"
    return None


def slug_name(text: Any) -> str:
    """A safe name for ``text``, whatever is in it: lower-case ASCII letters, digits, ``-`` and ``_``, up to 89 of them.

    Two texts never share a name: one that is no such name itself gets 8 digits of its hash, so ``red-shoes`` stays as
    it is and ``Red shoes!`` is ``red-shoes-`` and those.
    """
    given = str(text)
    slug = slugify(given)[:SLUG_CHARACTERS].strip("-_")
    if slug and slug == given and not _HASHED.search(slug):
        return slug
    digest = hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{slug or 'name'}-{digest}"


_HASHED = re.compile(r"-[0-9a-f]{8}\Z")


def folder(run_id: UUID) -> str:
    """Where the storage keeps all files of a run."""
    return f"runs/{run_id}"


def full_name(run_id: UUID, stage_slug: str, name: str) -> str:
    """What is kept in outputs as the name of a file, and where files of earlier releases are."""
    return f"{folder(run_id)}/{checked_stage(stage_slug)}/{checked(name)}"


def new_location(run_id: UUID, stage_slug: str, name: str) -> str:
    """A place in the storage where nothing has ever been, for the content of ``name``; its ending stays."""
    path = PurePosixPath(full_name(run_id, stage_slug, name))
    return str(path.with_name(f"{path.stem}.{secrets.token_hex(8)}{path.suffix}"))
