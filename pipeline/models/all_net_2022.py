"""ALLNet of Sampathila et al. 2022, for segmented single cells: benign or malignant.

Source: Sampathila N. et al., "Customized deep learning classifier for detection of acute
lymphoblastic leukemia using blood smear images", Healthcare 2022, 10(10):1812.
"""

from __future__ import annotations

from typing import Any

import keras

INPUT_SIZE = 450
CONVOLUTION_FILTERS = (64, 256, 384, 512)
#: Poolings after which batch normalisation follows: the only placement that gives the published
#: numbers of parameters.
NORMALISED = (3, 4)
DENSE_UNITS = 4096
#: The paper has dropout; the rate is this project's choice.
DROPOUT_RATE = 0.5

FEATURE_MAP_LAYER = "pool4"
EMBEDDING_LAYER = "dense2"


def build_all_net_2022(classes: int = 2) -> keras.Model:
    """Build ALLNet with fresh weights.

    Input: float32 ``(batch, 450, 450, 3)``, RGB in 0..1. Output: float32 ``(batch, classes)``,
    softmax probabilities. With two classes it has 95,099,266 parameters, 95,097,474 trainable.
    """
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="image")
    hidden: Any = image
    for number, filters in enumerate(CONVOLUTION_FILTERS, start=1):
        hidden = keras.layers.Conv2D(
            filters, 3, padding="same", activation="relu", name=f"conv{number}"
        )(hidden)
        # 450 pixels become 150, 50, 17 and 6.
        hidden = keras.layers.MaxPooling2D(3, padding="same", name=f"pool{number}")(hidden)
        if number in NORMALISED:
            hidden = keras.layers.BatchNormalization(name=f"normalise{number}")(hidden)
    hidden = keras.layers.Flatten(name="flat")(hidden)
    for number in (1, 2):
        hidden = keras.layers.Dense(DENSE_UNITS, activation="relu", name=f"dense{number}")(hidden)
        hidden = keras.layers.Dropout(DROPOUT_RATE, name=f"dropout{number}")(hidden)
    probabilities = keras.layers.Dense(
        classes, activation="softmax", dtype="float32", name="probabilities"
    )(hidden)
    return keras.Model(image, probabilities, name="allnet-2022")
