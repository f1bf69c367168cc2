"""The model card: what a bundle was made from, how it was tested, what it must not be used for."""

from __future__ import annotations

from typing import Any

from pipeline.bundle import BundleRecord
from pipeline.confidence import NEVER, Thresholds
from pipeline.labels import DISPLAY_NAMES, LABELS, Label
from pipeline.results import DISCLAIMER

#: Sections between which people put what the explanations of a model are worth.
_EXPLANATIONS, _NEXT = "## Explanations\n", "## Not to be used for\n"


def keep_explanations(card: str, former: str) -> str:
    """``card`` with what ``former`` says of explanations, which new thresholds do not touch."""
    _, found, rest = former.partition(_EXPLANATIONS)
    if not found or _EXPLANATIONS in card:
        return card
    section = rest.partition(_NEXT)[0]
    return card.replace(_NEXT, f"{_EXPLANATIONS}{section}{_NEXT}", 1)


def tested_sentence(name: str, training: dict[str, Any]) -> str:
    """One sentence for every report: on what the model was tested, with the figure."""
    test = training["test"]
    accuracy = test["accuracy"]
    return (
        f"{name}, tested on {test['images']} images of {training['dataset']} that it was not "
        f"trained on ({training['split'].split(';')[0]} by {training['fold_column']}): accuracy "
        f"{_percent(accuracy)}; not tested on other laboratories' images"
    )


def model_card(record: BundleRecord) -> str:
    """Markdown for people who decide whether to use the bundle."""
    training = record.training
    test, thresholds = training["test"], record.thresholds
    erased = test["white_cells_erased"]
    rows = "\n".join(
        f"| {DISPLAY_NAMES[label]} | {_counted(test['recall'][label])} "
        f"| {_counted(test['precision'][label])} |"
        for label in LABELS
    )
    return f"""# Model card: {record.name}

{DISCLAIMER}

## What it is

Source: {training["source"]}. Input: {record.preprocessing.input_size} x \
{record.preprocessing.input_size} RGB scaled to 0..1. Classes: \
{", ".join(DISPLAY_NAMES[label] for label in LABELS)}. Embedding: layer \
`{record.embedding_layer}`. {_training_words(training)}

## Data

{training["dataset"]}: {training["citation"]}.

{training["images"]["train"]} images to train on (also the references that neighbours are searched \
in), {training["images"]["calibration"]} for thresholds, {training["images"]["test"]} to test on. \
Split by {training["fold_column"]}: {training["split"]}. Byte-identical copies of training images \
in the test part: {test["copies_of_training_images"]}.

The data name no patients. Parts are made of contiguous runs of files, but images of one patient \
may still lie on both sides of the split: **leakage between patients cannot be excluded**, and the \
figures below may be better than what a new patient would see.

## Test

| measure | value (Wilson 95 % interval) |
|---|---|
| accuracy, four classes | {_counted(test["accuracy"])} |
| malignant images called benign | {_counted(test["missed_malignant"])} |
| confidence flag `high`: coverage | {_counted(test["high_coverage"])} |
| confidence flag `high`: wrong | {_counted(test["high_error"])} |
| confidence flag `high`: malignant images called benign | {test["high_missed_malignant"]} |

| class | recall | precision |
|---|---|---|
{rows}

Confusion matrix (rows truth, columns decision, order {", ".join(LABELS)}):

{_matrix(test["confusion"])}

{threshold_words(thresholds)}

## Without white cells

With all segmented white cells painted over, {_percent(erased["same_label"])} of the test images \
keep the label they had, and {_percent(erased["still_high"])} are still flagged `high`. Still \
named right without their white cells: {_erased(erased["still_right"])}. \
{_ERASED_WORDS[record.preprocessing.needs_cells]}

## Not to be used for

* any decision about a patient without a haematologist's own look at the smear;
* telling leukaemia from normal blood: its "benign" images are haematogones, and normal blood is \
not one of its classes;
* other diseases, bone marrow, other stains, or crops without surrounding red cells;
* subtyping: that needs immunophenotyping.
"""


#: What a decision without white cells comes from, by whether white cells alone are shown.
_ERASED_WORDS = {
    False: (
        "What is decided without white cells is decided from stain and background, which differ "
        "between slides and laboratories: it does not only look at white cells, and far lower "
        "accuracy must be expected on another laboratory's images."
    ),
    True: (
        "The network is shown nothing but what the segmentation takes for white cells; what it "
        "then decides comes from cells that were overlooked, and from what is left of the others. "
        "A field with nothing to show is always called the same."
    ),
}


def threshold_words(thresholds: Thresholds) -> str:
    """Where ``high`` begins, and how that was found, for people."""
    reached = (
        "none reaches the errors asked for, so the flag is never `high`"
        if thresholds.min_consensus >= NEVER
        else f"at least {thresholds.min_consensus:.4f}"
    )
    missed = thresholds.target_missed or 0.0
    return (
        f"Thresholds, from {thresholds.calibration_images} calibration images: mean distance to "
        f"the {thresholds.n_close} nearest references at most {thresholds.max_distance:.4g} "
        f"(conformal quantile {thresholds.target_coverage:.0%}); network probability (temperature "
        f"{thresholds.temperature:.3g}) times share of agreeing neighbours: {reached}, so that at "
        f"most {thresholds.target_error:.1%} of images like these are expected to be `high` and "
        f"wrong, and {missed:.1%} `high` and a missed malignant image. On the calibration "
        f"images they keep {thresholds.calibration_coverage:.1%} with "
        f"{thresholds.calibration_error:.1%} wrong."
    )


def _training_words(training: dict[str, Any]) -> str:
    last = training["history"][-1]
    # Bundles made before there was a choice say mixed_bfloat16 only.
    old = "mixed_bfloat16" if training.get("mixed_bfloat16") else "float32"
    precision = training.get("precision", old).replace("_", " ")
    optimiser = training.get("optimiser", {"name": "Adam"})["name"]
    weights = training.get("weights", "random")
    start = "random weights" if weights == "random" else f"the weights in {weights}"
    software = ", ".join(f"{name} {found}" for name, found in sorted(training["software"].items()))
    if best := training.get("best_epoch"):
        choice = f"Epoch {best} is taken, the best on groups of the training part kept for that."
    else:
        choice = "The last epoch is taken: no epoch was picked by looking at held-out images."
    return (
        f"Trained from {start} for {training['epochs']} epochs ({optimiser}, learning rate "
        f"{training['learning_rate']:g}, batch {training['batch_size']}, seed {training['seed']}, "
        f"{precision}; {software}); training accuracy in the last epoch {last['accuracy']:.2%}. "
        f"{choice}"
    )


def _percent(share: dict[str, Any]) -> str:
    if share["share"] is None:
        return "no images"
    low, high = share["interval"]
    return f"{share['share']:.1%} ({low:.1%} to {high:.1%})"


def _counted(share: dict[str, Any]) -> str:
    return f"{share['hits']} of {share['of']}: {_percent(share)}" if share["of"] else "none"


def _erased(still_right: dict[Label, list[int]]) -> str:
    counts = ((DISPLAY_NAMES[label], *still_right[label]) for label in LABELS)
    return ", ".join(f"{name} {right} of {total}" for name, right, total in counts)


def _matrix(confusion: list[list[int]]) -> str:
    head = "| | " + " | ".join(LABELS) + " |\n|---|" + "---|" * len(LABELS)
    rows = [
        f"| {label} | " + " | ".join(str(count) for count in row) + " |"
        for label, row in zip(LABELS, confusion, strict=True)
    ]
    return "\n".join([head, *rows])
