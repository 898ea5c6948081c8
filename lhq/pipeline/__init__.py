"""Pipeline file → plan → run: the file's schema, the table of names, the wiring of the stages."""

from lhq.pipeline.collections import Stated
from lhq.pipeline.publishing import Exported, Push
from lhq.pipeline.run import Pipeline, load, verify

__all__ = ["Exported", "Pipeline", "Push", "Stated", "load", "verify"]
