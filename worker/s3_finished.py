"""Tagging or moving the objects of an archive in a bucket, where that was asked for."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from pipeline.errors import ConfigurationError
from worker.archive import row_path
from worker.place import Place
from worker.records import ManifestRow
from worker.s3 import ABSENT, client, code_of, fetch, options, put_options, s3_faults

#: Tags of an image whose report is published.
STATE_TAG, REPORTED, RUN_TAG = "screen", "reported", "screen-run"

_REFUSED_CONDITION = {"501", "NotImplemented", "400", "InvalidArgument"}

_TAKEN = {"409", "412", "PreconditionFailed", "ConditionalRequestConflict"}

Where = dict[str, str]


class Tagging:
    """Adds tags to objects, beside those that they have."""

    name = "tagged"

    def __init__(self, source: Place) -> None:
        self._source = source

    def __call__(self, row: ManifestRow, run_id: str) -> bool:
        """False where the object is another one now."""
        where = _where(self._source, row)
        with s3_faults(self._source):
            if not _is_listed(where, row):
                return False
            try:
                found = client().get_object_tagging(**where, **options())["TagSet"]
                tags = {tag["Key"]: tag["Value"] for tag in found}
                wanted = tags | {STATE_TAG: REPORTED, RUN_TAG: run_id}
                if wanted != tags:
                    listed = [{"Key": key, "Value": value} for key, value in wanted.items()]
                    client().put_object_tagging(**where, Tagging={"TagSet": listed}, **options())
            except ClientError as error:
                raise _meaning(self._source, error) from error
        return True


class MovingObjects:
    """Moves objects below ``source`` to the same key below ``target``, and never over another."""

    def __init__(self, source: Place, target: Place) -> None:
        self._source = source
        self._target = target

    @property
    def name(self) -> str:
        """What it is called in the store."""
        return f"moved to {self._target}"

    def __call__(self, row: ManifestRow, run_id: str) -> bool:
        """False where the object is another one now, or where its place is taken."""
        where, target = _where(self._source, row), _where(self._target, row)
        with s3_faults(self._source):
            if not _is_listed(where, row) or not _copied(where, target, row):
                return False
            # As late as can be: what has come under this name meanwhile is a new image.
            if not _is_listed(where, row):
                return False
            client().delete_object(**where, **options())
        return True


def _where(place: Place, row: ManifestRow) -> Where:
    return {"Bucket": place.bucket, "Key": place.prefix + row_path(row).decode()}


def _head(where: Where) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client().head_object(**where, **options())
    except ClientError as error:
        if code_of(error) & ABSENT:
            return None
        raise
    return found


def _is_listed(where: Where, row: ManifestRow) -> bool:
    found = _head(where)
    return found is not None and found["ETag"].strip('"') == row.version.partition(" ")[0]


def _copied(where: Where, target: Where, row: ManifestRow) -> bool:
    """Have the same content at the target; False if something else is there."""
    there = _head(target)
    if there is None:
        given = {
            **target,
            "CopySource": where,
            "CopySourceIfMatch": f'"{row.version.partition(" ")[0]}"',
            **put_options(),
        }
        try:
            _copy(given)
        except ClientError as error:
            if code_of(error) & _TAKEN:
                return False
            raise
        return True
    # An earlier try that was killed, or another object; tags of content need not tell.
    if there["ContentLength"] != row.size:
        return False
    return _content(where) == _content(target)


def _copy(given: dict[str, Any]) -> None:
    try:
        client().copy_object(**given, IfNoneMatch="*")
    except ClientError as error:
        if not code_of(error) & _REFUSED_CONDITION:
            raise
        client().copy_object(**given)


def _content(where: Where) -> bytes:
    return fetch(where, lambda body: body.read())


def _meaning(place: Place, error: ClientError) -> Exception:
    codes = code_of(error)
    if codes & {"501", "NotImplemented", "MethodNotAllowed"}:
        return ConfigurationError(
            f"{place}: this server has no tags for objects; use --when-reported move"
        )
    if codes & {"InvalidTag", "BadRequest"}:
        return ConfigurationError(f"{place}: an object has as many tags as it may have already")
    return error
