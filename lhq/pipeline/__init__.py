"""Pipeline file → plan → run: the file's schema, the table of names, the wiring of the stages."""

from lhq.pipeline.publishing import Exported
from lhq.pipeline.run import Pipeline, load, verify

__all__ = ["Exported", "Pipeline", "load", "verify"]
