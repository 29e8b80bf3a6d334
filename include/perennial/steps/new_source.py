"""Write the spec of a source that is there already: look at it, propose, put it into words."""

from collections.abc import Callable
from pathlib import Path

from perennial.core.proposals import propose
from perennial.errors import RequestError
from perennial.proposal import Wanted
from perennial.shell.looks import format_of, look_at_file, look_at_table
from perennial.shell.store import Store
from perennial.skeletons import file_source_text, source_text


def of_table(dsn: str, name: str, connection: str, table: str, wanted: Wanted) -> str:
    """The spec of a table. Raises SourceError where it cannot be reached, RequestError where something is left to say."""
    found = look_at_table(dsn, connection, table)
    return source_text(name, connection, table, propose(found, wanted), found.seen)


def of_file(store: Store, name: str, connection: str, key: str, wanted: Wanted) -> str:
    """The spec of files like one. Raises StoreError, FileRefused or RequestError."""
    kind = format_of(key)
    if "/" not in key:
        raise RequestError(f"{key} lies at the store's root. Put it into a folder: a source is all files below one.")
    found = look_at_file(store, key)
    return file_source_text(name, connection, key, kind, propose(found, wanted), found.seen)


def written(folder: Path, name: str, make: Callable[[], str]) -> Path:
    """Where the spec was written. Raises RequestError for a file that is there already."""
    path = folder / f"{name}.py"
    if path.exists():
        raise RequestError(f"{path} exists already. Choose another name, or remove it.")
    text = make()
    path.write_text(text)
    return path
