"""Pictures: drawn, equal for equal figures, and refused where there is nothing to draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.evaluation import plots
from pipeline.labels import LABELS

BINS = [
    {"images": 5, "probability": 0.2, "frequency": 0.1},
    {"images": 9, "probability": 0.9, "frequency": 1.0},
]
ROC = {"false_positive": [0.0, 0.1, 1.0], "true_positive": [0.0, 0.9, 1.0]}
RISK = {"coverage": [0.5, 1.0], "risk": [0.0, 0.1], "area": 0.03}


def draw_everything(out: Path) -> None:
    plots.draw_confusion(out / "confusion.svg", [[9, 1], [0, 0]], ["benign", "malignant"])
    plots.draw_roc(out / "roc.svg", dict.fromkeys([*LABELS, "malignant"], ROC), {"benign": ", a"})
    plots.draw_reliability(out / "reliability.svg", {"malignant": BINS})
    plots.draw_risk_coverage(out / "risk.svg", {"distance": RISK, "score": RISK}, (0.8, 0.02))
    history = [
        {"epoch": 1, "loss": 1.0, "accuracy": 0.4, "validation_loss": 1.2},
        {"epoch": 2, "loss": 0.5, "accuracy": 0.8, "validation_loss": 0.9},
    ]
    plots.draw_training(out / "training.svg", {"fold-0": history, "fold-1": history})


def test_equal_figures_give_equal_files(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        draw_everything(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 5
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "other" / name).read_bytes()
        assert content.rstrip().endswith(b"</svg>")


def test_another_figure_gives_another_picture(tmp_path):
    plots.draw_confusion(tmp_path / "a.svg", [[9, 1], [0, 5]], ["x", "y"])
    plots.draw_confusion(tmp_path / "b.svg", [[9, 2], [0, 5]], ["x", "y"])
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_the_embedding_is_drawn_from_its_seed_and_not_of_a_handful(tmp_path):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(24, 5)) + np.repeat(np.arange(4), 6)[:, None] * 4
    truths = [LABELS[number // 6] for number in range(23)] + ["outside"]
    wrong = np.arange(24) == 3
    for name in ("a.svg", "b.svg"):
        assert plots.draw_embedding(tmp_path / name, points, truths, wrong, seed=1)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    few = tmp_path / "few.svg"
    assert not plots.draw_embedding(few, points[:5], truths[:5], wrong[:5], seed=1)
    assert not few.exists()
