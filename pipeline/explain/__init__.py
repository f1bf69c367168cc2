"""Why the network decided as it did: LIME and class activation maps of the decisive tile."""

from __future__ import annotations

from pipeline.explain.explainer import Explainer, Likeness
from pipeline.explain.relevance import doubted

__all__ = ["Explainer", "Likeness", "doubted"]
