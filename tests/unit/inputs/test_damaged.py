"""Whatever is done to a file, it is read or it is refused: nothing else is ever raised."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from automation.contrib.content.keywords import Keywords
from automation.errors import InvalidInput
from automation.inputs import Reader, Rows

FILES = sorted(path for path in (Path(__file__).parents[2] / "data" / "inputs").iterdir() if path.suffix != ".md")
SPLICES = (b"\n", b",", b'"', b";", b"\t", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"{", b"[", b"<", b"Total: x\n")
ROUNDS = 600


def damaged(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 30])):
        if not changed:
            break
        at = chance.randrange(len(changed))
        way = chance.randrange(5)
        if way == 0:
            changed[at] = chance.randrange(256)
        elif way == 1:
            del changed[at : at + chance.randrange(1, 20)]
        elif way == 2:
            changed[at:at] = chance.choice(SPLICES)
        elif way == 3:
            del changed[at:]
        else:
            changed += chance.choice(FILES).read_bytes()[:2_000]
    return bytes(changed)


@pytest.mark.parametrize("reader", [Rows(), Keywords()], ids=["Rows", "Keywords"])
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_is_read_or_refused(reader: Reader, seed: int) -> None:
    chance = random.Random(seed)
    read = 0
    sentences: list[str] = []
    for _ in range(ROUNDS):
        content = damaged(chance.choice(FILES).read_bytes(), chance)
        name = chance.choice(FILES).name
        try:
            given = reader.read(io.BytesIO(content), name)
        except InvalidInput as refusal:
            sentences.append(str(refusal))
        else:
            assert sum(1 for _ in given) == given.count > 0
            read += 1

    assert 0 < read < ROUNDS
    assert [sentence for sentence in sentences if not sentence.startswith("Cannot use ")] == []
