"""``manage.py explain``: why a new run of a pipeline would wait, or why an agent gets no work."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from automation.agents import explanation as of_agent
from automation.management.run_command import CommandRefused, Exit, RunCommand
from automation.models import Agent, Site
from automation.pipeline import get_pipeline
from automation.reports import explanation
from pause_manager.management.reasons import lines_of
from pause_manager.management.shell import add_json, no_verb
from pause_manager.reasons import Explanation


class Command(RunCommand):
    """Asks what a run that is created now would meet, or a claim that an agent makes now; does neither."""

    help = (
        "Say why a new run of a pipeline would wait, or why an agent gets no work. "
        "For a run there is explain_run, for a parked task pause_queue explain."
    )
    epilog = """\
exit codes:
  0    done, whatever the answer
  1    an unexpected error, such as no database
  2    wrong usage, or no such pipeline
  4    no such site or agent
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb")
        pipeline = verbs.add_parser("pipeline", help="a run that is created now")
        pipeline.add_argument("pipeline", help="slug of the pipeline")
        pipeline.add_argument("--site", default="default", help="slug of the site (default: default)")
        agent = verbs.add_parser("agent", help="a claim that an agent makes now")
        agent.add_argument("agent", help="name of the agent")
        for verb in (pipeline, agent):
            add_json(verb)

    def run_command(self, **options: Any) -> Exit:
        if options["verb"] is None:
            raise no_verb("explain", "pipeline", "agent")
        name, explained = self._of_pipeline(options) if options["verb"] == "pipeline" else self._of_agent(options)
        if options["json"]:
            self.line(explained.as_dict())
            return Exit.OK
        self.line(name)
        for line in lines_of(explained):
            self.line(line)
        return Exit.OK

    def _of_pipeline(self, options: dict[str, Any]) -> tuple[str, Explanation]:
        pipeline = get_pipeline(options["pipeline"])
        site = Site.objects.select_related("account").filter(slug=options["site"]).first()
        if site is None:
            raise CommandRefused(f"Cannot find site {options['site']!r}.", Exit.NOT_FOUND, "not_found")
        return f"A new run of {pipeline.slug} for site {site.slug}:", explanation.of_new_run(pipeline, site)

    def _of_agent(self, options: dict[str, Any]) -> tuple[str, Explanation]:
        agent = Agent.objects.filter(name=options["agent"]).first()
        if agent is None:
            raise CommandRefused(f"Cannot find agent {options['agent']!r}.", Exit.NOT_FOUND, "not_found")
        return f"Agent {agent.name} on node {agent.node}:", of_agent.explain(agent)
