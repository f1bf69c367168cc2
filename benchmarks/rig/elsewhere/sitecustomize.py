"""Imported by every Python process that has this folder on its path: it believes to be elsewhere.

``RIG_CLOCK_SECONDS``: how far its clock is ahead. ``RIG_NODE``: the name of its machine. Times of
files stay those of the file server.
"""

import os
import platform
import time

_real = time.time
_ahead = float(os.environ.get("RIG_CLOCK_SECONDS", "0"))
_node = os.environ.get("RIG_NODE", platform.node())

time.time = lambda: _real() + _ahead
platform.node = lambda: _node
