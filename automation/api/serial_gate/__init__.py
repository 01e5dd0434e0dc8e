"""The serial gate: park one run, or freeze a whole lane, so that others may, or must not, pass."""
