"""Runs over HTTP: create, list, show, pause, resume, cancel."""

from __future__ import annotations

from tests.callers import RUNS


def test_thin_path(api, site):
    made = api.post(RUNS, {"pipeline": "drill", "site": "ours", "params": {"items": 3}}, format="json")
    assert made.status_code == 201, made.data
    url = f"{RUNS}{made.data['id']}/"
    assert api.get(url).data["status"] == "running"
    assert api.post(url + "pause/", {"reason": "x"}, format="json").data["status"] == "paused"
    assert api.get(url + "progress/").data["status"] == "paused"
    assert api.post(url + "resume/").data["status"] == "running"
    assert api.post(url + "resume/").status_code == 409
    assert api.post(url + "cancel/").data["status"] == "cancelled"
    assert len(api.get(RUNS).data["results"]) == 1
