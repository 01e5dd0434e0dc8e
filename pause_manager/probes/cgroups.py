"""Where the control groups of this process are: v1, v2 and both at once, from its own up to the top that is visible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Levels:
    """The directories of one controller, from this process's own group up to the mount. Empty: there is none."""

    version: int
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class _Mount:
    point: Path
    root: str
    controllers: frozenset[str]
    version: int


def levels(controller: str, root: Path = Path("/")) -> Levels:
    """The groups that limit this process for ``controller`` (``cpu``, ``cpuacct``, ``memory``).

    Limits nest: a caller that wants the limit in force takes the tightest of all levels. ``root`` is where the
    machine's file tree begins. A controller that is mounted as v1 is not in v2, so v1 is looked at first.
    """
    groups = _own_groups(root)
    for mount in sorted(_mounts(root), key=lambda mount: mount.version):
        if mount.version == 1 and controller in mount.controllers and controller in groups:
            return Levels(1, _upwards(mount, groups[controller]))
        if mount.version == 2 and "" in groups:
            return Levels(2, _upwards(mount, groups[""]))
    return Levels(0, ())


def name_of(path: Path) -> str:
    """Return what tells the group at ``path`` from any other of its kind, from whichever container it is looked at.

    The kernel numbers its groups; a namespace hides their paths and leaves the numbers.
    """
    try:
        return str(path.stat().st_ino)
    except OSError:
        return ""


def _own_groups(root: Path) -> dict[str, str]:
    """Controller to path; v2 has no controller's name."""
    groups: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        groups.update(dict.fromkeys(names.split(","), path))
    return groups


def _mounts(root: Path) -> list[_Mount]:
    found: list[_Mount] = []
    for line in _lines(root / "proc/self/mountinfo"):
        own, _, filesystem = line.partition(" - ")
        fields, (kind, _, options) = own.split(), (*filesystem.split(" ", 2), "", "", "")[:3]
        if kind in ("cgroup", "cgroup2"):
            point = root / _unescaped(fields[4]).lstrip("/")
            version = 2 if kind == "cgroup2" else 1
            found.append(_Mount(point, _unescaped(fields[3]), frozenset(options.split(",")), version))
    return found


def _upwards(mount: _Mount, group: str) -> tuple[Path, ...]:
    # In a container without a namespace of its own the mount shows only what is below the container's group.
    inside = group.removeprefix(mount.root.rstrip("/")) if group.startswith(mount.root) else ""
    own = mount.point / inside.strip("/")
    if ".." in inside or not own.is_dir():
        own = mount.point
    depth = len(own.relative_to(mount.point).parts)
    return (own, *own.parents[:depth])


def _unescaped(path: str) -> str:
    return path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line]
    except OSError:
        return []
