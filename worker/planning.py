"""From an archive to the rows of a manifest: which images there are and whose they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigurationError, NamingError
from worker.listing import (
    OTHER_PICTURES,
    Listed,
    Listing,
    list_archive,
    list_named,
    source_of,
)
from worker.patients import (
    ROOT_PATIENT,
    PatientRule,
    PatientTable,
    by_folder,
    by_pattern,
    check_patient,
    some_of,
)
from worker.place import Place
from worker.records import ManifestRow


class EmptyArchiveError(ConfigurationError):
    """There is no image in the archive."""


@dataclass(frozen=True)
class Plan:
    """What will be screened. ``files`` and ``patients`` belong together, sorted by both.

    ``ignored`` counts files (and hidden folders) that are no images; ``notes`` are for the person
    who submits.
    """

    root: Path | Place
    files: list[Listed]
    patients: list[str]
    ignored: int
    notes: list[str]

    def rows(self) -> Iterator[ManifestRow]:
        """The manifest's rows; made one by one, as there may be a million."""
        for file, patient in zip(self.files, self.patients, strict=True):
            yield manifest_row(file, patient)


def manifest_row(file: Listed, patient: str) -> ManifestRow:
    """The row of a listed file."""
    source, raw = source_of(file.path)
    return ManifestRow(
        source=source,
        raw=raw,
        patient=patient,
        size=file.size,
        version=file.version,
        refused=file.refused,
    )


def plan(
    root: Path | Place,
    *,
    patients: Path | None = None,
    pattern: str | None = None,
    patient: str | None = None,
    leave_out: Path | Place | None = None,
) -> Plan:
    """Plan an archive: a folder, or a place in a bucket.

    At most one of ``patients`` (CSV file), ``pattern`` and ``patient``. Without them, a patient is
    a first-level folder, and images at the root belong to ``_root``. Nothing below ``leave_out`` is
    listed. Raises ConfigurationError if the archive cannot be listed, an image has no patient, or
    the table names a file that is not there.
    """
    if sum(choice is not None for choice in (patients, pattern, patient)) > 1:
        raise ConfigurationError(
            "--patient, --patients and --patient-pattern exclude each other: use one of them"
        )
    rule = _rule(patients, pattern, patient)
    root, listing = _listed(root, leave_out)
    made = _assigned(root, listing, rule)
    if isinstance(rule, PatientTable):
        _check_table(rule, root)
    elif rule is by_folder:
        _check_root_patient(made)
    return made


def plan_files(files: Sequence[Path], patient: str) -> Plan:
    """Plan single files of one patient; the root is the folder that contains them all.

    Raises ConfigurationError if one of them is not there or is a folder.
    """
    paths = []
    for file in files:
        if file.is_dir():
            raise ConfigurationError(
                f"{file} is a folder: submit one folder, or single files of one patient"
            )
        if not os.path.lexists(file):
            raise ConfigurationError(f"{file} does not exist; check the path")
        paths.append(file.parent.resolve() / file.name)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    below = sorted({os.fsencode(path.relative_to(root)) for path in paths})
    name = check_patient(patient, "--patient")
    return _assigned(root, list_named(root, below), lambda _: name)


def _listed(root: Path | Place, leave_out: Path | Place | None) -> tuple[Path | Place, Listing]:
    """The archive as it is called from now on, and what it holds."""
    if isinstance(root, Place):
        # Only here, as it takes a moment to import.
        from worker.s3_archive import list_bucket

        _refuse_same(root, leave_out)
        return root, list_bucket(
            root, leave_out=leave_out if isinstance(leave_out, Place) else None
        )
    root = _resolved(root)
    reports = leave_out if isinstance(leave_out, Path) else None
    _refuse_same(root, reports and reports.resolve())
    return root, list_archive(root, leave_out=reports)


def _refuse_same(root: Path | Place, out: Path | Place | None) -> None:
    if root == out:
        raise ConfigurationError(
            f"{root} cannot be both the archive and the folder for the reports: name another --out"
        )


def _resolved(root: Path) -> Path:
    try:
        found = root.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the links go round in circles"
        raise ConfigurationError(f"{root} cannot be submitted: {reason}") from error
    if not found.is_dir():
        raise ConfigurationError(f"{root} is not a folder; name its patient with --patient")
    return found


def _rule(patients: Path | None, pattern: str | None, patient: str | None) -> PatientRule:
    if patients is not None:
        return PatientTable(patients)
    if pattern is not None:
        return by_pattern(pattern)
    if patient is not None:
        name = check_patient(patient, "--patient")
        return lambda _: name
    return by_folder


def _assigned(root: Path | Place, listing: Listing, rule: PatientRule) -> Plan:
    """Give every file its patient, or say which have none."""
    assigned: list[tuple[str, bytes, Listed]] = []
    unassigned: list[str] = []
    for file in listing.files:
        source = source_of(file.path)[0]
        # A folder that could not be looked into stands for what it contains.
        patient = rule(f"{source}/" if file.is_folder and rule is by_folder else source)
        if patient is None:
            unassigned.append(source)
        else:
            assigned.append((patient, file.path, file))
    if unassigned:
        raise NamingError(_no_patient(unassigned, rule))
    if not assigned:
        raise EmptyArchiveError(_nothing_found(root, listing))
    assigned.sort(key=lambda one: one[:2])
    return Plan(
        root=root,
        files=[file for _, _, file in assigned],
        patients=[patient for patient, _, _ in assigned],
        ignored=listing.ignored.total(),
        notes=listing.notes + _other_pictures(listing.ignored),
    )


def _no_patient(unassigned: list[str], rule: PatientRule) -> str:
    named = some_of(sorted(unassigned))
    if isinstance(rule, PatientTable):
        return (
            f"{rule.path} names no patient for {len(unassigned)} of the images: {named}. "
            "Add a line for each, with its path below the archive's root, or move them away"
        )
    return (
        f"--patient-pattern does not match {len(unassigned)} of the images: {named}. "
        "It must match the whole path below the archive's root, with / between folders: "
        "start it with (?:.*/)? if the images lie in folders, or move the others away"
    )


def _nothing_found(root: Path | Place, listing: Listing) -> str:
    ignored = listing.ignored.total()
    return (
        f"{root} has no images (jpg, jpeg, png, bmp, tif, tiff); "
        f"{ignored} other files were ignored. Check the path"
    )


def _other_pictures(ignored: Counter[bytes]) -> list[str]:
    found = sorted((ending, ignored[ending]) for ending in ignored if ending in OTHER_PICTURES)
    if not found:
        return []
    listed = ", ".join(f"{count} .{ending.decode()}" for ending, count in found)
    return [f"pictures of kinds that are not read were ignored ({listed}); convert them to TIFF"]


def _check_table(table: PatientTable, root: Path | Place) -> None:
    unused = table.unused()
    if unused:
        folder = root if isinstance(root, Path) else None
        absent = [file for file in unused if folder and not os.path.lexists(folder / file)]
        if absent:
            what = f"names {len(absent)} files that are not below {root}: {some_of(absent)}"
        else:
            what = f"names {len(unused)} files that are not listed as images: {some_of(unused)}"
        raise NamingError(
            f"{table.path} {what}. Paths are relative to the archive's root, with / between "
            "folders; mend the lines or take them out"
        )


def _check_root_patient(made: Plan) -> None:
    """A folder called ``_root`` beside images at the root would mix two patients."""
    if ROOT_PATIENT not in made.patients:
        return
    mixed = {
        b"/" in file.path or file.is_folder
        for file, patient in zip(made.files, made.patients, strict=True)
        if patient == ROOT_PATIENT
    }
    if len(mixed) > 1:
        raise ConfigurationError(
            f"{made.root} has images at its root, which belong to the patient {ROOT_PATIENT!r}, "
            "and a folder of that name: rename the folder or move the images into a folder"
        )
