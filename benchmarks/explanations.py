"""Explanations side by side with the packages most people use, on the same images and network.

Every package is called in its fastest way: the network as a compiled function with full batches,
each output once. All get the same images, superpixels and samples, and the threads that
``--threads`` says. Ways are timed in turn on each image, and ratios are medians over images of
one run. ``tf-keras-vis`` and ``xplique`` are left out where they are not installed.

    python -m benchmarks.explanations --data DATA --out benchmarks/results/explanations.json
    python -m benchmarks.explanations --data DATA --networks mobilenetv2-transfer \\
        --weights mobilenet_v2_1.0_224_notop_dequant.onnx
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SEED = 2025
#: Batches that ``lime`` is tried with on the first image; the fastest is used.
LIME_BATCHES = (10, 50, 100)

#: From features, ``(rows, columns, channels)``, and a size to masks, ``(channels, size, size)``.
Masks = Callable[[np.ndarray, int], np.ndarray]


@dataclass
class Times:
    """Seconds of two ways on each image, and the largest difference of their numbers."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    difference: float = 0.0

    def add(self, ours: float, theirs: float, difference: float) -> None:
        """Note what both took on one image."""
        self.ours.append(ours)
        self.theirs.append(theirs)
        self.difference = max(self.difference, difference)

    def summary(self) -> dict[str, float]:
        """Medians, and the ratios' range."""
        ratios = np.array(self.theirs) / np.array(self.ours)
        return {
            "images": len(ratios),
            "ours_s": float(np.median(self.ours)),
            "theirs_s": float(np.median(self.theirs)),
            "ratio": float(np.median(ratios)),
            "ratio_lowest": float(ratios.min()),
            "ratio_highest": float(ratios.max()),
            "largest_difference": self.difference,
        }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


class Bench:
    """One network and everything that is compared on it."""

    def __init__(self, name: str, threads: int, weights: Path | None) -> None:
        from pipeline.explain.perturbed import PerturbedScores

        self.network = network_named(name, weights)
        self.scores_of = PerturbedScores(self.network, threads=threads)
        self.lime_batch = 0
        self.rows = {
            name: Times() for name in ("lime", "lime_end_to_end", "lime_xplique", "score_cam")
        }
        self.peak = 0

    def run(self, data: bytes) -> None:
        """Compare everything on one image."""
        from pipeline.explain.lime import ShownImage
        from pipeline.explain.superpixels import hidden_colours, superpixels_of

        tile = tile_of(data, self.network)
        image = self.network.input_of(tile)
        seconds, superpixels = timed(lambda: superpixels_of(image[0], self.network.preprocessing))

        def ready() -> ShownImage:
            hidden = hidden_colours(image[0], superpixels, self.network.preprocessing)
            return ShownImage(image[0], superpixels, hidden)

        shown = ready()
        number = int(self.network.probabilities(image)[0].argmax())
        if not self.lime_batch:
            self._warm_up(shown, number)
        ours, weights = timed(lambda: self._our_lime(ready(), number))
        theirs, expected = timed(lambda: self._their_lime(shown, number, self.lime_batch))
        difference = float(np.abs(weights - expected).max())
        self.rows["lime"].add(ours, theirs, difference)
        self._time_xplique(shown, number, ours)
        self.rows["lime_end_to_end"].add(ours + seconds, theirs + seconds, difference)
        shared = self.scores_of.reason is None
        if shared:
            self._compare_score_cam(image, number)
        tracemalloc.start()
        self._our_lime(shown, number)
        if shared:
            self._our_score_cam(image, number)
        self.peak = max(self.peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    def _warm_up(self, shown: Any, number: int) -> None:
        self._our_lime(shown, number)
        found = {
            batch: timed(lambda b=batch: self._their_lime(shown, number, b, samples=200))[0]
            for batch in LIME_BATCHES
            for _ in range(2)
        }
        self.lime_batch = min(found, key=lambda batch: found[batch])

    def _our_lime(self, shown: Any, number: int) -> np.ndarray:
        from pipeline.explain.lime import draw_patterns
        from pipeline.explain.surrogate import fit_surrogates

        patterns = draw_patterns(shown.count, 1000, SEED)
        scores = self.scores_of(shown.samples(patterns))
        return fit_surrogates(patterns, scores[:, [number]])[0].weights

    def _their_lime(self, shown: Any, number: int, batch: int, samples: int = 1000) -> np.ndarray:
        from lime.lime_image import LimeImageExplainer

        explainer = LimeImageExplainer(random_state=np.random.RandomState(SEED))
        explanation = explainer.explain_instance(
            shown.image,
            lambda images: self.network.probabilities(np.stack(images)),
            labels=(number,),
            top_labels=None,
            num_samples=samples,
            random_seed=SEED,
            batch_size=batch,
            segmentation_fn=lambda _: shown.superpixels,
        )
        weights = np.zeros(shown.count)
        for region, weight in explanation.local_exp[number]:
            weights[region] = weight
        return weights

    def _time_xplique(self, shown: Any, number: int, ours: float) -> None:
        """LIME by another definition (Euclidean distance, black regions): only its time counts."""
        try:
            from xplique.attributions import Lime
        except ImportError:
            return
        import tensorflow as tf

        regions = tf.constant(shown.superpixels, tf.int32)
        explainer = Lime(
            self.network.model,
            batch_size=self.lime_batch,
            nb_samples=1000,
            map_to_interpret_space=lambda _: regions,
        )
        target = np.eye(self.network.model.output_shape[-1], dtype=np.float32)[[number]]
        theirs, _ = timed(lambda: explainer(shown.image[None], target))
        self.rows["lime_xplique"].add(ours, theirs, 0.0)

    def _our_score_cam(
        self, image: np.ndarray, number: int, masks_of: Masks | None = None
    ) -> np.ndarray:
        """``masks_of``: how channels become masks; as in reports where it is left out."""
        from pipeline.explain.exact import MaskedSamples
        from pipeline.explain.score_cam import channel_masks

        features, _ = self.network.feature_gradients(image, number)
        varied = np.ptp(features, axis=(0, 1)) > 0
        masks = (masks_of or channel_masks)(features[..., varied], image.shape[1])
        weights = self.scores_of(MaskedSamples(image[0], masks))[:, number]
        return np.maximum(features[..., varied] @ weights, 0)

    def _compare_score_cam(self, image: np.ndarray, number: int) -> None:
        try:
            from tf_keras_vis.scorecam import Scorecam
            from tf_keras_vis.utils.scores import CategoricalScore
        except ImportError:
            return
        import keras

        # Their weights are softmax of the network's output: it is given the logits.
        model = self.network.model
        head = model.layers[-1]
        logits = keras.layers.Dense(head.units, name="logits")
        linear = keras.Model(model.inputs, logits(head.input))
        logits.set_weights(head.get_weights())
        layer = self.network.feature_map_layer
        scorecam = Scorecam(linear)
        theirs, expected = timed(
            lambda: scorecam(
                CategoricalScore(number),
                image,
                penultimate_layer=layer,
                seek_penultimate_conv_layer=False,
                expand_cam=False,
                normalize_cam=False,
                batch_size=64,
            )
        )
        ours, _ = timed(lambda: self._our_score_cam(image, number))
        # They align the corners of masks: the numbers are those of the same masks, for both.
        found = self._our_score_cam(image, number, their_masks)
        expected = np.asarray(expected)[0]
        scale = max(expected.max(), 1e-9)
        difference = float(np.abs(found - expected).max() / scale)
        self.rows["score_cam"].add(ours, theirs, difference)

    def summary(self) -> dict[str, Any]:
        """All rows, and the most memory that explaining an image took besides."""
        rows = {name: row.summary() for name, row in self.rows.items() if row.ours}
        return {**rows, "lime_batch": self.lime_batch, "peak_bytes": self.peak}


def their_masks(features: np.ndarray, size: int) -> np.ndarray:
    """Masks as tf-keras-vis makes them: corners aligned, a small term in the divisor."""
    from scipy.ndimage import zoom

    factor = size / features.shape[0]
    found = zoom(features.astype(np.float32), (factor, factor, 1), order=1, mode="nearest")
    lowest, highest = found.min(axis=(0, 1)), found.max(axis=(0, 1))
    return np.ascontiguousarray(
        np.moveaxis((found - lowest) / (highest - lowest + 1e-7), -1, 0).astype(np.float32)
    )


def network_named(name: str, weights: Path | None = None) -> Any:
    """A shipped network; with pretrained ``weights`` that of a recipe, and a new head."""
    import keras

    from pipeline.bundle import default_bundle, load_bundle
    from pipeline.classify import Network
    from pipeline.training.recipes import RECIPES

    if weights is None:
        return load_bundle(default_bundle().parent / name).load_network()
    recipe = RECIPES[name]
    keras.utils.set_random_seed(SEED)
    model = recipe.build(4)
    if recipe.read_weights is not None:
        recipe.read_weights(model, weights)
    return Network(
        model,
        preprocessing=recipe.preprocessing,
        embedding_layer=recipe.embedding_layer,
        feature_map_layer=recipe.feature_map_layer,
    )


def tile_of(data: bytes, network: Any) -> Any:
    """What the network is shown of an image."""
    from pipeline.decode import decode
    from pipeline.geometry import fit_field
    from pipeline.segment import segment

    image = decode(data)
    cells = segment(image.pixels)
    return fit_field(image, cells, network.preprocessing.tile_size).tiles[0]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--networks", default="all-net,white-cells")
    parser.add_argument("--weights", type=Path, help="for the networks of recipes")
    options = parser.parse_args()

    import tensorflow as tf
    from threadpoolctl import threadpool_limits

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    files = sorted(options.data.glob("taleqani/*/*.jpg"))
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, options.images).astype(int)]
    result: dict[str, Any] = {"images": options.images, "threads": options.threads, "seed": SEED}
    for name in options.networks.split(","):
        bench = Bench(name, options.threads, options.weights)
        # This project shares its work out itself; the packages leave that to TensorFlow.
        with threadpool_limits(1):
            for file in chosen:
                bench.run(file.read_bytes())
        result[name] = bench.summary()
        print(name, json.dumps(result[name], indent=1), flush=True)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
