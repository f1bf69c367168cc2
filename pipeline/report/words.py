"""What calls, flags and codes mean, in the words of a report."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.labels import DISPLAY_NAMES
from pipeline.results import Call, Counts, Flag

CALL_NAMES: dict[Call, str] = {
    "benign": DISPLAY_NAMES["benign"],
    "early_b": DISPLAY_NAMES["early_b"],
    "pre_b": DISPLAY_NAMES["pre_b"],
    "pro_b": DISPLAY_NAMES["pro_b"],
    "mixed": "Mixed",
    "not_assessable": "Not assessable",
}

#: Labels that a reference image may have, and no image gets.
NEIGHBOUR_NAMES: dict[str, str] = {"malignant": "Malignant, subtype unknown"}

CALL_MEANINGS: dict[Call, str] = {
    "benign": "The fields resemble the benign fields of the training set. Those show haematogones "
    "(normal B-cell precursors); normal blood is not one of the model's classes.",
    "early_b": "The fields resemble early pre-B acute lymphoblastic leukaemia.",
    "pre_b": "The fields resemble pre-B acute lymphoblastic leukaemia.",
    "pro_b": "The fields resemble pro-B acute lymphoblastic leukaemia.",
    "mixed": "The fields do not agree on one class.",
    "not_assessable": "There was no readable field with white cells.",
}

FLAG_MEANINGS: dict[Flag, str] = {
    "high": "Nothing speaks against the call: the fields resemble what the model knows and agree.",
    "low": "The call needs a second look, for the reasons below.",
}

#: Why the flag of a patient is low.
PATIENT_REASONS: dict[str, str] = {
    "nothing_to_judge": "No image could be read and had white cells in it.",
    "synthetic_images": "Images were rendered by software; they show no patient.",
    "failed_images": "Images could not be judged, and what they show might change the call.",
    "few_certain_images": "Less than half of the readable images have a high confidence flag.",
    "few_white_cells": "The judged fields show fewer than the 100 white cells of the usual "
    "differential count.",
    "share_uncertain": "The 95% interval of the malignant share reaches across one half: there "
    "are too few fields, or they are too evenly divided.",
    "mixed_labels": "The fields do not agree on one class.",
    "malignant_images_in_benign_call": "The call is benign, but images with a high confidence "
    "flag were labelled malignant.",
    "uncertain_images_disagree": "Counting the images with a low confidence flag as well would "
    "change the call.",
}

#: Why the flag of an image is low.
IMAGE_REASONS: dict[str, str] = {
    "blurred": "The field is out of focus.",
    "cells_blurred": "The white cells are out of focus.",
    "dark": "The field or its white cells are too dark.",
    "bright": "The field or its white cells are too bright.",
    "blank": "The field is nearly empty.",
    "no_white_cell": "No white cell was found.",
    "scale_unknown": "The size of the cells had to be guessed: too few red cells to measure by.",
    "far_from_references": "The field is unlike any reference image: the model may never have seen "
    "such a stain, magnification or disease.",
    "background": "Most of what the explanation points to lies beside the white cells.",
    "little_visible": "Less of the field is white cell than in any field the limits were found on.",
    "neighbours_disagree": "The most similar reference images belong to different classes.",
    "network_and_neighbours_disagree": "The network names another class than the most similar "
    "reference images.",
    "network_uncertain": "The network does not clearly prefer one class.",
}

#: How a field became network input; see pipeline.results.Geometry.
GEOMETRY_METHODS: dict[str, str] = {
    "as_is": "The field has the size of the network's input and was used as it is.",
    "whole_field": "The whole field was reduced to one network input, as the training fields were.",
    "scaled": "The field was scaled so that its cells have the size that the network knows.",
    "padded": "The field was scaled and padded with background, so that its cells have the size "
    "that the network knows.",
    "tiled": "The field was cut into tiles in which cells have the size that the network knows.",
}

_SUBMIT_AGAIN = "then submit the archive again."
_SOUND_COPY = f"Replace the file with a sound copy, {_SUBMIT_AGAIN}"
_SMALLER_IMAGE = f"Export the fields that matter as smaller images, {_SUBMIT_AGAIN}"
_RETRY = "then run screen retry --failed."

#: What to do about an image that failed, by reason.
FAILURE_MENDS: dict[str, str] = {
    "empty_file": _SOUND_COPY,
    "truncated": _SOUND_COPY,
    "corrupt": _SOUND_COPY,
    "not_an_image": f"Remove the file or replace it with the image that was meant, {_SUBMIT_AGAIN}",
    "too_many_pixels": _SMALLER_IMAGE,
    "too_many_bytes": _SMALLER_IMAGE,
    "unsupported_format": f"Export the fields that matter as TIFF or PNG, {_SUBMIT_AGAIN}",
    "unsupported_pixels": f"Save the image as 8-bit RGB, {_SUBMIT_AGAIN}",
    "too_small": f"Remove the thumbnail or replace it with the field itself, {_SUBMIT_AGAIN}",
    "outside_root": "Copy the file into the archive, or submit the folder in which it lies.",
    "not_a_file": f"Remove it from the archive, or put the image itself there, {_SUBMIT_AGAIN}",
    "missing": f"Put the file back, or remove the link that leads nowhere, {_SUBMIT_AGAIN}",
    "unreadable": "Give the account that runs the screening permission to read the file and its "
    f"folder, {_RETRY}",
    "changed": "Wait until nothing writes to the file any more and submit the archive again.",
    "crashed_worker": f"Open the image in another program, save it anew, {_SUBMIT_AGAIN}",
    "timed_out": f"Check the size of the image, allow more time per image, {_RETRY}",
    "out_of_memory": f"Check the size of the image, give the workers more memory, {_RETRY}",
    "result_missing": "Run screen retry --failed: the stored result is gone.",
    "internal_error": "Report this as a fault of the software, with the message.",
}
_OTHER_MEND = f"Look at the file, replace it with a sound copy, {_SUBMIT_AGAIN}"


def failure_mend(reason: str) -> str:
    """What a person can do about a failed image."""
    return FAILURE_MENDS.get(reason, _OTHER_MEND)


def reason_in_words(code: str) -> str:
    """The sentence for a reason code of a patient or an image; the code itself if it has none."""
    return PATIENT_REASONS.get(code) or IMAGE_REASONS.get(code) or code


def statement(call: Call, reasons: Sequence[str], counts: Counts, usual_white_cells: int) -> str:
    """The finding in words: what was examined, what it rests on, what it looks like."""
    sentences = []
    if "synthetic_images" in reasons:
        sentences.append("Rendered by software, not a patient's smear.")
    sentences.append(_examined(call, reasons, counts, usual_white_cells))
    if counts.copies:
        sentences.append(f"Copies of other images, not counted again: {counts.copies}.")
    if counts.failed:
        sentences.append(f"Images that failed: {counts.failed} of {counts.images}.")
    if call != "not_assessable":
        sentences.append(_resemblance(call, counts))
    if reasons:
        sentences.append("Confidence is low: the images need to be looked at.")
    return " ".join(sentences)


def _examined(call: Call, reasons: Sequence[str], counts: Counts, usual: int) -> str:
    fields = counts.ok - counts.copies
    if fields == 0:
        return "No image could be read: nothing could be judged."
    text = f"{_cells_in_fields(counts.white_cells, fields)} examined"
    if call == "not_assessable":
        return f"{text}: nothing could be judged."
    if counts.judged < fields:
        text += f", {_cells_in_fields(counts.judged_white_cells, counts.judged)} judged"
    if "few_white_cells" in reasons:
        text += f": too few to judge with confidence ({usual} are usual)"
    return f"{text}."


def _resemblance(call: Call, counts: Counts) -> str:
    share, interval = counts.malignant_share, counts.malignant_share_interval
    if share is None or interval is None:
        raise ValueError(f"a report with the call {call!r} rests on at least one image")
    malignant = round(share * counts.judged)
    endings: dict[Call, str] = {
        "benign": "the call is benign (haematogones)",
        "early_b": "most of them its early pre-B form",
        "pre_b": "most of them its pre-B form",
        "pro_b": "most of them its pro-B form",
        "mixed": "they do not agree on one class",
    }
    return (
        f"Judged fields that resemble acute lymphoblastic leukaemia: {malignant} of "
        f"{counts.judged} ({share:.0%}, 95% interval {interval.low:.0%} to {interval.high:.0%}); "
        f"{endings[call]}."
    )


def _cells_in_fields(cells: int, fields: int) -> str:
    return f"{_number(cells, 'white cell')} in {_number(fields, 'field')}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
