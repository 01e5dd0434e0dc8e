"""What people call an item: as its stage says, else its title, its name or its only value."""

from __future__ import annotations

from typing import Any

import pytest

from automation.contrib.content.clusters import Clusters
from automation.pipeline import Payload, Stage
from automation.reports.item_labels import label_of


@pytest.mark.parametrize(
    ("payload", "label"),
    [
        ({"title": "Red shoes", "name": "red"}, "Red shoes"),
        ({"name": "red", "n": 3}, "red"),
        ({"n": 3}, "3"),
        ({"title": " ", "name": "red"}, "red"),
        ({"n": 3, "square": 9}, ""),
        ({"is_done": True}, ""),
        ({"parts": [1]}, ""),
    ],
)
def test_an_item_is_called_by_its_title_its_name_or_its_only_value(payload: Payload, label: str):
    assert Stage.label(payload) == label


def test_a_stage_names_its_own_items():
    assert Clusters.label({"keyword": "red shoes", "volume": 10}) == "red shoes"
    assert label_of("content", "clusters", {"keyword": "red shoes", "volume": 10}, "007") == "red shoes"


def test_an_item_without_a_label_is_called_by_its_key():
    assert label_of("content", "ideas", {"a": 1, "b": 2}, "007") == "007"
    assert label_of("gone", "gone", {"title": "Red shoes"}, "007") == "Red shoes"


def test_a_label_that_raises_keeps_nobody_from_reading_the_item(monkeypatch: pytest.MonkeyPatch):
    def label(payload: dict[str, Any]) -> str:
        raise KeyError("keyword")

    monkeypatch.setattr(Clusters, "label", label)

    assert label_of("content", "clusters", {"keyword": "red shoes"}, "007") == "007"
