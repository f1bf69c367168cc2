"""Writing objects of any size: large ones in parts, so that a fault costs one part."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from worker.s3 import DIGEST, client, code_of, metadata_of, options, put_options

#: What is larger is written in parts of this size; servers demand 5 MiB at least, and take 10,000.
PART_BYTES = 16 * 1024 * 1024


def put(where: dict[str, str], data: bytes, *, digest: str, kind: str) -> None:
    """Write an object, whole or not at all, with its digest and what a browser makes of it."""
    described = {"ContentType": kind, "Metadata": {DIGEST: digest}, **put_options()}
    if len(data) <= PART_BYTES:
        client().put_object(**where, Body=data, **described)
        return
    upload = where | {
        "UploadId": client().create_multipart_upload(**where, **described)["UploadId"]
    }
    try:
        parts = [_put_part(upload, number, data) for number in _numbers(data)]
        client().complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **options())
    except ClientError as error:
        # Completed, but the answer was lost and the call repeated.
        if "NoSuchUpload" in code_of(error) and metadata_of(where).get(DIGEST) == digest:
            return
        _abort(upload)
        raise
    except BaseException:
        _abort(upload)
        raise


def _numbers(data: bytes) -> range:
    return range(1, -(-len(data) // PART_BYTES) + 1)


def _put_part(upload: dict[str, str], number: int, data: bytes) -> dict[str, Any]:
    part = data[(number - 1) * PART_BYTES : number * PART_BYTES]
    answer = client().upload_part(**upload, PartNumber=number, Body=part, **options())
    return {"PartNumber": number, "ETag": answer["ETag"]}


def _abort(upload: dict[str, str]) -> None:
    """Parts that belong to nothing cost money until somebody removes them."""
    with suppress(ClientError, BotoCoreError):
        client().abort_multipart_upload(**upload, **options())
