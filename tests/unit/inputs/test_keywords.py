"""Every shape of input a person may hand over, and what is said about those that cannot be used."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any, cast

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from automation.contrib.content.keywords import LONGEST_KEYWORD, Keywords
from automation.errors import InvalidInput
from automation.inputs import Input

read_keywords = Keywords().read
from_records = Keywords().from_records


def read(content: bytes | str, name: str = "words.txt") -> Input:
    return read_keywords(io.BytesIO(content.encode() if isinstance(content, str) else content), name)


def keywords(content: bytes | str, name: str = "words.txt") -> list[str]:
    return [payload["keyword"] for payload in read(content, name).items()]


def refusal(content: bytes | str, name: str = "words.csv") -> str:
    with pytest.raises(InvalidInput) as caught:
        read(content, name)
    return str(caught.value)


def test_a_header_names_the_keyword_and_the_other_columns_are_kept():
    given = read("volume,Keyword,note\n10,food stamps,\n20,state tax,urgent\n", "words.csv")

    assert list(given.items()) == [
        {"volume": "10", "keyword": "food stamps", "note": ""},
        {"volume": "20", "keyword": "state tax", "note": "urgent"},
    ]
    assert given.count == 2


@pytest.mark.parametrize("header", ["keyword", "Keywords", "search_term", "QUERY", " Search Term "])
def test_headers_that_mean_keyword_are_known_in_any_file(header):
    assert keywords(f"{header}\nfood stamps\n", "words.txt") == ["food stamps"]


def test_a_table_without_a_known_header_takes_its_first_column():
    assert list(read("phrase;cost\nfood stamps;3\n", "words.csv").items()) == [{"keyword": "food stamps", "cost": "3"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_part_columns(delimiter):
    assert keywords(f"keyword{delimiter}n\nfood stamps{delimiter}1\n", "words.csv") == ["food stamps"]


def test_lines_without_a_header_are_keywords_commas_and_all():
    assert keywords("food stamps\nhouston, texas\n") == ["food stamps", "houston, texas"]


def test_the_same_lines_in_a_csv_of_one_column_are_keywords_too():
    assert keywords("food stamps\nstate tax\n", "words.csv") == ["food stamps", "state tax"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("header", ["", "keyword{0}"])
def test_line_endings_of_all_systems(ending, header):
    assert keywords(f"{header.format(ending)}food stamps{ending}state tax{ending}") == ["food stamps", "state tax"]


def test_a_quoted_cell_may_hold_the_delimiter_quotes_and_line_breaks():
    assert keywords('keyword,n\n"a ""b"", c\nd",1\n', "words.csv") == ['a "b", c d']


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
def test_encodings_are_found_out(encoding):
    text = "keyword\ncafé zürich\nplain old words\n"

    assert keywords(text.encode(encoding), "words.csv") == ["café zürich", "plain old words"]


def test_cp1252_punctuation_is_read_as_such_and_said():
    given = read("keyword\nmen’s shoes – cheap\n".encode("cp1252"), "words.csv")

    assert [item["keyword"] for item in given.items()] == ["men’s shoes – cheap"]
    assert given.encoding == "cp1252"


def test_duplicates_are_left_out_and_counted_whatever_their_case_and_spacing():
    given = read("Food Stamps\nfood  stamps\nSTRASSE\nstraße\n\n   \nstate tax\n")

    assert [item["keyword"] for item in given.items()] == ["Food Stamps", "STRASSE", "state tax"]
    assert (given.count, given.duplicates, given.blank) == (3, 2, 2)


def test_items_can_be_read_again():
    given = read("keyword,n\nfood stamps,1\nfood stamps,2\n", "words.csv")

    assert list(given.items()) == list(given.items()) == [{"keyword": "food stamps", "n": "1"}]


def test_an_uploaded_file_is_read_like_any_other_and_stays_open():
    upload = SimpleUploadedFile("words.csv", "keyword\nfood stamps\n".encode("utf-16"))

    given = read_keywords(cast(Any, upload), "words.csv")

    assert list(given.items()) == [{"keyword": "food stamps"}]
    assert not upload.closed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Cannot use words.csv: it is empty."),
        ("\n \n\n", "Cannot use words.csv: it has no keywords."),
        ("keyword\n", "Cannot use words.csv: it has no keywords."),
        ("\ufeff", "Cannot use words.csv: it has no keywords."),
        ("keyword,n\na,1\nb\n", "Cannot use words.csv: line 3: expected 2 columns, got: 1."),
        ("keyword\na\nb,c\n", "Cannot use words.csv: line 3: expected 1 column, got: 2."),
        ('keyword,n\na,1\n"b,2\nc,3\n', "Cannot use words.csv: line 3: a quote that opens here is never closed."),
        ('keyword,n\n"a\nb",1\n"c"d,2\n', "Cannot use words.csv: line 4: it is not valid CSV"),
        ("keyword,n\n ,1\n", "Cannot use words.csv: line 2: the keyword is empty."),
        ("keyword,keyword\na,b\n", "Cannot use words.csv: line 1: two columns are named 'keyword'."),
        ("a\nb\0c\n", "Cannot use words.csv: line 2: it holds NUL bytes"),
        ("a\nb\nc\x07\n", "Cannot use words.csv: line 3: it holds the control character '\\x07'"),
        (b"PK\x03\x04rest", "Cannot use words.csv: it is a zip that is cut off"),
        (b"\xff\xfea", "Cannot use words.csv: it is not valid UTF-16 text."),
    ],
)
def test_a_bad_file_is_refused_by_name_line_and_reason(content, said):
    assert refusal(content).startswith(said)


def test_an_unclosed_quote_early_in_a_large_file_is_named_where_it_opens():
    rows = "".join(f"word {n},{n}\n" for n in range(50_000))

    assert refusal(f'keyword,n\nfirst,1\n"second,2\n{rows}') == (
        "Cannot use words.csv: line 3: a quote that opens here is never closed."
    )


def test_the_longest_keyword_passes_and_one_more_character_does_not():
    longest = "x" * LONGEST_KEYWORD

    assert keywords(longest) == [longest]
    assert refusal(f"a\n{longest}x\n").startswith(
        f"Cannot use words.csv: line 2: expected a keyword of at most {LONGEST_KEYWORD} characters, got 501"
    )


def test_records_are_held_to_the_same_rules():
    given = from_records([{"keyword": " Food  stamps ", "n": 1}, {"keyword": "food stamps"}, {"keyword": " "}])

    assert list(given.items()) == [{"keyword": "Food stamps", "n": 1}]
    assert (given.count, given.duplicates, given.blank) == (1, 1, 1)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("food", "expected an object with a text 'keyword'"),
        ({"word": "food"}, "expected an object with a text 'keyword'"),
        ({"keyword": 7}, "expected an object with a text 'keyword'"),
        ({"keyword": "x" * 501}, "expected a keyword of at most 500 characters"),
        ({"keyword": "a\0b"}, "the keyword holds control characters"),
        ({"keyword": "a\ud800b"}, "the keyword holds half a character"),
    ],
)
def test_a_bad_record_is_refused_by_number_and_reason(record, said):
    with pytest.raises(InvalidInput, match=r"^Cannot use items: item 2: ") as caught:
        from_records([{"keyword": "fine"}, record])
    assert said in str(caught.value)


def test_records_are_not_changed():
    record = {"keyword": " food "}

    assert list(from_records([record]).items()) == [{"keyword": "food"}]
    assert record == {"keyword": " food "}


@pytest.mark.slow
def test_a_million_lines_are_read():
    count = 1_000_000
    file = io.BytesIO(b"keyword,volume\n" + b"".join(b"search phrase number %d,%d\n" % (n, n) for n in range(count)))

    given = read_keywords(file, "words.csv")

    assert given.count == sum(1 for _ in given.items()) == count


@pytest.mark.slow
def test_lines_are_read_in_bounded_memory():
    """Memory is watched on fewer lines, for watching is slow: 20 MiB for 50,000 is 400 MiB for a million at most."""
    assert peak_mib_of_reading(50_000) < 20


def peak_mib_of_reading(count: int) -> float:
    file = io.BytesIO(b"keyword,volume\n" + b"".join(b"search phrase number %d,%d\n" % (n, n) for n in range(count)))
    tracemalloc.start()
    try:
        for _ in read_keywords(file, "words.csv").items():
            pass
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n", "line 1: it is a pointer of Git LFS"),
        ("\nBEGIN:VCARD\nVERSION:3.0\nFN:Ann\nEND:VCARD\n", "line 2: it is a card of contacts"),
        ("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n", "it is a calendar"),
        ("MIME-Version: 1.0\nX-Document-Type: Workbook\n\n<html>\n", "it is an e-mail or a web archive"),
        ('ID;PWXL;N;E\nC;Y1;X1;K"Keyword"\n', "it is a SYLK file"),
        ("INSERT INTO words VALUES ('rain');\nINSERT INTO words VALUES ('snow');\n", "it is SQL"),
        ("-- MySQL dump 10.13\n\nCREATE TABLE `words` (\n", "it is SQL"),
        ("| Keyword | Volume |\n|---|--:|\n| rain | 9 |\n", "it is a Markdown table"),
        ("Category: All categories\n\nWeek,rain: (Germany)\n2026-11-01,50\n2026-11-08,60\n", "holds dates"),
        (
            "Category: All\n\nTOP\nrain coat,100\nrain hat,50\nrain,9\n\nRISING\nrain pants,+250%\n",
            "is named after keywords",
        ),
    ],
)
def test_what_is_no_list_and_no_table_of_keywords_starts_nothing(content: str, said: str) -> None:
    assert said in refusal(content)


@pytest.mark.parametrize(
    "lines",
    ["insert into excel\ncreate table in word\n", "mime version\n", "version control\n", "id\n", "-free\n+rain\n"],
)
def test_keywords_that_read_like_the_beginning_of_something_else_are_keywords(lines: str) -> None:
    given = read(lines)

    assert [item["keyword"] for item in given.items()] == lines.splitlines()
    assert not given.report.warnings


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("rain jacket, snow boots, umbrella\n", "Many lines hold a comma or another separator"),
        ("1. rain jacket\n2. snow boots\n", "Many lines begin with the mark or number of a list"),
        ("Keywords:\n- rain jacket\n- snow boots\n", "Many lines begin with the mark or number of a list"),
    ],
)
def test_lines_that_may_hold_more_than_a_keyword_are_shown_in_a_warning(lines: str, said: str) -> None:
    (warning,) = read(lines).report.warnings

    assert warning.startswith(said)


@pytest.mark.parametrize("text", ["#N/A", " nan", "NULL", "None"])
def test_what_tools_write_where_there_is_nothing_is_shown_in_a_warning(text: str) -> None:
    (warning,) = read(f"keyword,n\nrain,1\n{text},2\n", "words.csv").report.warnings

    assert warning == f"Line 3 holds {text.strip()!r}, which is read as a keyword."
