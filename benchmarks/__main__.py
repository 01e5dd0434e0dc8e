"""``python -m benchmarks``: every claim, one JSON object a line; each script in a process of its own."""

from __future__ import annotations

import subprocess
import sys

SCRIPTS = (
    "throughput",
    "overhead",
    "stop_check",
    "pause",
    "million",
    "purge",
    "gate",
    "poll",
    "admission",
    "paused_claim",
    "fleet_toggle",
    "drop_in",
    "comeback",
    "memory",
    "credits",
    "resources",
    "waiting",
)


def main() -> int:
    """0 if every script ran; whether the claims hold is in the lines."""
    wanted = sys.argv[1:] or SCRIPTS
    unknown = set(wanted) - set(SCRIPTS)
    if unknown:
        print(f"expected some of {', '.join(SCRIPTS)}, got: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    return max(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in wanted)


if __name__ == "__main__":
    raise SystemExit(main())
