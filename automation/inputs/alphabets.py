"""What a text looks like that was decoded with the wrong code page: to tell the code pages of Europe apart."""

from __future__ import annotations

import unicodedata

_ALPHABETS = tuple(
    frozenset(letters)
    for letters in (
        "äöüß",  # German
        "éèêëàâçùûüîïôœæÿ",  # French
        "áéíóúñüç",  # Spanish
        "ãõáéíóúâêôàçü",  # Portuguese
        "àèéìíîòóùú",  # Italian
        "éèëïóöüêáíú",  # Dutch
        "åäöé",  # Swedish, Finnish
        "æøåéèòô",  # Danish, Norwegian
        "áðéíóúýþæö",  # Icelandic
        "ąćęłńóśźż",  # Polish
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "áéíóöőúüű",  # Hungarian
        "ăâîșțşţ",  # Romanian
        "čćđšž",  # Croatian, Slovenian
        "çğıöşüâîûi̇",  # Turkish
        "ąčęėįšųūž",  # Lithuanian
        "āčēģīķļņšūž",  # Latvian
        "äöõüšž",  # Estonian
    )
)
_ODD_SHARE = 0.1


def is_of_one_language(text: str) -> bool:
    """Whether all letters beyond ASCII are of one European language's alphabet, if there are any."""
    letters = {letter for letter in text.lower() if letter > "\x7f" and letter.isalpha()}
    return any(letters <= alphabet for alphabet in _ALPHABETS)


def is_odd(text: str) -> bool:
    """Whether words have signs, capitals or letters of another writing in their midst more than now and then."""
    foreign = odd = 0
    for before, letter, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if letter > "\x7f":
            foreign += 1
            odd += _is_out_of_place(before, letter, after)
    return odd > _ODD_SHARE * foreign


def _is_out_of_place(before: str, letter: str, after: str) -> bool:
    is_in_word = before.isalpha() and after.isalpha()
    category = unicodedata.category(letter)
    if category[0] == "S" or category == "No":
        return is_in_word if letter in _UNITS else before.isalpha() or after.isalpha()
    if letter.isupper() and before.islower():
        return True
    is_beside_ascii = (before.isascii() and before.isalpha()) or (after.isascii() and after.isalpha())
    return is_beside_ascii and unicodedata.name(letter, "").startswith(("CYRILLIC", "GREEK", "HEBREW", "ARABIC"))


_UNITS = "°²³®©™€£¥"
