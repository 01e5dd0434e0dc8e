"""A bucket as storage, of Amazon S3 or of any server that speaks its protocol, by django-storages and boto3."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from storages.backends.s3 import S3Storage

CHUNK_BYTES = 256 * 1024
PARTS, PART_BYTES = 2, 8 * 1024 * 1024
MEMORY_BYTES = 8 * 1024 * 1024
"""What is opened is fetched into memory up to this size, and beyond it onto the local disk."""


class S3Files(S3Storage):  # type: ignore[misc]
    """Credentials come from where boto3 looks for them: ``AWS_ACCESS_KEY_ID``, a profile, the role of the machine."""

    is_shared = True

    def __init__(self, **options: Any) -> None:
        style = options.get("addressing_style") or "auto"
        options.setdefault(
            "client_config",
            Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 4},
                s3={"addressing_style": style},
            ),
        )
        options.setdefault("transfer_config", _in_parts())
        # Every content has a name of its own: nobody need be asked whether it is taken.
        super().__init__(**{"file_overwrite": True, "max_memory_size": MEMORY_BYTES, **options})

    @property
    def place_name(self) -> str:
        where = f"s3://{self.bucket_name}/{self.location}".rstrip("/")
        return f"{where} of {self.endpoint_url}" if self.endpoint_url else where

    def create_once(self, name: str, content: bytes) -> None:
        """Write ``name`` unless it is there: of several that do at once, one wins."""
        what = {"Bucket": self.bucket_name, "Key": self._key(name), "Body": content}
        try:
            self._client.put_object(**what, IfNoneMatch="*")
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in (409, 412):
                return
            if status != 501:
                raise
            self._client.put_object(**what)  # A server that knows no conditions: the last writer is read by all.

    def stream(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``stop``, exclusive, some at a time. It raises at once if there is no such object."""
        if stop <= start:
            return iter(())
        try:
            found = self._client.get_object(
                Bucket=self.bucket_name, Key=self._key(name), Range=f"bytes={start}-{stop - 1}"
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise FileNotFoundError(f"File does not exist: {name}") from error
            raise
        return _parts(found["Body"])

    def delete_under(self, folder: str) -> Iterator[int]:
        """Delete every object below ``folder``, a thousand at a time; how many each time."""
        for page in self.bucket.objects.filter(Prefix=f"{self._key(folder)}/").pages():
            if not page:
                continue
            answer = self.bucket.delete_objects(
                Delete={"Objects": [{"Key": found.key} for found in page], "Quiet": True}
            )
            for refused in answer.get("Errors", ()):
                raise OSError(f"{refused.get('Key')} could not be deleted: {refused.get('Message')}")
            yield len(page)

    @property
    def _client(self) -> Any:
        return self.connection.meta.client

    def _key(self, name: str) -> str:
        return str(self._normalize_name(name))


def _in_parts() -> TransferConfig:
    """Of what is written a few parts are in memory at a time."""
    transfer = TransferConfig(max_concurrency=PARTS, multipart_chunksize=PART_BYTES)
    transfer.max_in_memory_upload_chunks = PARTS
    return transfer


def _parts(body: Any) -> Iterator[bytes]:
    with contextlib.closing(body):
        yield from body.iter_chunks(CHUNK_BYTES)
