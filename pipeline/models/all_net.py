"""ALL-Net, the small convolutional network of Thiriveedhi et al. 2025.

Source: Thiriveedhi A. et al., "ALL-Net: integrating CNN and explainable-AI for enhanced
diagnosis and interpretation of acute lymphoblastic leukemia", PeerJ Computer Science 2025, e2600.
"""

from __future__ import annotations

import keras

INPUT_SIZE = 224
CONVOLUTION_FILTERS = (64, 128, 256)
DENSE_UNITS = (256, 512, 1024)
DROPOUT_RATE = 0.2

#: Last feature map (26x26x256 for a 224x224 input): what Grad-CAM looks at.
FEATURE_MAP_LAYER = "pool3"
#: First dense layer after pooling: the embedding in which neighbours are searched.
EMBEDDING_LAYER = "dense1"


def build_all_net(classes: int = 4) -> keras.Model:
    """Build ALL-Net with fresh weights.

    Input: float32 ``(batch, 224, 224, 3)``, RGB scaled to 0..1.
    Output: float32 ``(batch, classes)``, softmax probabilities.
    With four classes the network has 1,097,604 parameters.
    """
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="image")
    features = image
    for number, filters in enumerate(CONVOLUTION_FILTERS, start=1):
        features = keras.layers.Conv2D(filters, 3, activation="relu", name=f"conv{number}")(
            features
        )
        features = keras.layers.MaxPooling2D(2, name=f"pool{number}")(features)
    hidden = keras.layers.GlobalAveragePooling2D(name="average")(features)
    for number, units in enumerate(DENSE_UNITS, start=1):
        hidden = keras.layers.Dense(units, activation="relu", name=f"dense{number}")(hidden)
    hidden = keras.layers.Dropout(DROPOUT_RATE, name="dropout")(hidden)
    # Softmax stays in float32 when the rest trains in mixed precision.
    probabilities = keras.layers.Dense(
        classes, activation="softmax", dtype="float32", name="probabilities"
    )(hidden)
    return keras.Model(image, probabilities, name="all-net")
