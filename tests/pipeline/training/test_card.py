"""What a model card keeps when thresholds are found anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bundle import find_bundle, load_bundle
from pipeline.training.card import keep_explanations, model_card


@pytest.mark.parametrize("name", ["white-cells", "all-net"])
def test_a_new_card_keeps_what_the_explanations_are_worth(name: str) -> None:
    directory = find_bundle(Path(name))
    former = (directory / "MODEL_CARD.md").read_text(encoding="utf-8")
    fresh = model_card(load_bundle(directory).record)
    kept = keep_explanations(fresh, former)
    assert kept == former
    assert keep_explanations(kept, former) == kept
    assert keep_explanations(fresh, fresh) == fresh
