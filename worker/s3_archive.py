"""Archives in a bucket: listing the images below a prefix, and reading one of them.

A key is a name to show and to ask the server for, never a path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import BadInputError, ConfigurationError
from worker.archive import refuse_size, row_path
from worker.listing import Listing, is_litter, source_of
from worker.place import Place
from worker.records import ManifestRow
from worker.s3 import ABSENT, DENIED, client, code_of, fetch, options, s3_faults, up_to

#: Id of what was written while the bucket kept no versions; another may take its place.
_NO_VERSION = "null"

#: Where a server has no versions.
_NOT_KNOWN = {"501", "NotImplemented"}

#: Where a version cannot be had.
_NOT_HAD = ABSENT | DENIED | {"NoSuchVersion", "MethodNotAllowed", "405"}

#: What the keys of results end with.
_RESULTS = "/store/schema.json"


def list_bucket(place: Place, *, leave_out: Place | None = None) -> Listing:
    """List the images below a place; what lies in ``leave_out``, the reports, is none.

    Raises ConfigurationError if the bucket is not there or must not be listed, RetryableError if it
    cannot be listed at the moment.
    """
    listing, results = Listing(), []
    with s3_faults(place):
        for found in _objects(place):
            key = found["Key"]
            if leave_out is not None and leave_out.contains(Place(place.bucket, key)):
                continue
            below = key.removeprefix(place.prefix).encode()
            if f"/{key}".endswith(_RESULTS):
                results.append(below.removesuffix(_RESULTS[1:].encode()))
            _take_in(listing, below, found)
    for folder in results:
        _leave_out_results(place, listing, folder)
    return listing


def _objects(place: Place) -> Iterator[dict[str, Any]]:
    """All objects that are there now, with their version where the bucket keeps versions."""
    where = {"Bucket": place.bucket, "Prefix": place.prefix, **options()}
    if not _keeps_versions(place):
        for page in client().get_paginator("list_objects_v2").paginate(**where):
            yield from page.get("Contents", ())
        return
    for page in client().get_paginator("list_object_versions").paginate(**where):
        yield from (found for found in page.get("Versions", ()) if found["IsLatest"])


def _keeps_versions(place: Place) -> bool:
    """Whether versions can be listed; where they may not be, objects are known by ETag alone."""
    bucket = {"Bucket": place.bucket}
    try:
        if client().get_bucket_versioning(**bucket).get("Status") is None:
            return False
        client().list_object_versions(**bucket, Prefix=place.prefix, MaxKeys=1, **options())
    except ClientError as error:
        if code_of(error) & (DENIED | _NOT_KNOWN):
            return False
        raise
    return True


def version_of(found: dict[str, Any]) -> str:
    """What a manifest row says of a listed object, so that no other is read for it."""
    etag, version = found["ETag"].strip('"'), found.get("VersionId", _NO_VERSION)
    return etag if version == _NO_VERSION else f"{etag} {version}"


def read_object(place: Place, row: ManifestRow, *, max_bytes: int) -> bytes:
    """The bytes of the object that was listed: of that version, if another has taken its place.

    Raises BadInputError (``missing``, ``changed``, ``unreadable``, ``too_many_bytes``) if it cannot
    be had, RetryableError if nothing can be had at the moment.
    """
    key = place.prefix + row_path(row).decode()
    etag, _, version = row.version.partition(" ")
    where = {"Bucket": place.bucket, "Key": key, "IfMatch": f'"{etag}"'}

    # What is too long is one byte longer.
    bounded = up_to(max_bytes + 1)
    with s3_faults(place):
        try:
            data = fetch(where, bounded)
        except ClientError as error:
            fault = _meaning(place, error)
            if not (version and isinstance(fault, BadInputError)):
                raise fault from error
            try:
                data = fetch(where | {"VersionId": version}, bounded)
            except ClientError as also:
                # It was removed for good, or only what is there now may be read.
                raise (fault if code_of(also) & _NOT_HAD else _meaning(place, also)) from error
    if len(data) > max_bytes:
        refuse_size(len(data), max_bytes)
    if len(data) != row.size:
        raise BadInputError("changed", "the object changed while it was read; submit again")
    return data


def _leave_out_results(place: Place, listing: Listing, folder: bytes) -> None:
    """The output of an earlier run, whose pictures are no smears."""
    if not folder:
        raise ConfigurationError(
            f"{place} holds results of this software, not smears: submit the place of the images, "
            "and write the reports into another one"
        )
    listing.files = [file for file in listing.files if not file.path.startswith(folder)]
    listing.notes.append(
        f"{source_of(folder.rstrip(b'/'))[0]} holds results of an earlier run and is left out"
    )


def _take_in(listing: Listing, below: bytes, found: dict[str, Any]) -> None:
    names = below.split(b"/")
    if not names[-1]:
        # What consoles put in the place of an empty folder.
        return
    # Dots are no folders of a bucket, but names like any others.
    if any(is_litter(name) and name not in {b".", b".."} for name in names):
        listing.ignored[names[-1].rpartition(b".")[2].lower()] += 1
        return
    listing.account_for(below, found["Size"], version_of(found))


def _meaning(place: Place, error: ClientError) -> Exception:
    """What a refused get means for the row; what is no fault of the row is passed on."""
    codes = code_of(error)
    if "NoSuchBucket" in codes:
        return error
    if codes & ABSENT:
        return BadInputError("missing", "the object is no longer there; submit the archive again")
    if codes & {"412", "PreconditionFailed"}:
        return BadInputError(
            "changed", "the object changed after it was listed; submit the archive again"
        )
    if "InvalidObjectState" in codes:
        return BadInputError(
            "unreadable", "the object is in an archive storage class; restore it, then try again"
        )
    if "AccessDenied" in codes and _may_list(place):
        return BadInputError("unreadable", "there is no permission to read the object")
    return error


def _may_list(place: Place) -> bool:
    """Whether these credentials are good for anything in the bucket."""
    try:
        client().list_objects_v2(Bucket=place.bucket, Prefix=place.prefix, MaxKeys=1, **options())
    except (ClientError, BotoCoreError):
        return False
    return True
