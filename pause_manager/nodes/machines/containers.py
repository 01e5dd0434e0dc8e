"""Where the containers of one machine meet: each tells what it uses, and one speaks for all.

They meet in Redis, under the machine's boot id; while Redis is away, in the machine's row. Who speaks has a lease of
two samples, by the clock of the server, and keeps it for as long as it comes; the first to come after its end speaks.
One that does not know what the machine is called has nothing to say: it reports, and leaves the lease to others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import connection

from pause_manager import conf
from pause_manager.messaging.redis_clients import client
from pause_manager.models import Machine, WorkerNode
from pause_manager.nodes.machines import identity
from pause_manager.probes import processes
from pause_manager.probes.container_report import Report
from pause_manager.probes.sample import Sample


@dataclass(frozen=True)
class Answer:
    """What a container is told when it reports."""

    speaks: bool
    reports: Mapping[str, Report] = field(default_factory=dict)
    """Of every container of the machine, to the one that speaks."""
    sample: Sample | None = None
    """The last of the machine, to the others; ``None`` if there is none that is fresh."""


# One key a machine: a hash of what each container told, and of who speaks until when, in ms by Redis's clock.
_REPORT = """
local key, me, report, lease, keep = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local knows = ARGV[5] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', key, 'report ' .. me, string.format('%d %s', now + keep, report))
local speaker = redis.call('HGET', key, 'speaker')
local ends, who = string.match(speaker or '', '^(%d+) (.*)$')
local speaks = knows and (who == nil or who == me or tonumber(ends) < now)
if speaks then
  redis.call('HSET', key, 'speaker', string.format('%d %s', now + lease, me))
elseif who == me then
  redis.call('HDEL', key, 'speaker')
end
redis.call('PEXPIRE', key, 10 * keep)
local found = {speaks and 1 or 0}
if speaks then
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local container = string.match(all[i], '^report (.*)$')
    if container then
      local good, told = string.match(all[i + 1], '^(%d+) (.*)$')
      if tonumber(good) < now then
        redis.call('HDEL', key, all[i])
      else
        found[#found + 1] = container
        found[#found + 1] = told
      end
    end
  end
end
return found
"""
_LEAVE = """
redis.call('HDEL', KEYS[1], 'report ' .. ARGV[1])
local who = string.match(redis.call('HGET', KEYS[1], 'speaker') or '', '^%d+ (.*)$')
if who == ARGV[1] then redis.call('HDEL', KEYS[1], 'speaker') end
"""

_MACHINE, _NODE = Machine._meta.db_table, WorkerNode._meta.db_table
_TABLE = f"""
    WITH told AS (
        UPDATE {_MACHINE} AS machine
           SET speaker = CASE WHEN mine THEN %(me)s WHEN speaker = %(me)s THEN '' ELSE speaker END,
               speaks_until = CASE WHEN mine THEN clock_timestamp() + make_interval(secs => %(lease)s)
                                   ELSE speaks_until END,
               reports = (SELECT coalesce(jsonb_object_agg(key, value), '{{}}'::jsonb)
                            FROM jsonb_each(machine.reports)
                           WHERE (value ->> 'until')::float8 > extract(epoch FROM clock_timestamp()))
                         || jsonb_build_object(%(me)s::text, jsonb_build_object(
                                'until', extract(epoch FROM clock_timestamp())::float8 + %(keep)s,
                                'report', %(report)s::jsonb))
          FROM (SELECT boot_id,
                       %(knows)s AND (speaker IN ('', %(me)s) OR speaks_until < clock_timestamp()) AS mine
                  FROM {_MACHINE} WHERE boot_id = %(boot)s FOR UPDATE) AS before
         WHERE machine.boot_id = before.boot_id
     RETURNING machine.name, mine, machine.reports
    )
    SELECT mine, CASE WHEN mine THEN told.reports::text END,
           (SELECT sample::text FROM {_NODE} AS node
             WHERE node.name = told.name AND NOT mine
               AND node.last_seen_at > clock_timestamp() - make_interval(secs => %(keep)s))
      FROM told
"""


def meet(report: Report, node: str) -> Answer:
    """Report to the other containers of this machine. Raises ``redis.RedisError``.

    ``node`` is its name; empty: this container does not know it, and does not speak.
    """
    lease, keep = _times()
    times = round(lease * 1000), round(keep * 1000)
    found = _run(_REPORT, report.container, report.as_json(), *times, int(bool(node)))
    if found[0]:
        told = dict(zip(found[1::2], found[2::2], strict=True))
        return Answer(True, {_text(container): Report.of_json(text) for container, text in told.items()})
    sample = client().get(f"{conf.settings().node_key_prefix}{node}") if node else None
    return Answer(False, sample=None if sample is None else Sample.of_json(sample))


def meet_in_the_database(report: Report, node: str) -> Answer:
    """The same while Redis is away. Raises ``DatabaseError``."""
    lease, keep = _times()
    values: dict[str, Any] = {
        "boot": processes.boot_id(),
        "me": report.container,
        "report": report.as_json().decode(),
        "lease": lease,
        "keep": keep,
        "knows": bool(node),
    }
    with connection.cursor() as cursor:
        cursor.execute(_TABLE, values)
        row = cursor.fetchone()
    if row is None:
        identity.forget_name()
        return Answer(False)
    speaks, told, sample = row
    if speaks:
        reports = {container: Report.of_dict(one["report"]) for container, one in orjson.loads(told).items()}
        return Answer(True, reports)
    return Answer(False, sample=None if sample is None else Sample.of_json(sample))


def leave(container: str) -> None:
    """Report no more: another may speak at once. Raises ``redis.RedisError``."""
    _run(_LEAVE, container)


def _run(script: str, *arguments: Any) -> Any:
    return client().eval(script, 1, f"{conf.settings().machine_key_prefix}{processes.boot_id()}", *arguments)


def _times() -> tuple[float, float]:
    """Seconds for which who speaks may be silent, and for which a report is good."""
    settings = conf.settings()
    return 2 * settings.sample_seconds, settings.offline_seconds


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class Meeting:
    """The meetings of one container, over time and whatever server is away."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Report]] = {}
        self._from_database: tuple[float, Answer] | None = None

    def heard(self, answer: Answer, own: Report) -> list[Report]:
        """The reports to go by: what was told lately, by this container now. The others are as old as a sample."""
        now = time.monotonic()
        self._known |= {container: (now, report) for container, report in answer.reports.items()}
        self._known[own.container] = (now, own)
        keep = conf.settings().offline_seconds
        self._known = {container: told for container, told in self._known.items() if now - told[0] <= keep}
        return [report for _, report in self._known.values()]

    def note(self, answer: Answer) -> None:
        """Take what the database answered; it is good for as long as who speaks may be silent."""
        self._from_database = (time.monotonic(), answer)

    def noted(self) -> Answer:
        """Return what the database answered last, if that is good still; by itself no container speaks."""
        if self._from_database is not None and time.monotonic() - self._from_database[0] <= _times()[0]:
            return self._from_database[1]
        return Answer(False)
