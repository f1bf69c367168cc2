"""What a model must beat: classifiers that look at no cell.

Each learns from the images outside the test part and judges the test part, as the model does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ConfigurationError

#: Trees of the forest; more change nothing but the time.
FOREST_TREES = 300


@dataclass(frozen=True)
class Baseline:
    """A classifier on colour numbers; ``build(seed)`` gives an untrained scikit-learn estimator."""

    name: str
    words: str
    build: Callable[[int], Any]


def _majority(_: int) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=FOREST_TREES, random_state=seed)


def _nearest(_: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=1))


BASELINES: dict[str, Baseline] = {
    one.name: one
    for one in (
        Baseline("majority", "always the most frequent class", _majority),
        Baseline("nearest-colour", "the class of the image with the nearest colours", _nearest),
        Baseline("colour-forest", "a random forest on twelve colour numbers", _forest),
    )
}


def baseline_named(name: str) -> Baseline:
    """Return the baseline called ``name``; raises ConfigurationError with the known names."""
    try:
        return BASELINES[name]
    except KeyError:
        known = ", ".join(BASELINES)
        raise ConfigurationError(f"there is no baseline {name!r}; known: {known}") from None


def judge_by_colour(
    baseline: Baseline,
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    classes: int,
    seed: int,
) -> np.ndarray:
    """Probabilities float64 ``(test images, classes)`` of a baseline trained on ``train``.

    ``train`` and ``test``: colour numbers ``(images, 12)``. ``labels``: class numbers of ``train``.
    Classes that ``train`` lacks get 0. Raises ConfigurationError if there is nothing to learn from.
    """
    if len(train) == 0:
        raise ConfigurationError(
            "there are no labelled images outside the test part for a baseline to learn from"
        )
    estimator = baseline.build(seed)
    estimator.fit(train, labels)
    probabilities = np.zeros((len(test), classes))
    probabilities[:, estimator.classes_] = estimator.predict_proba(test)
    return probabilities
