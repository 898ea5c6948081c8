"""lhq: from search queries to a published dataset of landscape photographs."""

__version__ = "0.1.0"
