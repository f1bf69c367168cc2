"""How a field of any size becomes network input, so that cells keep the size the network knows.

``fit_field`` is the public face, with ``whole_tile`` for training fields. ``ruler``
measures red cells; ``foreground`` and ``arcs`` are its two steps. ``windows`` spreads windows over
a field and cuts them out.
"""

from pipeline.geometry.fit import fit_field
from pipeline.geometry.windows import squash, whole_tile

__all__ = ["fit_field", "squash", "whole_tile"]
