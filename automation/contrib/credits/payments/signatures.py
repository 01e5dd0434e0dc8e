"""Signatures of webhooks in Stripe's scheme: ``t=<seconds>,v1=<hex>[,v1=…]`` over ``<t>.<body>``. Pure.

The documented scheme: https://docs.stripe.com/webhooks#verify-manually
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from automation.contrib.credits.errors import NoticeInvalid

LONGEST_HEADER = 4_096


def verify(header: str, body: bytes, secrets: Sequence[str], *, now: float, tolerance: int) -> None:
    """Return if one ``v1`` of ``header`` was made with one of ``secrets`` within ``tolerance`` seconds of ``now``.

    Raises ``NoticeInvalid``. Other schemes in the header are not looked at.
    """
    signed_at, given = _parts(header)
    is_signed = False
    for secret in secrets:
        expected = sign(signed_at, body, secret).encode()
        for one in given:
            # All are compared, so that the time tells nothing.
            is_signed |= hmac.compare_digest(expected, one.encode("utf-8", "replace"))
    if not is_signed:
        raise NoticeInvalid("its signature is not of a secret that is set up")
    if abs(now - int(signed_at)) > tolerance:
        apart = f"{abs(now - int(signed_at)):.0f} s"
        raise NoticeInvalid(f"it was signed {apart} from now; expected {tolerance} s at most")


def sign(signed_at: str, body: bytes, secret: str) -> str:
    """The ``v1`` of ``body``, signed at that Unix time."""
    return hmac.new(secret.encode(), signed_at.encode() + b"." + body, hashlib.sha256).hexdigest()


def _parts(header: str) -> tuple[str, list[str]]:
    if not header or len(header) > LONGEST_HEADER:
        raise NoticeInvalid("expected a signature such as t=1700000000,v1=5f2c…, got none")
    pairs = [part.strip().partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in pairs if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) < 12):
        raise NoticeInvalid("expected a signature with one time, such as t=1700000000")
    found = [value for name, value in pairs if name == "v1"]
    if not found:
        raise NoticeInvalid("expected a signature of the scheme v1")
    return times[0], found
