"""Class scores of perturbed versions of an image, by the cheapest exact way the network allows."""

from __future__ import annotations

import numpy as np

from pipeline.classify import Network
from pipeline.explain.exact import LocalNetwork, Samples, UnsupportedNetworkError, scores_of

#: Perturbed images per forward pass where patches are not shared. Always full, so that the network
#: sees one batch shape.
BATCH_SIZE = 50

#: Patches are shared where a place before the pooling sees at most this part of the image's side.
#: Beyond it, nearly every sample looks different everywhere.
LARGEST_FIELD_OF_VIEW = 0.5


class PerturbedScores:
    """A network that scores many versions of one image.

    ``threads`` share the work where patches are shared, and change nothing but the time.
    ``reason``: why patches are not shared; None where they are.
    """

    def __init__(self, network: Network, *, threads: int = 1) -> None:
        self._network = network
        self._threads = threads
        self._local: LocalNetwork | None = None
        self.reason: str | None = None
        size = network.preprocessing.input_size
        try:
            local = LocalNetwork.of(network.model, (size, size))
        except UnsupportedNetworkError as error:
            self.reason = str(error)
            return
        seen = max(local.field_of_view) / size
        if seen > LARGEST_FIELD_OF_VIEW:
            self.reason = f"a place before the pooling sees {seen:.0%} of the image's side"
        else:
            self._local = local

    def __call__(self, samples: Samples) -> np.ndarray:
        """Class scores of every sample, float64 ``(samples, classes)``."""
        if self._local is None:
            found = self._in_batches(samples)
        else:
            found = scores_of(self._local, samples, self._threads)
        return found.astype(np.float64)

    def _in_batches(self, samples: Samples) -> np.ndarray:
        found = []
        for start in range(0, samples.count, BATCH_SIZE):
            some = samples.part(start, min(start + BATCH_SIZE, samples.count))
            # The last batch is filled up with its last sample.
            missing = BATCH_SIZE - some.count
            batch = np.pad(some.images(), ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge")
            found.append(self._network.probabilities(batch)[: some.count])
        return np.concatenate(found)
