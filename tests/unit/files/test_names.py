"""Names of files: one check for all that is done with them, and a safe name from any text."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from django.core.files.storage import FileSystemStorage
from hypothesis import given
from hypothesis import strategies as st

from automation.errors import FileNameRefused
from automation.files import names
from automation.files.artifacts import Artifacts
from automation.pipeline import slug_name

RUN = UUID(int=1)

REFUSED = [
    ("", "is empty"),
    ("/etc/passwd", "is absolute"),
    ("//x", "is absolute"),
    ("../other.txt", "has a part that is . or .."),
    ("a/../../other.txt", "has a part that is . or .."),
    ("a/./b", "has a part that is . or .."),
    (".", "has a part that is . or .."),
    ("..", "has a part that is . or .."),
    ("a//b", "has an empty part"),
    ("a/", "has an empty part"),
    ("a\\..\\b", "has a backslash"),
    ("a\x00b", "has a character that is not allowed"),
    ("a\nb", "has a character that is not allowed"),
    ("a\x7fb", "has a character that is not allowed"),
    ("a\ud800b", "has a character that is not allowed"),
    (" /b", "has a part that begins or ends with a space"),
    ("a" * 201, "has a part longer than 200 bytes"),
    ("é" * 101, "has a part longer than 200 bytes"),
    ("/".join(["a" * 100] * 5), "is longer than 400 bytes"),
    (b"bytes", "is not a text but bytes"),
    (None, "is not a text but NoneType"),
    (Path("a"), "is not a text but PosixPath"),
]


@pytest.mark.parametrize(("name", "fact"), REFUSED)
@pytest.mark.parametrize("verb", ["save", "open", "read", "exists", "delete", "name"])
def test_a_wrong_name_is_refused_before_anything_is_touched(verb, name, fact, tmp_path):
    root = tmp_path / "media"
    victim = root / "runs" / str(UUID(int=2)) / "any" / "secret.txt"
    victim.parent.mkdir(parents=True)
    victim.write_bytes(b"of another tenant")
    artifacts = Artifacts(RUN, "any", FileSystemStorage(str(root)))

    with pytest.raises(FileNameRefused, match="Cannot use the file name") as refused:
        getattr(artifacts, verb)(name, *([b"x"] if verb == "save" else []))

    assert fact in str(refused.value)
    assert "Expected a relative path like pages/shoes.html" in str(refused.value)
    assert [path for path in root.rglob("*") if path.is_file()] == [victim]
    assert victim.read_bytes() == b"of another tenant"


@pytest.mark.parametrize("verb", ["open", "read", "exists", "name"])
@pytest.mark.parametrize("stage", ["..", "../other", "", "a/b", "A", None.__class__])
def test_the_name_of_a_stage_is_checked_too(verb, stage, tmp_path):
    artifacts = Artifacts(RUN, "any", FileSystemStorage(str(tmp_path)))

    with pytest.raises(FileNameRefused, match="is not the slug of a stage"):
        getattr(artifacts, verb)("a.txt", stage=stage)


@pytest.mark.parametrize("verb", ["read", "save", "delete"])
def test_files_of_another_run_are_out_of_reach_by_the_name_that_the_finding_tried(verb, tmp_path):
    other = Artifacts(UUID(int=2), "any", FileSystemStorage(str(tmp_path)))
    other.save("secret.txt", b"of another tenant")
    ours = Artifacts(RUN, "any", FileSystemStorage(str(tmp_path)))

    with pytest.raises(FileNameRefused):
        getattr(ours, verb)(f"../../{UUID(int=2)}/any/secret.txt", *([b"x"] if verb == "save" else []))

    assert other.read("secret.txt") == b"of another tenant"


@pytest.mark.parametrize(
    "name", ["a.txt", "pages/über/漢字.html", ".hidden", "a..b", "...", "x" * 200, "a b", "C:x", "%2e%2e"]
)
def test_other_names_are_kept_as_they_are(name, tmp_path):
    artifacts = Artifacts(RUN, "any", FileSystemStorage(str(tmp_path)))

    assert artifacts.save(name, b"content") == f"runs/{RUN}/any/{name}"
    assert artifacts.read(name) == b"content"


@given(st.text(max_size=300), st.text(max_size=300))
def test_a_safe_name_is_made_of_any_text_and_of_no_other(one, other):
    assert names.checked(slug_name(one)) == slug_name(one)
    assert names.checked(f"{slug_name(one)}.html")
    assert slug_name(one).isascii()
    assert (slug_name(one) == slug_name(other)) == (one == other)
    # A directory that knows no case has as many.
    assert slug_name(one) == slug_name(one).lower()


def test_safe_names_are_readable():
    assert slug_name("red-shoes") == "red-shoes"
    assert slug_name("Red shoes!").startswith("red-shoes-")
    assert slug_name("Crème brûlée").startswith("creme-brulee-")
    assert slug_name("../../etc/passwd").startswith("etcpasswd-")
    assert slug_name("靴").startswith("name-")
    assert slug_name(12) == "12"
    # What looks like one that was made of another text is made longer itself.
    assert slug_name(slug_name("Red shoes!")) != slug_name("Red shoes!")


@given(st.from_regex(r"[a-z./é]{1,120}", fullmatch=True))
def test_a_new_place_is_beside_the_name_and_has_never_been(name):
    try:
        full = names.full_name(RUN, "any", name)
    except FileNameRefused:
        return

    one, other = names.new_location(RUN, "any", name), names.new_location(RUN, "any", name)

    assert one != other
    assert one.rpartition("/")[0] == full.rpartition("/")[0]
    assert len(one.rpartition("/")[2].encode()) <= 255
