"""The object store, addressed by URL: ``s3://bucket/prefix`` or ``file:///folder``. Both keep one contract."""

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import unquote, urlsplit

from perennial.errors import ObjectMissing, PerennialError, SettingsError, StoreError, StoreLost

MISSING = ("NoSuchKey", "404")
OVERLOADED = ("SlowDown", "RequestTimeout", "Throttling", "TooManyRequests")
SERVER_ERRORS = 500  # and above, of HTTP


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An object as its store lists it. ``stamp`` is another one whenever the object was written again."""

    key: str
    size: int
    modified: datetime
    stamp: str


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

    def open(self, key: str) -> BufferedIOBase:
        """The object as a file that can be read at any place, outside of memory. Raises ObjectMissing."""

    def delete(self, key: str) -> None:
        """Remove the key, if it is there. Who has opened it reads on."""

    def keys(self, prefix: str) -> list[str]:
        """Every key that starts with the prefix, sorted."""

    def look(self, prefix: str) -> tuple[list[Entry], datetime]:
        """Every object whose key starts with the prefix, sorted by key, and the store's own time."""

    def entry(self, key: str) -> Entry:
        """One object as ``look`` shows it, however many lie beside it. Raises ObjectMissing."""


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
        with self.open(key) as file:
            return file.read()

    def get_file(self, key: str, path: Path) -> None:
        with self.open(key) as source, path.open("wb") as target, self._reading(key):
            _copy(source, target)

    def open(self, key: str) -> BufferedIOBase:
        with self._reading(key):
            return self._path(key).open("rb")

    def delete(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.url}/{key} cannot be removed: {error}. Check rights.") from error

    def keys(self, prefix: str) -> list[str]:
        files = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith(".tmp-"))
        return sorted(key for key in (path.relative_to(self.root).as_posix() for path in files) if key.startswith(prefix))

    def look(self, prefix: str) -> tuple[list[Entry], datetime]:
        folder = self.root / prefix.rpartition("/")[0]
        files = (path for path in folder.rglob("*") if not path.name.startswith(".tmp-"))
        named = ((path.relative_to(self.root).as_posix(), path) for path in files)
        found = [_entry(key, path) for key, path in sorted(named) if key.startswith(prefix)]
        return [entry for entry in found if entry], datetime.now(UTC)

    def entry(self, key: str) -> Entry:
        with self._reading(key):
            found = _entry_of(key, self._path(key).stat())
        if found is None:
            raise ObjectMissing(f"{self.url}/{key} is no file.")
        return found

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(f"{self.url}/{key} is not in the store.") from error
        except OSError as error:
            raise StoreError(f"{self.url}/{key} cannot be read: {error}.") from error

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StoreError(f"The key {key!r} leads out of the store {self.url}.")
        return path

    def _write(self, key: str, fill: Any) -> None:
        target = self._path(key)
        try:
            made = _missing_folders(target.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(target, fill)
            for folder in {target.parent, *(folder.parent for folder in made)}:
                _flush_names(folder)
        except OSError as error:
            raise StoreError(f"{self.url}/{key} cannot be written: {error}. Check space and rights.") from error


def _missing_folders(folder: Path) -> list[Path]:
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _write_whole(target: Path, fill: Any) -> None:
    """Fill a file of the umask's mode and put it in the target's place; what fails leaves nothing behind."""
    new = target.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        with new.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


def _flush_names(folder: Path) -> None:
    """Bring a folder's names to the disk: without it a power cut may take a file that was written and renamed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entry(key: str, path: Path) -> Entry | None:
    """A file as a listing shows it; None for what is none, or is gone since the folder was read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _entry_of(key, status)


def _entry_of(key: str, status: os.stat_result) -> Entry | None:
    """A file as a listing shows it; None for a folder and what else is no file."""
    if not stat.S_ISREG(status.st_mode):
        return None
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    stamp = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
    return Entry(key=key, size=status.st_size, modified=modified, stamp=stamp)


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
        with self.open(key) as source, path.open("wb") as target:
            _copy(source, target)

    def open(self, key: str) -> BufferedIOBase:
        file = cast("BufferedIOBase", tempfile.TemporaryFile())  # noqa: SIM115 (the caller closes it)
        try:
            with self._errors(key):
                _copy(self.client.get_object(Bucket=self.bucket, Key=self._name(key))["Body"], file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def delete(self, key: str) -> None:
        with self._errors(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def keys(self, prefix: str) -> list[str]:
        with self._errors(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
            return sorted(item["Key"][len(self.prefix) :] for page in pages for item in page.get("Contents", []))

    def look(self, prefix: str) -> tuple[list[Entry], datetime]:
        with self._errors(prefix):
            pages = list(self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix))
        clock = parsedate_to_datetime(pages[-1]["ResponseMetadata"]["HTTPHeaders"]["date"])
        found = [self._entry(item) for page in pages for item in page.get("Contents", [])]
        return sorted(found, key=lambda entry: entry.key), clock

    def entry(self, key: str) -> Entry:
        # Not head_object: some stores tell it a coarser moment than they list, and the stamps would differ. Of all keys that
        # begin with this one it is the first.
        with self._errors(key):
            page = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self._name(key), MaxKeys=1)
        for item in page.get("Contents", []):
            if item["Key"] == self._name(key):
                return self._entry(item)
        raise ObjectMissing(f"{self.url}/{key} is not in the store.")

    def _entry(self, item: Mapping[str, Any]) -> Entry:
        key, modified = item["Key"][len(self.prefix) :], item["LastModified"]
        stamp = "-".join((item["ETag"].strip('"'), modified.isoformat()))
        return Entry(key=key, size=item["Size"], modified=modified, stamp=stamp)

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
        except (BotoCoreError, ClientError, S3UploadFailedError) as error:
            raise _explained(error, f"{self.url}/{key}") from error


def _explained(error: Exception, where: str) -> PerennialError:
    """What an error of boto3 means: an object is missing, the store is away, or it refuses."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, IncompleteReadError

    answer = error if isinstance(error, ClientError) else error.__context__  # of an upload that failed
    if isinstance(answer, ClientError):
        code = str(answer.response.get("Error", {}).get("Code", ""))
        status = answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in MISSING:
            return ObjectMissing(f"{where} is not in the store.")
        if status >= SERVER_ERRORS or code in OVERLOADED:
            return StoreLost(f"{where}: the store could not answer: {answer}. A retry goes on from here.")
        return StoreError(f"{where}: the store refused: {answer}")
    if isinstance(error, (ConnectionError, HTTPClientError, IncompleteReadError)):
        return StoreLost(f"{where}: the store cannot be reached: {error}. A retry goes on from here.")
    return StoreError(f"{where}: the store cannot be asked: {error}. Check connection perennial_store.")
