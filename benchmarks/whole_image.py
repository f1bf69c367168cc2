"""One image from its file to its written result, against a composition of well-known packages.

The composition does what a careful person would write: OpenCV decodes, finds the cells and draws;
the network is a compiled function; scikit-learn finds the neighbours; ``lime`` and ``tf-keras-vis``
explain. Both get the same images, network, LIME samples, superpixels and threads, are timed in turn
on each image, and compute each output once. ``lime`` has its best batch. To the composition's
favour, it is handed the network's input ready-made, its segmentation is a threshold, and it leaves
out LIME for malignancy and the latent map.

    python -m benchmarks.whole_image --data DATA --out benchmarks/results/whole_image.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from benchmarks.explanations import LIME_BATCHES, Times, tile_of, timed

SAMPLES = 1000
NEIGHBOURS = 5
#: Side of the pictures of explanations, as in this project.
PICTURE = 448


class Composition:
    """The packages, put together. Whatever can be prepared once is."""

    def __init__(self, network: Any, references: Any) -> None:
        import keras
        from sklearn.neighbors import NearestNeighbors
        from tf_keras_vis.gradcam import Gradcam
        from tf_keras_vis.scorecam import Scorecam

        self.network = network
        self.references = references
        self.search = NearestNeighbors(n_neighbors=NEIGHBOURS)
        self.search.fit(references.normalise(references.embeddings))
        # tf-keras-vis explains the network's output: it is given the logits.
        head = network.model.layers[-1]
        logits = keras.layers.Dense(head.units, name="logits")
        linear = keras.Model(network.model.inputs, logits(head.input))
        logits.set_weights(head.get_weights())
        self.gradcam, self.scorecam = Gradcam(linear), Scorecam(linear)
        self.lime_batch = 0

    def __call__(
        self, data: bytes, image: np.ndarray, superpixels: Any, seed: int, folder: Path
    ) -> dict[str, Any]:
        """Judge and explain one image and write the result.

        ``image``: the network's input. ``superpixels``: computes them from it.
        """
        field = cv2.cvtColor(
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        )
        cells, nuclei, outlines = find_cells(field)
        grey = cv2.cvtColor(field, cv2.COLOR_RGB2GRAY)
        quality = {
            "focus": float(cv2.Laplacian(grey, cv2.CV_64F).var()),
            "brightness": float(np.median(grey)),
        }
        embedding, scores = self.network.embed_and_score(image)
        number = int(scores[0].argmax())
        distances, rows = self.search.kneighbors(self.references.normalise(embedding))
        weights, regions = self.lime(image[0], number, superpixels, seed)
        maps = self.maps(image, number)
        near = [self.references.ids[row] for row in rows[0]]
        maps["similarity"] = self.similarity(image, near)
        heats = {"lime": np.abs(weights)[regions], **maps}
        result = {
            "probabilities": scores[0].tolist(),
            "quality": quality,
            "cells": outlines,
            "neighbours": dict(zip(near, distances[0].tolist(), strict=True)),
            "weights": weights.tolist(),
            "maps": {name: heat.tolist() for name, heat in maps.items()},
            "mr_ssim": float(
                structural_similarity(
                    resized(maps["grad_cam"]), resized(maps["score_cam"]), data_range=1.0
                )
            ),
            **{
                f"{name}_{part}": share_on(heats[name], mask)
                for name in ("lime", "grad_cam", "score_cam")
                for part, mask in (("cells", cells), ("nuclei", nuclei))
            },
            "areas": [
                self.areas(image[0], regions, heats[name], number)
                for name in ("lime", "grad_cam", "score_cam")
            ],
        }
        self.draw(field, image[0], regions, weights, maps, folder)
        (folder / "result.json").write_text(json.dumps(result))
        return result

    def lime(
        self,
        image: np.ndarray,
        number: int,
        superpixels: Any,
        seed: int,
        samples: int = SAMPLES,
        batch: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights of all superpixels, and the superpixels."""
        from lime.lime_image import LimeImageExplainer

        explanation = LimeImageExplainer(random_state=np.random.RandomState(seed)).explain_instance(
            image,
            lambda images: self.network.probabilities(np.stack(images)),
            labels=(number,),
            top_labels=None,
            num_samples=samples,
            random_seed=seed,
            batch_size=batch or self.lime_batch,
            segmentation_fn=superpixels,
        )
        regions = explanation.segments
        weights = np.zeros(int(regions.max()) + 1)
        for region, weight in explanation.local_exp[number]:
            weights[region] = weight
        return weights, regions

    def maps(self, image: np.ndarray, number: int) -> dict[str, np.ndarray]:
        """Grad-CAM and Score-CAM in 0..1 at the network's resolution."""
        from tf_keras_vis.utils.scores import CategoricalScore

        common = {
            "penultimate_layer": self.network.feature_map_layer,
            "seek_penultimate_conv_layer": False,
        }
        score = CategoricalScore(number)
        return {
            "grad_cam": np.asarray(self.gradcam(score, image, **common))[0],
            "score_cam": np.asarray(self.scorecam(score, image, batch_size=64, **common))[0],
        }

    def similarity(self, image: np.ndarray, near: list[str]) -> np.ndarray:
        """Metric-Grad-CAM, mean over the neighbours."""
        number = 0
        features, _ = self.network.feature_gradients(image, number)
        slopes = self.references.similarity_gradients(near)
        gradients = self.network.similarity_gradients(image, slopes)
        cams = np.maximum((features * gradients.mean(axis=(1, 2), keepdims=True)).sum(-1), 0)
        mean = cams.mean(axis=0)
        return np.asarray(mean / max(mean.max(), 1e-9))

    def areas(
        self, image: np.ndarray, regions: np.ndarray, heat: np.ndarray, number: int
    ) -> tuple[float, float]:
        """Deletion and insertion over superpixels."""
        count = int(regions.max()) + 1
        heat = resized(heat, len(image))
        sizes = np.bincount(regions.ravel(), minlength=count)
        means = np.bincount(regions.ravel(), weights=heat.ravel(), minlength=count) / sizes
        ranks = np.argsort(np.argsort(-means))[regions]
        colours = [
            np.bincount(regions.ravel(), weights=image[..., c].ravel()) / sizes for c in range(3)
        ]
        hidden = np.stack(colours, axis=-1).astype(np.float32)[regions]
        found = []
        for shown in (False, True):
            images = [
                np.where(((ranks < done) == shown)[..., None], image, hidden)
                for done in range(count + 1)
            ]
            batches = [images[start : start + 50] for start in range(0, len(images), 50)]
            scores = [self.network.probabilities(np.stack(some))[:, number] for some in batches]
            found.append(float(np.concatenate(scores).mean()))
        return found[0], found[1]

    def draw(
        self,
        field: np.ndarray,
        image: np.ndarray,
        regions: np.ndarray,
        weights: np.ndarray,
        maps: dict[str, np.ndarray],
        folder: Path,
    ) -> None:
        """The field, the tile and five overlays."""
        from skimage.segmentation import mark_boundaries

        tile = cv2.resize((255 * image).astype(np.uint8), (PICTURE, PICTURE))
        large = cv2.resize(
            regions.astype(np.float32), (PICTURE, PICTURE), interpolation=cv2.INTER_NEAREST
        ).astype(int)
        top = np.isin(large, np.argsort(-weights)[:5])
        outlined = mark_boundaries(np.where(top[..., None], tile, 160), top.astype(int))
        shares = weights / max(np.abs(weights).max(), 1e-9)
        tint = np.stack([np.maximum(shares, 0), 0 * shares, np.maximum(-shares, 0)], axis=-1)
        pictures = {
            "field": field,
            "tile": tile,
            "top_regions": (255 * outlined).astype(np.uint8),
            "weights": cv2.addWeighted(tile, 0.5, (255 * tint[large]).astype(np.uint8), 0.5, 0),
        }
        for name, heat in maps.items():
            levels = (255 * np.clip(resized(heat, PICTURE), 0, 1)).astype(np.uint8)
            colours = cv2.cvtColor(
                cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB
            )
            pictures[name] = cv2.addWeighted(tile, 0.5, colours, 0.5, 0)
        for name, picture in pictures.items():
            cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def find_cells(field: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Cells and nuclei by Otsu thresholds of saturation, and the cells' outlines."""
    saturation = cv2.GaussianBlur(cv2.cvtColor(field, cv2.COLOR_RGB2HSV)[..., 1], (0, 0), 1)
    level, nuclei = cv2.threshold(saturation, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    cells = ((saturation > 0.7 * level) * 255).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    cells = cv2.morphologyEx(cells, cv2.MORPH_OPEN, kernel)
    found, _ = cv2.findContours(cells, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cells > 0, nuclei > 0, [outline[:, 0].tolist() for outline in found]


def resized(heat: np.ndarray, size: int = 224) -> np.ndarray:
    """A map at another resolution, bilinearly."""
    return np.asarray(cv2.resize(heat.astype(np.float32), (size, size)))


def share_on(heat: np.ndarray, mask: np.ndarray) -> float:
    """Share of a map that lies on a mask of any resolution."""
    on = cv2.resize(mask.astype(np.uint8), heat.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return float(heat[on > 0].sum() / max(heat.sum(), 1e-9))


class Bench:
    """One network, both ways."""

    def __init__(self, name: str, threads: int, folder: Path) -> None:
        from pipeline.analyse import Analyser
        from pipeline.bundle import default_bundle, load_bundle
        from pipeline.results import AnalysisOptions
        from worker.store import open_store

        bundle = load_bundle(default_bundle().parent / name)
        self.network = bundle.load_network()
        options = AnalysisOptions(explain="all", lime_samples=SAMPLES)
        self.analyser = Analyser(bundle, self.network, options, threads=threads)
        self.theirs = Composition(self.network, bundle.references)
        self.threads = threads
        self.folder = folder
        self.store = open_store(str(folder / "store"), create=True)
        self.times = Times()
        self.same_label = 0

    def run(self, data: bytes, name: str) -> None:
        """Time both on one image."""
        from pipeline.analyse import seed_of
        from pipeline.decode import decode
        from pipeline.explain.superpixels import superpixels_of

        image = self.network.input_of(tile_of(data, self.network))
        seed = seed_of(decode(data))

        def superpixels(given: np.ndarray) -> np.ndarray:
            return superpixels_of(given.astype(np.float32), self.network.preprocessing)

        def theirs() -> Any:
            folder = self.folder / "theirs" / name
            folder.mkdir(parents=True, exist_ok=True)
            return self.theirs(data, image, superpixels, seed, folder)

        if not self.theirs.lime_batch:
            self._warm_up(data, image, superpixels, seed, theirs)
        with own_threads(1):
            ours, analysis = timed(lambda: self._ours(data, name))
        with own_threads(self.threads):
            seconds, expected = timed(theirs)
        lime = analysis.result.explanations.lime
        weights = np.asarray(lime.weights)
        # A superpixel that looks the same on and off has no weight here, and noise there.
        seen = weights != 0
        difference = np.abs(weights - expected["weights"])[seen].max(initial=0.0)
        self.times.add(ours, seconds, float(difference))
        ours_first = int(np.argmax(list(analysis.result.probabilities.values())))
        self.same_label += ours_first == int(np.argmax(expected["probabilities"]))
        print(f"{name}: {ours:.2f} s, {seconds:.2f} s", flush=True)

    def _ours(self, data: bytes, name: str) -> Any:
        from pipeline.canonical import canonical_bytes

        analysis = self.analyser(data)
        for picture, content in sorted(analysis.pictures.items()):
            self.store.create(f"{name}/{picture}.png", content)
        self.store.create(f"{name}/analysis.json", canonical_bytes(analysis.result))
        return analysis

    def _warm_up(
        self, data: bytes, image: np.ndarray, superpixels: Any, seed: int, theirs: Any
    ) -> None:
        """Compile and load everything, and find the batch that suits ``lime`` best."""
        regions = superpixels(image[0])
        found = {
            batch: timed(
                lambda b=batch: self.theirs.lime(
                    image[0], 0, lambda _: regions, seed, samples=200, batch=b
                )
            )[0]
            for batch in LIME_BATCHES
            for _ in range(2)
        }
        self.theirs.lime_batch = min(found, key=lambda batch: found[batch])
        theirs()
        self._ours(data, "warm-up")

    def summary(self) -> dict[str, Any]:
        """Medians over the images."""
        found = self.times.summary()
        difference = found.pop("largest_difference")
        return {
            **found,
            "largest_difference_of_weights": difference,
            "same_label": self.same_label,
            "lime_batch": self.theirs.lime_batch,
        }


@contextmanager
def own_threads(threads: int) -> Any:
    """Threads of OpenCV and linear algebra; TensorFlow's are set once for the process."""
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    with threadpool_limits(threads):
        yield
    cv2.setNumThreads(before)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--networks", default="all-net,white-cells")
    options = parser.parse_args()

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    files = sorted(options.data.glob("taleqani/*/*.jpg"))
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, options.images).astype(int)]
    result: dict[str, Any] = {
        "images": options.images,
        "threads": options.threads,
        "samples": SAMPLES,
    }
    for name in options.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(name, options.threads, Path(folder))
            for number, file in enumerate(chosen):
                bench.run(file.read_bytes(), f"image-{number:03}")
        result[name] = bench.summary()
        print(name, json.dumps(result[name], indent=1), flush=True)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
