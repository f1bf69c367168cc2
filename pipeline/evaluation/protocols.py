"""How a labelled folder is divided to test a model: what each division asks, and of whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import ConfigurationError
from pipeline.evaluation.examples import Example


@dataclass(frozen=True)
class Protocol:
    """One way to divide.

    ``fold_column`` is the column of the table of folds, ``group_column`` the one that names what is
    kept together; both None where nothing is divided. ``folds``: those that are tested, None for
    all. ``keeps_duplicates``: whether near-duplicates never cross.
    """

    name: str
    words: str
    fold_column: str | None
    group_column: str | None
    keeps_duplicates: bool
    folds: tuple[int, ...] | None = None


PROTOCOLS: dict[str, Protocol] = {
    one.name: one
    for one in (
        Protocol(
            "random",
            "stratified random folds, as in most papers: near-duplicates and neighbouring fields "
            "of one slide lie on both sides",
            "random_fold",
            "duplicate_group",
            False,
        ),
        Protocol(
            "holdout",
            "one stratified random fold held out: near-duplicates and neighbouring fields of one "
            "slide lie on both sides",
            "random_fold",
            "duplicate_group",
            False,
            folds=(0,),
        ),
        Protocol(
            "blocks",
            "contiguous runs of files, near-duplicates kept together",
            "block_fold",
            "block",
            True,
        ),
        Protocol(
            "stain",
            "groups of one global colour left out, near-duplicates kept together",
            "stain_fold",
            "stain_group",
            True,
        ),
        Protocol(
            "subjects",
            "all images of a subject on one side",
            "subject_fold",
            "subject",
            True,
        ),
        Protocol(
            "elsewhere",
            "trained on other images: all of these are tested on",
            None,
            None,
            True,
        ),
    )
}


@dataclass(frozen=True)
class Part:
    """What one fold is tested on, and what is left to learn from (thresholds included)."""

    name: str
    fold: int
    learn: tuple[Example, ...]
    test: tuple[Example, ...]


def protocol_named(name: str) -> Protocol:
    """Return the protocol called ``name``; raises ConfigurationError with the known names."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        known = ", ".join(PROTOCOLS)
        raise ConfigurationError(f"there is no protocol {name!r}; known: {known}") from None


def parts_of(
    protocol: Protocol, examples: Sequence[Example], folds: Sequence[int] | None = None
) -> list[Part]:
    """The parts to test on, in the order of their folds.

    ``folds``: which of them; None for all the protocol has. Raises ConfigurationError if a fold is
    asked for that has no images.
    """
    if protocol.fold_column is None:
        if folds:
            raise ConfigurationError(f"the protocol {protocol.name} has no folds to choose from")
        return [Part(protocol.name, -1, (), tuple(examples))]
    present = sorted({one.fold for one in examples})
    chosen = sorted(set(folds)) if folds else list(protocol.folds or present)
    missing = sorted(set(chosen) - set(present))
    if missing:
        raise ConfigurationError(
            f"there is no fold {missing[0]} for the protocol {protocol.name}; there are "
            f"{', '.join(map(str, present))}"
        )
    return [
        Part(
            f"fold-{fold}",
            fold,
            learn=tuple(one for one in examples if one.fold != fold),
            test=tuple(one for one in examples if one.fold == fold),
        )
        for fold in chosen
    ]


def crossing_duplicates(part: Part) -> int:
    """How many images of the test part have a near-duplicate among those to learn from."""
    known = {one.duplicate for one in part.learn if one.duplicate}
    return sum(one.duplicate in known for one in part.test)


def describe(protocol: Protocol, examples: Sequence[Example]) -> dict[str, object]:
    """The division in figures, for the record."""
    return {
        "protocol": protocol.name,
        "words": protocol.words,
        "fold_column": protocol.fold_column,
        "images": len(examples),
        "truths": dict(sorted(Counter(one.truth for one in examples).items())),
        "groups": len({one.group for one in examples if one.group}),
        "near_duplicate_images": len(examples) - len({one.duplicate or one for one in examples}),
    }
