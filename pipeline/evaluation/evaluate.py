"""Evaluation from beginning to end: divide, train where asked, judge, count, write down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.analyse import open_analyser
from pipeline.bundle import RECORD_FILE, Bundle, load_bundle
from pipeline.errors import ConfigurationError
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.comparison import Colours, judge_with_baseline
from pipeline.evaluation.examples import Example, list_examples, read_table
from pipeline.evaluation.groups import infer_table
from pipeline.evaluation.judge import judge_examples
from pipeline.evaluation.options import EvaluationOptions, JudgedPart
from pipeline.evaluation.protocols import Part, Protocol, parts_of, protocol_named
from pipeline.evaluation.record import JUDGING, content_of, write_record
from pipeline.evaluation.training_process import TrainingProcess
from pipeline.labels import LABELS
from pipeline.quiet import load_keras
from pipeline.references import additions_of
from pipeline.training.data import contents_of

FOLDS_FILE = "folds.csv"

#: White cells are erased in so many test images of a fold, for the card of its bundle. The audit
#: asks more, of bundles that are used.
ERASED_IMAGES = 60

Say = Callable[[str], None]
#: Told how many images of how many are done.
Show = Callable[[int, int], None]


def evaluate(
    options: EvaluationOptions,
    say: Say = lambda message: None,
    show: Show = lambda done, of: None,
) -> dict[str, Any]:
    """Evaluate, and write figures, page, pictures and judgements to ``options.out``.

    Returns the content of ``evaluation.json``. The same call goes on after an interruption. Raises
    ConfigurationError if the data or the bundle do not allow the protocol.
    """
    if (options.bundle is None) == (options.recipe is None):
        raise ConfigurationError("give either a bundle to evaluate or a recipe to train")
    protocol = protocol_named(options.protocol)
    options.out.mkdir(parents=True, exist_ok=True)
    table = _table(options, protocol, say, show)
    examples = _examples(options, protocol, table)
    colours = Colours(options.data)
    if options.bundle is not None:
        judged = _with_bundle(options, protocol, examples, say, show)
    elif options.recipe in BASELINES:
        judged = judge_with_baseline(options.recipe, options, protocol, examples, colours)
    else:
        judged = _with_recipe(options, protocol, examples, table, say, show)
    say("counting")
    evaluation = content_of(options, protocol, examples, judged, colours)
    write_record(options, evaluation, judged)
    return evaluation


# --- what to judge --------------------------------------------------------------------------


def _table(options: EvaluationOptions, protocol: Protocol, say: Say, show: Show) -> Path | None:
    """The table of folds: the given one, or one inferred and kept in ``out``."""
    if protocol.fold_column is None:
        return None
    if options.splits is not None:
        return options.splits
    table = options.out / FOLDS_FILE
    if not table.exists():
        say("looking for near-duplicates, blocks and stain groups")
        found = list_examples(
            options.data, truth=options.truth, patient_pattern=options.patient_pattern
        )
        infer_table(options.data, found, table, options.seed, lambda done: show(done, len(found)))
    return table


def _examples(options: EvaluationOptions, protocol: Protocol, table: Path | None) -> list[Example]:
    if table is None or protocol.fold_column is None:
        return list_examples(
            options.data, truth=options.truth, patient_pattern=options.patient_pattern
        )
    return read_table(
        options.data,
        table,
        fold_column=protocol.fold_column,
        group_column=protocol.group_column or "",
        patient_pattern=options.patient_pattern,
    )


# --- judging --------------------------------------------------------------------------------


def _with_bundle(
    options: EvaluationOptions,
    protocol: Protocol,
    examples: Sequence[Example],
    say: Say,
    show: Show,
) -> list[JudgedPart]:
    """Judge with one bundle the folds that are asked for, else those it was not trained on."""
    directory = options.bundle or Path()
    bundle = load_bundle(directory)
    parts = parts_of(protocol, examples, options.folds or None)
    seen = {part.name: seen_by(bundle, options.data, part.test) for part in parts}
    unseen = [part for part in parts if not seen[part.name]]
    if not unseen or (options.folds and len(unseen) < len(parts)):
        worst = next(part for part in parts if seen[part.name])
        raise ConfigurationError(
            f"the bundle {directory} was trained on {len(seen[worst.name])} of the "
            f"{len(worst.test)} images of {worst.name}, {seen[worst.name][0]} among them: the "
            "figures would say nothing. Test it on the fold it was trained without "
            f"({_kept_words(bundle)}), on images from elsewhere, or train its recipe anew for "
            "every fold with --recipe"
        )
    for part in parts:
        if seen[part.name]:
            say(f"{part.name} is left out: the bundle was trained on images of it")
    return [_judge_part(options, directory, bundle, part, say, show) for part in unseen]


def seen_by(bundle: Bundle, root: Path, examples: Sequence[Example]) -> list[str]:
    """Paths of the examples the bundle was trained or calibrated on.

    Told by content where the training record lists it, else by the names of the references, which
    are the training images; of images that were added later always by content.
    """
    record = bundle.record
    added = {digest[:16] for one in additions_of(record) for digest in one["sha256"]}
    known = added | set(record.training.get("seen", ()))
    names = set() if "seen" in record.training else set(bundle.references.ids)
    contents = contents_of(root / one.path for one in examples)
    return [
        one.path
        for one, content in zip(examples, contents, strict=True)
        if content in known or one.path in names
    ]


def _kept_words(bundle: Bundle) -> str:
    training = bundle.record.training
    split = str(training.get("split", "its record names none")).split(";", maxsplit=1)[0]
    return f"{split} of {training.get('fold_column', 'unknown folds')}"


def _with_recipe(
    options: EvaluationOptions,
    protocol: Protocol,
    examples: Sequence[Example],
    table: Path | None,
    say: Say,
    show: Show,
) -> list[JudgedPart]:
    """Train a bundle per fold where there is none yet, and judge its test part with it."""
    if table is None or protocol.fold_column is None:
        raise ConfigurationError(
            f"the protocol {protocol.name} trains nothing: give the bundle to test with --bundle"
        )
    unknown = sorted({one.truth for one in examples} - set(LABELS))
    if unknown:
        raise ConfigurationError(
            f"{options.data} has {unknown[0]} images; recipes train on the four classes "
            f"{', '.join(LABELS)} (folders benign, early, pre, pro)"
        )
    judged = []
    with closing(TrainingProcess(say)) as process:
        for part in parts_of(protocol, examples, options.folds or None):
            directory = options.out / part.name / "bundle"
            if not (directory / RECORD_FILE).exists():
                say(f"training {options.recipe} for {part.name}")
                _train(process, options, part, directory, table, protocol.fold_column)
            bundle = load_bundle(directory)
            if bundle.record.training["recipe"] != options.recipe:
                raise ConfigurationError(
                    f"{directory} holds a bundle of the recipe {bundle.record.training['recipe']}: "
                    "name another --out"
                )
            if _cannot_be_copies(seen_by(bundle, options.data, part.test), options.data, part):
                raise ConfigurationError(
                    f"{directory} was trained on images of {part.name}: name another --out"
                )
            judged.append(_judge_part(options, directory, bundle, part, say, show))
    return judged


def _cannot_be_copies(seen: Sequence[str], root: Path, part: Part) -> bool:
    """Whether the images a bundle has seen are other than copies of what it may learn from.

    Random folds, the papers' protocol, let byte-identical files lie on both sides.
    """
    learned = set(contents_of(root / one.path for one in part.learn)) if seen else set()
    return not set(contents_of(root / path for path in seen)) <= learned


def _train(
    process: TrainingProcess,
    options: EvaluationOptions,
    part: Part,
    out: Path,
    table: Path,
    fold_column: str,
) -> None:
    load_keras()
    from pipeline.training.run import TrainingOptions

    chosen = TrainingOptions(
        recipe=options.recipe or "",
        data=options.data,
        out=out,
        work_dir=options.out / part.name / "training",
        splits=table,
        fold_column=fold_column,
        test_fold=part.fold,
        epochs=options.epochs,
        seed=options.seed,
        erased_images=ERASED_IMAGES,
    )
    process.train(replace(chosen, **dict(options.training)))


def _judge_part(
    options: EvaluationOptions,
    directory: Path,
    bundle: Bundle,
    part: Part,
    say: Say,
    show: Show,
) -> JudgedPart:
    say(f"judging {len(part.test)} images of {part.name}")
    analyser = open_analyser(str(directory), JUDGING)
    judgements, failures = judge_examples(
        analyser,
        part.test,
        options.data,
        options.out / part.name,
        lambda done: show(done, len(part.test)),
    )
    return JudgedPart(part, judgements, failures, bundle)
