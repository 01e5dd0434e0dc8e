"""``manage.py schedule`` as a person or a script meets it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from automation.models import AutomationRun, Schedule
from automation.schedules import starting
from tests.support.factories import make_site, outputs, settle
from tests.support.schedules import come_due

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_schedule_from_its_first_to_its_last_command(shell):
    make_site("blog")

    weekdays = ("--at", "08:00", "--weekdays", "mon-fri", "--time-zone", "Europe/Berlin")
    added = shell("schedule", "add", "blog/nightly", "drill", *weekdays, "--param", "items=3")
    paused = shell("schedule", "pause", "blog/nightly", "--for", "2d", "--reason", "holidays")
    listed = shell("schedule", "list", "--site", "blog")
    resumed = shell("schedule", "resume", "blog/nightly")
    skipped = shell("schedule", "skip", "blog/nightly", "--reason", "no printer")
    changed = shell("schedule", "change", "blog/nightly", "--every", "2h", "--priority", "1")
    shown = shell("schedule", "show", str(Schedule.objects.get().pk), "--json")
    deleted = shell("schedule", "delete", "blog/nightly")

    assert added.code == 0, added.err
    first, *coming = added.out.splitlines()
    comes = r"\w{3} 20\d\d-\d\d-\d\d 08:00 CES?T"
    assert re.fullmatch(rf"blog/nightly \(id \d+\): drill, weekdays 08:00, Europe/Berlin; active; next {comes}", first)
    assert len(coming) == 5
    assert re.search(r"paused by shell:\w+ until .* UTC: holidays", paused.out.splitlines()[0])
    assert listed.out.splitlines() == paused.out.splitlines()[:1]
    assert "active" in resumed.out.splitlines()[0]
    assert skipped.out.splitlines()[1].endswith("(skipped: no printer)")
    assert "every 2 hours" in changed.out
    [told] = shown.objects
    assert (told["priority"], told["kind"], told["weekdays"], told["params"]["items"]) == (1, "interval", "", 3)
    assert deleted.out == "Deleted schedule blog/nightly; its runs stay.\n"
    assert not Schedule.objects.exists()


def test_a_file_is_the_input_of_every_run(shell, tmp_path: Path):
    make_site("blog")
    file = tmp_path / "items.json"
    file.write_text('[{"n": 4}, {"n": 5}]')
    added = shell("schedule", "add", "blog/numbers", "numbers", "--cron", "0 * * * *", "--input", str(file))
    assert added.code == 0, added.err
    file.unlink()
    come_due(Schedule.objects.get())

    starting.start_due()

    run = AutomationRun.objects.get()
    settle(run)
    assert [item["square"] for item in outputs(run)] == [16, 25]


def test_run_now_and_its_refusal(shell):
    make_site("blog")
    shell("schedule", "add", "blog/nightly", "drill", "--at", "03:00", "--param", "items=3")

    first = shell("schedule", "run-now", "blog/nightly")
    second = shell("schedule", "run-now", "blog/nightly")
    third = shell("schedule", "run-now", "blog/nightly", "--queue", "--json")
    shown = shell("schedule", "show", "blog/nightly")

    assert (first.code, first.out.endswith(" of drill: 3 items.\n")) == (0, True)
    assert second.code == 3
    assert "Cannot run schedule blog/nightly now: site blog has the unfinished run" in second.err
    assert (third.code, third.objects[0]["pipeline"]) == (0, "drill")
    assert shown.out.count("started ") == 2


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["add", "blog/x", "drill"], 2, "Cannot save the schedule: kind: "),
        (["add", "blog/x", "drill", "--at", "8"], 2, "expected a time such as 08:00, got: '8'"),
        (["add", "blog/x", "drill", "--cron", "0 8 * *"], 2, "cron: expected five fields"),
        (
            ["add", "blog/x", "drill", "--cron", "0 8 * * *", "--at", "08:00"],
            2,
            "expected one of --at, --cron and --every",
        ),
        (["add", "blog/x", "drill", "--weekdays", "mon"], 2, "--weekdays and --day go with --at"),
        (["add", "blog/x", "drill", "--every", "90s"], 2, "expected whole minutes for --every"),
        (["add", "blog", "drill", "--at", "08:00"], 2, "expected SITE/NAME"),
        (["add", "news/x", "drill", "--at", "08:00"], 4, "Cannot find site 'news'"),
        (["show", "blog/none"], 4, "Cannot find schedule 'blog/none': it does not exist."),
        (["show", "none"], 2, "expected SITE/NAME of a schedule, or its id"),
        (["resume", "blog/there"], 3, "Cannot resume schedule blog/there: it is not paused."),
        (["change", "blog/there"], 2, "expected something to change"),
    ],
)
def test_what_is_wrong_is_told(shell, words: list[str], code: int, sentence: str):
    make_site("blog")
    shell("schedule", "add", "blog/there", "drill", "--at", "03:00")

    ended = shell("schedule", *words)

    assert (ended.code, sentence in ended.err) == (code, True), ended.err
    assert Schedule.objects.count() == 1
