"""Class scores of perturbed versions of an image, by the cheapest exact way the network allows."""

from __future__ import annotations

import numpy as np

from pipeline.classify import Network
from pipeline.explain.exact import (
    LocalNetwork,
    Samples,
    UnsupportedNetworkError,
    scores_by_maps,
    scores_of,
)

#: Perturbed images per forward pass where they are not looked up. Always full, so that the network
#: sees one batch shape. Deep networks are fastest while a batch's maps stay in the caches.
BATCH_SIZE = 10

#: Patches are shared where a place before the pooling sees at most this part of the image's side.
#: Beyond it, nearly every sample looks different everywhere.
LARGEST_FIELD_OF_VIEW = 0.5

#: Of deeper networks the first layers are shared, as far as a place sees this part of the side, and
#: where no more than this part of their last map differs.
LARGEST_FIRST_FIELD_OF_VIEW = 1 / 6
LARGEST_DISTINCT_SHARE = 0.25


class PerturbedScores:
    """A network that scores many versions of one image.

    Patches are shared throughout, where the network allows it; else by its first layers; else every
    version is evaluated by itself.

    ``threads`` share the work where patches are shared, and change nothing but the time.
    ``reason``: why patches are not shared throughout; None where they are.
    """

    def __init__(self, network: Network, *, threads: int = 1) -> None:
        self._network = network
        self._threads = threads
        self._local: LocalNetwork | None = None
        self._first: LocalNetwork | None = None
        self.reason: str | None = None
        size = network.preprocessing.input_size
        try:
            local = LocalNetwork.of(network.model, (size, size))
            seen = max(local.field_of_view) / size
            if seen <= LARGEST_FIELD_OF_VIEW:
                self._local = local
                return
            self.reason = f"a place before the pooling sees {seen:.0%} of the image's side"
        except UnsupportedNetworkError as error:
            self.reason = str(error)
        try:
            field = int(size * LARGEST_FIRST_FIELD_OF_VIEW)
            self._first = LocalNetwork.before(network.model, (size, size), field)
        except UnsupportedNetworkError as error:
            self.reason += f"; {error}"

    def __call__(self, samples: Samples) -> np.ndarray:
        """Class scores of every sample, float64 ``(samples, classes)``."""
        found = None
        if self._local is not None:
            found = scores_of(self._local, samples, self._threads)
        elif self._first is not None:
            found = scores_by_maps(
                self._first,
                samples,
                BATCH_SIZE,
                self._threads,
                most_distinct=LARGEST_DISTINCT_SHARE,
            )
        if found is None:
            found = self._in_batches(samples)
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
