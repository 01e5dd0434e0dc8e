#!/usr/bin/env python3
"""A remote agent for Slackwater: Python 3.9 or later and nothing else.

    AGENT_TOKEN=swa_… python agent.py --url https://slackwater.example --work shout:process

``--work`` names a function ``process(item, job)`` that returns the outputs of one item: a list of JSON objects.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import machine

Json = dict[str, Any]
Process = Callable[[Json, Json], list[Json]]

logger = logging.getLogger("agent")

LONGEST_WAIT = 60.0
SHORTEST_INTERVAL = 1.0
"""Seconds between two checkpoints at least, unless the job wants each item committed by itself."""


class Unreachable(Exception):
    """The server did not answer, or not as it should: nothing is known, so nothing new is begun."""


class Refused(Exception):
    """The server has refused a request for good; ``code`` says why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code


class TryLater(Exception):
    """Raised by ``process`` when a provider asks for ``seconds`` of patience: the job goes back for so long."""

    def __init__(self, seconds: float, message: str = "the provider asks to try later") -> None:
        super().__init__(message)
        self.seconds = seconds


class NeedsInput(Exception):
    """Raised by ``process`` to ask a person: the item is tried again with the answer as ``job["answer"]``."""

    def __init__(self, question: str, choices: list[str] | None = None) -> None:
        super().__init__(question)
        self.choices = choices


class FreezeLane(Exception):
    """Raised by ``process`` when a check has failed: nothing of the run's lane starts until an operator says so."""


class Server:
    """The endpoints for agents. Remembers ``system``, which every answer carries."""

    def __init__(self, url: str, token: str, timeout: float = 30.0) -> None:
        self._url = url.rstrip("/") + "/api/queue/jobs/"
        self._headers = {"Authorization": f"Agent {token}", "Content-Type": "application/json"}
        self._timeout = timeout
        self._lock = threading.Lock()
        self._version: int | None = None
        self.is_paused = True
        """Until the server has said otherwise."""

    def post(self, path: str, body: Json) -> Json:
        """The answer; raises ``Refused`` or ``Unreachable``."""
        return self._ask(urllib.request.Request(self._url + path, json.dumps(body).encode(), self._headers))

    def items(self, job: Json, after: str) -> Json:
        """The page of items after the one with key ``after``."""
        query = urllib.parse.urlencode({"token": job["token"], "after": after})
        return self._ask(urllib.request.Request(f"{self._url}{job['id']}/items?{query}", headers=self._headers))

    def _ask(self, request: urllib.request.Request) -> Json:
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                answer: Json = json.load(response)
                self._hear(answer["system"])
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise self._problem(error) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from None

    def _problem(self, error: urllib.error.HTTPError) -> Exception:
        try:
            answer = json.load(error)
            code, message = str(answer["code"]), str(answer["message"])
            if "system" in answer:
                self._hear(answer["system"])
        except (OSError, ValueError, KeyError, TypeError):
            return Unreachable(f"HTTP {error.code}")
        is_passing = error.code >= 500 or error.code in (408, 429)
        return Unreachable(f"{code}: {message}") if is_passing else Refused(error.code, code, message)

    def _hear(self, system: Json) -> None:
        with self._lock:
            self.is_paused = bool(system["workersPaused"])
            if system["version"] == self._version:
                return
            self._version = system["version"]
        if self.is_paused:
            logger.info("The fleet is paused (version %s, %s): %s", system["version"], system["mode"], system["reason"])
        else:
            logger.info("The fleet runs (version %s).", system["version"])


class Heartbeat(threading.Thread):
    """Keeps the lease of a job; ``stop`` becomes true when the work must end at the next item."""

    def __init__(self, server: Server, job: Json) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._server = server
        self._job = job
        self._is_over = threading.Event()
        self._heard_at = time.monotonic()
        self.stop: str | None = None
        self.is_lost = False

    def run(self) -> None:
        every = float(self._job["heartbeatSeconds"])
        while not self._is_over.wait(every):
            asked_at = time.monotonic()
            try:
                answer = self._server.post(f"{self._job['id']}/heartbeat", {"token": self._job["token"]})
                self._heard_at = asked_at
                self.hear(answer)
            except Refused as refusal:
                self.lose(str(refusal))
                return
            except Unreachable as error:
                logger.warning("No heartbeat: %s", error)
                # Whatever the server thinks by now, others may have the job: what is done after this is for nothing.
                if time.monotonic() - self._heard_at > float(self._job["leaseSeconds"]):
                    self.stop = self.stop or "the server has been silent for longer than the lease lasts"

    def hear(self, answer: Json) -> None:
        """Note what an answer says about whether to continue."""
        if answer["stop"] is not None:
            self.stop = answer["stop"]["sentence"]
            self.is_lost = self.is_lost or answer["stop"]["code"] == "lease_lost"

    def lose(self, why: str) -> None:
        """The job is somebody else's: nothing more can be handed in."""
        if not self._is_over.is_set():
            self.is_lost, self.stop = True, why

    def end(self) -> None:
        self._is_over.set()


class Agent:
    """Claims jobs and works through them, one item after the other, until told to end."""

    def __init__(self, server: Server, process: Process, stages: list[str], pause_interval: float = 5.0) -> None:
        self._server = server
        self._process = process
        self._stages = stages
        self._pause_interval = max(1.0, pause_interval)
        self._is_ending = threading.Event()
        self._failures = 0
        self._reason: str | None = None

    def end(self, *_: Any) -> None:
        """Stop at the next item."""
        self._is_ending.set()

    def run(self) -> None:
        """Work until :meth:`end`; raises ``Refused`` if the token is not (or no longer) good."""
        claim_id = uuid.uuid4().hex
        while not self._is_ending.is_set():
            try:
                # The same id until there is an answer: a job whose answer was lost is not forgotten.
                answer = self._server.post("claim", self._wish(claim_id))
            except Unreachable as error:
                self._back_off(error)
                continue
            self._failures = 0
            claim_id = uuid.uuid4().hex
            job = answer["job"]
            self._tell_once(answer["reason"])
            if job is None:
                self._is_ending.wait(self._pause_interval)
            else:
                self._work(job)

    def _wish(self, claim_id: str) -> Json:
        figures = machine.sample()
        return {"claimId": claim_id, "stages": self._stages, **({"sample": figures} if figures else {})}

    def _tell_once(self, reason: str | None) -> None:
        """Why there is no job although there is work: what this machine lacks."""
        if reason and reason != self._reason:
            logger.info("No job: %s", reason)
        self._reason = reason

    def _work(self, job: Json) -> None:
        since = f"after {job['cursor']}" if job["cursor"] else "from the start"
        logger.info("Job %s: %s of run %s, %s.", job["id"], job["stage"], job["run"], since)
        heartbeat = Heartbeat(self._server, job)
        heartbeat.start()
        try:
            self._work_through(Batch(self._server, job, heartbeat))
        except Refused as refusal:
            if refusal.status in (401, 403):
                raise
            logger.warning("Job %s ends here: %s", job["id"], refusal)
            if refusal.code not in ("lease_lost", "job_not_found"):
                self._fail(job, str(refusal))
        except Unreachable as error:
            logger.warning("Job %s is left to its lease: %s", job["id"], error)
        finally:
            heartbeat.end()

    def _work_through(self, batch: Batch) -> None:
        for item in batch.items():
            if self._is_ending.is_set() or batch.heartbeat.stop is not None:
                batch.give_back(batch.heartbeat.stop or "the agent ends")
                return
            try:
                self._do(item, batch)
            except TryLater as later:
                logger.info("Item %s waits %.1f s: %s", item["key"], later.seconds, later)
                batch.hand_in_if_any()
                self._fail(batch.job, str(later), retryAfter=later.seconds)
                return
            except (NeedsInput, FreezeLane) as asked:
                logger.info("Item %s stops its run: %s", item["key"], asked)
                batch.hand_in_if_any()
                batch.ask(asked)
                return
            batch.hand_in_when_due()
        if batch.cut_by:
            batch.give_back(batch.cut_by)
            return
        batch.hand_in("complete")

    def _do(self, item: Json, batch: Batch) -> None:
        job, attempts = batch.job, 0
        while True:
            attempts += 1
            began = time.monotonic()
            try:
                known = {**job, "key": item["key"], "answer": item.get("answer"), "answers": item.get("answers", {})}
                batch.add(item, list(self._process(item["payload"], known)), began)
                return
            except (TryLater, NeedsInput, FreezeLane):
                raise
            except Exception as error:
                told = f"{type(error).__name__}: {error}"
                logger.warning("Item %s failed (try %d): %s", item["key"], attempts, told)
                if attempts > job["retries"]:
                    batch.give_up(item, error, attempts, began)
                    return
            self._is_ending.wait(min(job["retryBackoff"] * 2 ** (attempts - 1), LONGEST_WAIT))

    def _fail(self, job: Json, error: str, **more: Any) -> None:
        try:
            self._server.post(f"{job['id']}/fail", {"token": job["token"], "error": error[:10_000], **more})
        except (Refused, Unreachable) as refusal:
            logger.warning("Job %s could not be given back: %s", job["id"], refusal)

    def _back_off(self, error: Exception) -> None:
        """An unreadable server counts as paused; the wait doubles, and no two agents come at the same moment."""
        self._failures += 1
        wait = min(self._pause_interval * 2 ** min(self._failures - 1, 8), LONGEST_WAIT) * random.uniform(0.8, 1.2)
        logger.warning("The server cannot be asked (%s): trying again in %.0f s.", error, wait)
        self._is_ending.wait(wait)


class Batch:
    """What has been done of a job and not been handed in."""

    def __init__(self, server: Server, job: Json, heartbeat: Heartbeat) -> None:
        self.job = job
        self._server = server
        self.heartbeat = heartbeat
        self._interval = float(job["checkpointInterval"])
        self.cut_by = ""
        """Why no more of its items may begin, though some are left."""
        self._begin()
        self._handed_in_at = time.monotonic()

    def _begin(self) -> None:
        self._cursor = ""
        self._outputs: dict[str, list[Json]] = {}
        self._failures: list[Json] = []
        self._busy = 0.0

    def items(self) -> Iterator[Json]:
        """All items that are left, page by page."""
        page = self.job
        while True:
            yield from page["items"]
            if not page["more"]:
                return
            if not page["items"]:
                self.cut_by = (page["stop"] or {}).get("sentence", "no item of it may begin now")
                return
            after = page["items"][-1]["key"]
            page = self._persist(functools.partial(self._server.items, self.job, after))

    def add(self, item: Json, outputs: list[Json], began: float) -> None:
        self._outputs[item["key"]] = outputs
        self._done(item, began)

    def give_up(self, item: Json, error: Exception, attempts: int, began: float) -> None:
        told = f"{type(error).__name__}: {error}"[:10_000]
        self._failures.append({"key": item["key"], "error": told, "attempts": attempts})
        self._done(item, began)

    def _done(self, item: Json, began: float) -> None:
        self._cursor = item["key"]
        self._busy += time.monotonic() - began

    def hand_in_when_due(self) -> None:
        interval = max(self._interval, SHORTEST_INTERVAL) if self._interval else 0.0
        if self._cursor != self.job["lastKey"] and time.monotonic() - self._handed_in_at >= interval:
            self.hand_in("checkpoint")

    def hand_in_if_any(self) -> None:
        if self._cursor:
            self.hand_in("checkpoint")

    def hand_in(self, verb: str, **more: Any) -> None:
        """Have everything committed. The same again after a lost answer is taken as done by the server."""
        body = {
            "token": self.job["token"],
            "cursor": self._cursor or self.job["cursor"],
            "outputs": self._outputs,
            "failures": self._failures,
            "busySeconds": self._busy,
            **more,
        }
        self.heartbeat.hear(self._persist(lambda: self._server.post(f"{self.job['id']}/{verb}", body)))
        self.job["cursor"] = body["cursor"]
        self._begin()
        self._handed_in_at = time.monotonic()

    def give_back(self, why: str) -> None:
        """Hand in what is done, and the job with it."""
        logger.info("Job %s is given back: %s", self.job["id"], why)
        if self.heartbeat.is_lost:
            return
        if self._cursor or self.job["cursor"]:
            self.hand_in("checkpoint", release=True)
        else:
            body = {"token": self.job["token"], "error": why, "retryAfter": 0}
            self._persist(lambda: self._server.post(f"{self.job['id']}/fail", body))

    def ask(self, asked: NeedsInput | FreezeLane) -> None:
        """Have a person asked about the next item, or the lane frozen: the job goes back with it."""
        body: Json = {"token": self.job["token"]}
        if isinstance(asked, FreezeLane):
            verb, body["reason"] = "freeze", str(asked)
        else:
            verb, body["question"] = "ask", str(asked)
            if asked.choices is not None:
                body["choices"] = asked.choices
        self._persist(lambda: self._server.post(f"{self.job['id']}/{verb}", body))

    def _persist(self, ask: Callable[[], Json]) -> Json:
        """``ask`` until there is an answer, for as long as the lease may last without one."""
        gives_up_at = time.monotonic() + 2 * float(self.job["leaseSeconds"])
        wait = 0.2
        while True:
            try:
                return ask()
            except Unreachable as error:
                if time.monotonic() + wait > gives_up_at or self.heartbeat.is_lost:
                    raise
                logger.warning("Asking again in %.1f s: %s", wait, error)
                time.sleep(wait)
                wait = min(wait * 2, 5.0)


class NoWork(Exception):
    """``--work`` names nothing that could do an item; the sentence says why."""


def work_of(named: str) -> Process:
    """The function that ``module:function`` names. Raises ``NoWork``."""
    module, _, name = named.partition(":")
    name = name or "process"
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        hint = " Is its folder the current one, or on PYTHONPATH?" if error.name == module.partition(".")[0] else ""
        raise NoWork(f"Cannot import {module}: there is no module {error.name}.{hint}") from None
    except AttributeError:
        raise NoWork(f"Cannot use {module}: it has no function {name}.") from None
    except Exception as error:
        raise NoWork(f"Cannot import {module}: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise NoWork(f"Cannot use {named}: expected a function, got: {type(found).__name__}.")
    return found  # type: ignore[no-any-return]


def main() -> int:
    parser = argparse.ArgumentParser(description="A remote agent for Slackwater. Its token is read from AGENT_TOKEN.")
    parser.add_argument("--url", required=True, help="where Slackwater is, such as https://slackwater.example")
    parser.add_argument("--work", required=True, metavar="MODULE:FUNCTION", help="what does an item")
    parser.add_argument("--stage", action="append", default=[], help="only jobs of this stage; may be repeated")
    parser.add_argument("--pause-interval", type=float, default=5.0, help="seconds between two questions, 1 at least")
    options = parser.parse_args()
    token = os.environ.get("AGENT_TOKEN", "")
    if not token:
        parser.error("set AGENT_TOKEN")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        process = work_of(options.work)
    except NoWork as error:
        print(error, file=sys.stderr)
        return 2
    agent = Agent(Server(options.url, token), process, options.stage, options.pause_interval)
    signal.signal(signal.SIGTERM, agent.end)
    signal.signal(signal.SIGINT, agent.end)
    logger.info("Agent %s asks %s for jobs.", socket.gethostname(), options.url)
    try:
        agent.run()
    except Refused as refusal:
        logger.error("%s", refusal)
        return 1
    return 0


if __name__ == "__main__":
    sys.modules["agent"] = sys.modules[__name__]  # or work that imports this would get a second TryLater
    sys.exit(main())
