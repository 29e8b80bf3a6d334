"""The object store, addressed by URL: ``s3://bucket/prefix`` or ``file:///folder``. Both keep one contract."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from perennial.errors import ObjectMissing, SettingsError, StoreError


class Store(Protocol):
    """Objects by key. A put is atomic: a reader sees all of the old bytes or all of the new."""

    url: str

    def put(self, key: str, data: bytes) -> None:
        """Store the bytes under the key."""

    def put_file(self, key: str, path: Path) -> None:
        """Store a local file under the key."""

    def get(self, key: str) -> bytes:
        """The bytes of the key. Raises ObjectMissing."""

    def get_file(self, key: str, path: Path) -> None:
        """Write the bytes of the key to a local file. Raises ObjectMissing."""

    def keys(self, prefix: str) -> list[str]:
        """Every key that starts with the prefix, sorted."""


def open_store(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store of a URL. ``options`` go to boto3's S3 client. Raises SettingsError for a URL that is neither kind."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"), options or {})
    raise SettingsError(f"{url!r} is no store URL. Use s3://bucket/prefix or file:///folder in connection perennial_store.")


class FolderStore:
    """Objects as files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()

    def put(self, key: str, data: bytes) -> None:
        self._write(key, lambda file: file.write(data))

    def put_file(self, key: str, path: Path) -> None:
        with path.open("rb") as source:
            self._write(key, lambda file: _copy(source, file))

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise ObjectMissing(f"{self.url}/{key} is not in the store.") from error
        except OSError as error:
            raise StoreError(f"{self.url}/{key} cannot be read: {error}.") from error

    def get_file(self, key: str, path: Path) -> None:
        try:
            shutil.copyfile(self._path(key), path)
        except FileNotFoundError as error:
            raise ObjectMissing(f"{self.url}/{key} is not in the store.") from error
        except OSError as error:
            raise StoreError(f"{self.url}/{key} cannot be read: {error}.") from error

    def keys(self, prefix: str) -> list[str]:
        files = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith(".tmp-"))
        return sorted(key for key in (path.relative_to(self.root).as_posix() for path in files) if key.startswith(prefix))

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StoreError(f"The key {key!r} leads out of the store {self.url}.")
        return path

    def _write(self, key: str, fill: Any) -> None:
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except OSError as error:
            raise StoreError(f"{self.url}/{key} cannot be written: {error}. Check space and rights.") from error


def _copy(source: Any, target: Any) -> None:
    while chunk := source.read(1 << 20):
        target.write(chunk)


class S3Store:
    """Objects of an S3 bucket below a prefix."""

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, Any]) -> None:
        self.bucket, self.prefix, self.options = bucket, f"{prefix}/" if prefix else "", options
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._clients: dict[int, Any] = {}

    @property
    def client(self) -> Any:
        """This process's client: one that was forked would share its parent's sockets."""
        import boto3

        if os.getpid() not in self._clients:
            self._clients = {os.getpid(): boto3.client("s3", **self.options)}
        return self._clients[os.getpid()]

    def put(self, key: str, data: bytes) -> None:
        with self._errors(key):
            self.client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def put_file(self, key: str, path: Path) -> None:
        with self._errors(key):
            self.client.upload_file(str(path), self.bucket, self._name(key))

    def get(self, key: str) -> bytes:
        with self._errors(key):
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"].read()
        return body

    def get_file(self, key: str, path: Path) -> None:
        with self._errors(key):
            body = self.client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"]
            with path.open("wb") as file:
                _copy(body, file)

    def keys(self, prefix: str) -> list[str]:
        with self._errors(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
            return sorted(item["Key"][len(self.prefix) :] for page in pages for item in page.get("Contents", []))

    def _name(self, key: str) -> str:
        if ".." in key.split("/") or key.startswith("/"):
            raise StoreError(f"The key {key!r} leads out of the store {self.url}.")
        return self.prefix + key

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise ObjectMissing(f"{self.url}/{key} is not in the store.") from error
            raise StoreError(f"{self.url}/{key}: the store refused: {error}") from error
        except (BotoCoreError, S3UploadFailedError) as error:
            raise StoreError(f"{self.url}/{key}: the store cannot be reached: {error}") from error
