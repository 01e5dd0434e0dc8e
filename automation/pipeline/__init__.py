"""All that the author of a stage needs: ``Pipeline``, ``Stage``, ``GroupStage``, ``Needs``, ``Param``, ``register``.

A pipeline is declared in code, in a module ``pipelines`` of any installed app::

    from automation.pipeline import Needs, Pipeline, Stage, register

    class Shout(Stage):
        slug = "shout"
        title = "Shout"

        def process(self, item, ctx):
            yield {"text": item["text"].upper()}

    @register
    class Shouting(Pipeline):
        slug = "shouting"
        title = "Shouting"
        stages = (Shout,)

A stage sees items and a :class:`~automation.pipeline.context.StageContext`; never statuses, locks or Celery.
"""

from automation.errors import FreezeLane, NeedsInput, TryLater
from automation.files.names import slug_name
from automation.inputs import Reader, Rows
from automation.pipeline.params import AGENT, CELERY, Param
from automation.pipeline.pipeline import Pipeline
from automation.pipeline.registry import all_pipelines, get_pipeline, register
from automation.pipeline.stage import AnyStage, BaseStage, GroupStage, Payload, Stage
from pause_manager.capacity.needs import Needs

__all__ = [
    "AGENT",
    "CELERY",
    "AnyStage",
    "BaseStage",
    "FreezeLane",
    "GroupStage",
    "Needs",
    "NeedsInput",
    "Param",
    "Payload",
    "Pipeline",
    "Reader",
    "Rows",
    "Stage",
    "TryLater",
    "all_pipelines",
    "get_pipeline",
    "register",
    "slug_name",
]
