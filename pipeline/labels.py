"""The four classes, in the one order every probability vector uses."""

from __future__ import annotations

from typing import Literal, get_args

Label = Literal["benign", "early_b", "pre_b", "pro_b"]

#: Class order of every probability vector, table and confusion matrix.
LABELS: tuple[Label, ...] = get_args(Label)

MALIGNANT_LABELS: frozenset[Label] = frozenset(LABELS) - {"benign"}

#: What a reference image may be labelled: a class, or leukaemia of unknown subtype.
ReferenceLabel = Literal["benign", "early_b", "pre_b", "pro_b", "malignant"]

#: Classes first, so that their numbers are the same in both lists.
REFERENCE_LABELS: tuple[ReferenceLabel, ...] = get_args(ReferenceLabel)

#: How a person reads each label. "Benign" in the training set are haematogones
#: (normal B-cell precursors), not normal blood in general.
DISPLAY_NAMES: dict[Label, str] = {
    "benign": "Benign (haematogones)",
    "early_b": "Early-B (early pre-B) ALL",
    "pre_b": "Pre-B ALL",
    "pro_b": "Pro-B ALL",
}

#: Okabe and Ito 2008: told apart by every kind of colour vision.
CLASS_COLOURS: dict[ReferenceLabel, str] = {
    "benign": "#009E73",
    "early_b": "#E69F00",
    "pre_b": "#0072B2",
    "pro_b": "#CC79A7",
    "malignant": "#555555",
}

#: Folder names that are accepted for each class in a labelled image folder.
FOLDER_ALIASES: dict[str, Label] = {
    "benign": "benign",
    "early": "early_b",
    "early_b": "early_b",
    "early-b": "early_b",
    "pre": "pre_b",
    "pre_b": "pre_b",
    "pre-b": "pre_b",
    "pro": "pro_b",
    "pro_b": "pro_b",
    "pro-b": "pro_b",
}
