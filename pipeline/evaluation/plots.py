"""The pictures of an evaluation, as SVG: what a table cannot show.

Equal figures give equal files: no dates, and identifiers from a fixed salt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.labels import CLASS_COLOURS, DISPLAY_NAMES, LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY = "#777777"
_SHORT = {label: DISPLAY_NAMES[label].split(" ")[0] for label in LABELS}

#: Fewer points have no neighbourhoods to draw.
TSNE_MINIMUM = 10


@contextmanager
def _axes(path: Path, width: float = 4.6, height: float = 4.2) -> Iterator[Axes]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.style import context

    # Without pyplot: nothing is registered globally and no display is looked for.
    settings = {"svg.hashsalt": "screen", "svg.fonttype": "path", "font.size": 9}
    with context(["default", settings]):
        picture = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(picture)
        axes = picture.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        picture.savefig(path, metadata={"Date": None})


def draw_confusion(path: Path, matrix: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Counts, shaded by the share of the true class."""
    counts = np.array(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1)
    with _axes(path) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(counts.shape):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{counts[row, column]}\n{share:.1%}",
                ha="center",
                va="center",
                color="white" if share > 0.6 else "black",
            )
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="decision", ylabel="truth", title="Confusion matrix")
        axes.spines[:].set_visible(False)


def draw_roc(path: Path, curves: Mapping[str, Mapping[str, Any]], areas: Mapping[str, str]) -> None:
    """One curve per class against the rest, and benign against malignant.

    ``areas``: words on the area under each curve, for the legend.
    """
    with _axes(path) as axes:
        axes.plot([0, 1], [0, 1], color="#CCCCCC", linewidth=0.8)
        for name, curve in curves.items():
            axes.plot(
                curve["false_positive"],
                curve["true_positive"],
                color=CLASS_COLOURS.get(name, "black"),  # type: ignore[call-overload]
                linestyle="-" if name in _SHORT else "--",
                label=_named(name) + areas.get(name, ""),
            )
        axes.set(
            xlabel="false positive rate",
            ylabel="true positive rate",
            title="ROC",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        axes.legend(loc="lower right", frameon=False)


def draw_reliability(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """How often it is so, against the probability that was given; points sized by their images."""
    with _axes(path) as axes:
        axes.plot([0, 1], [0, 1], color="#CCCCCC", linewidth=0.8)
        for (name, bins), colour in zip(curves.items(), ("#0072B2", "#D55E00"), strict=False):
            probability = [one["probability"] for one in bins]
            frequency = [one["frequency"] for one in bins]
            images = np.array([one["images"] for one in bins])
            axes.plot(probability, frequency, color=colour, linewidth=1, label=name)
            axes.scatter(probability, frequency, s=8 + 140 * images / images.sum(), color=colour)
        axes.set(xlabel="probability", ylabel="how often it was so", title="Reliability")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="best", frameon=False)


def draw_risk_coverage(
    path: Path, curves: Mapping[str, Mapping[str, Any]], flag: tuple[float, float] | None
) -> None:
    """Errors among the decisions that are kept, by how many are kept, most trusted first.

    ``flag``: coverage and error of the flag as it is; None where nothing is ``high``.
    """
    names = {
        "probability": ("by the network's probability", "#E69F00"),
        "distance": ("by distance to references", "#0072B2"),
        "score": ("by the confidence score", "#009E73"),
    }
    with _axes(path) as axes:
        for name, curve in curves.items():
            words, colour = names[name]
            words += f", area {curve['area']:.4f}"
            axes.plot(curve["coverage"], curve["risk"], color=colour, label=words)
        if flag is not None:
            axes.plot(*flag, "o", color="black", label="flag high")
        axes.set(xlabel="share of images kept", ylabel="share of them wrong")
        axes.set(title="Risk and coverage", xlim=(0, 1.02))
        axes.set_ylim(bottom=0)
        axes.legend(loc="best", frameon=False)


def draw_training(path: Path, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Loss and accuracy of every epoch on the training part; a line per fold."""
    with _axes(path, width=6) as axes:
        right = axes.twinx()
        right.spines["top"].set_visible(False)
        for number, history in enumerate(histories.values()):
            epochs = [one["epoch"] for one in history]
            words = ("loss", "accuracy") if number == 0 else (None, None)
            axes.plot(epochs, [one["loss"] for one in history], color="#D55E00", label=words[0])
            if all("validation_loss" in one for one in history):
                axes.plot(
                    epochs,
                    [one["validation_loss"] for one in history],
                    color="#D55E00",
                    linestyle=":",
                    label="validation loss" if number == 0 else None,
                )
            right.plot(
                epochs, [one["accuracy"] for one in history], color="#0072B2", label=words[1]
            )
        axes.set(xlabel="epoch", ylabel="loss", title="Training")
        axes.set_ylim(bottom=0)
        right.set(ylabel="accuracy", ylim=(0, 1.02))
        lines = [*axes.get_lines(), *right.get_lines()]
        shown = [line for line in lines if not str(line.get_label()).startswith("_")]
        axes.legend(
            shown, [str(line.get_label()) for line in shown], loc="center right", frameon=False
        )


def draw_embedding(
    path: Path,
    embeddings: np.ndarray,
    truths: Sequence[str],
    wrong: np.ndarray,
    seed: int,
) -> bool:
    """t-SNE (van der Maaten and Hinton 2008) of the embeddings ``(images, dimensions)``.

    Coloured by truth, wrong decisions ringed. Distances between clusters mean nothing. False, and
    no file, if there are too few images.
    """
    from sklearn.manifold import TSNE

    if len(embeddings) < TSNE_MINIMUM:
        return False
    extent = np.ptp(embeddings, axis=0)
    scaled = (embeddings - embeddings.min(axis=0)) / np.where(extent > 0, extent, 1)
    perplexity = min(30.0, (len(scaled) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(scaled)
    with _axes(path, width=6.4, height=5) as axes:
        for truth in dict.fromkeys([*LABELS, *truths]):
            chosen = np.array([one == truth for one in truths])
            if chosen.any():
                colour = CLASS_COLOURS.get(truth, _GREY)  # type: ignore[call-overload]
                axes.scatter(
                    points[chosen, 0], points[chosen, 1], s=7, color=colour, label=_named(truth)
                )
        if wrong.any():
            axes.scatter(
                points[wrong, 0],
                points[wrong, 1],
                s=30,
                label="wrong decision",
                facecolors="none",
                edgecolors="black",
                linewidths=0.8,
            )
        axes.set(xticks=[], yticks=[], title="Embedding (t-SNE)")
        axes.spines[:].set_visible(False)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return True


def _named(name: str) -> str:
    return _SHORT.get(name, name)  # type: ignore[call-overload]
