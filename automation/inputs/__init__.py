"""Reads what a run is created from: looks before it starts, says what it saw, and refuses what nobody meant.

A pipeline declares its reader (``reader = Rows()``). Nothing is created from an input that is wrong anywhere: it is
read once to check and count, and again for its items.
"""

from __future__ import annotations

from automation.inputs.reader import Check, Input, Reader, no_check
from automation.inputs.report import LeftOut, Report
from automation.inputs.rows import Rows

__all__ = ["Check", "Input", "LeftOut", "Reader", "Report", "Rows", "no_check"]
