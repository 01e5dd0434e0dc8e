"""Keywords that ask for the same thing come together, under names that a person would use."""

from __future__ import annotations

import random

import pytest

from automation.contrib.content.clustering import group
from automation.contrib.content.naming import MIXED, Namer

TOPICS = ("car insurance", "food stamps", "garden plants", "summer jobs", "blood pressure")
PLACES = ("ohio", "texas", "new york", "georgia", "utah")


def names(*groups: list[str]) -> list[str]:
    namer = Namer()
    return [namer.name(keywords) for keywords in groups]


def many_keywords(count: int) -> list[str]:
    source = random.Random(3)
    words = [
        a + b for a in ("gar", "mon", "tel", "pol", "ver", "sal", "kin") for b in ("den", "ey", "ar", "ish", "ta", "o")
    ]
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(source.sample(words, source.randint(2, 4)))] = None
    return list(found)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 16, 400])
def test_every_keyword_is_in_exactly_one_group(count):
    groups = group(many_keywords(count), 8)

    assert sorted(index for members in groups for index in members) == list(range(count))
    assert all(members == sorted(members) for members in groups)
    assert [members[0] for members in groups] == sorted(members[0] for members in groups)


@pytest.mark.slow
def test_ten_thousand_keywords_are_grouped():
    groups = group(many_keywords(10_000), 10)

    assert sorted(index for members in groups for index in members) == list(range(10_000))
    assert 200 < len(groups) <= 1_000


def test_keywords_of_one_topic_come_together_whatever_place_they_name():
    keywords = [f"{topic} {place}" for place in PLACES for topic in TOPICS]

    groups = group(keywords, 5)

    assert sorted({keywords[index].rsplit(" ", 1)[0].split()[0] for index in members} for members in groups) == sorted(
        {topic.split()[0]} for topic in TOPICS
    )


def test_keywords_without_any_letter_are_grouped_too():
    keywords = ["???", "!!", "日本 旅行", "日本 料理", "401k", "$$$"]

    assert sorted(index for members in group(keywords, 2) for index in members) == list(range(6))
    assert len(set(names(*([keyword] for keyword in keywords)))) == 6


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        (["ohio food stamps", "food stamps in texas", "apply for food stamps"], "Food Stamps"),
        (["file income tax", "income tax forms", "how to pay income tax"], "Income Tax"),
        (["irs and refund"], "IRS and Refunds"),
        (["how to start a food business"], "Food Business"),
        (["road construction jobs ky"], "Road Construction Jobs in Kentucky"),
        (["highway map of utah", "highway map ohio"], "Highway Maps"),
        (["new york state board of education"], "New York State Board of Education"),
    ],
)
def test_names_are_readable(keywords, name):
    assert names(keywords) == [name]


def test_no_name_is_given_twice():
    given = names(*[["food stamps ohio", "food stamps"]] * 6)

    assert given[0] == "Food Stamps"
    assert len(set(given)) == 6


def test_a_group_with_nothing_in_common_says_so():
    assert names(many_keywords(200)[::3] + [f"word{n} thing{n}" for n in range(200)]) == [MIXED.title()]
