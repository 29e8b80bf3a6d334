"""The Connections of one's own sources: Airflow's environment variables, beside a small file of them.

``connections.json`` in the repository, or the file that PERENNIAL_CONNECTIONS names, is an object of
names, each with a URI or with Airflow's JSON:
``{"orders_db": "postgresql://reader:secret@db.example.com/orders", "drop": "file:///data"}``.
What the environment says goes before the file.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from embedded.errors import ConnectionsError
from embedded.paths import repo_folder
from perennial.catalog import Catalog
from perennial.connections import PREFIX, missing, read_connection, store_of, variable_of
from perennial.errors import RequestError


def connections_file() -> Path:
    """PERENNIAL_CONNECTIONS, or `connections.json` in the repository."""
    return Path(os.environ.get("PERENNIAL_CONNECTIONS") or repo_folder() / "connections.json")


def given(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Every Connection that is given, as Airflow's environment variables. Raises ConnectionsError and SettingsError."""
    kept = {variable_of(name): text for name, text in _read(connections_file()).items()}
    said = {name: text for name, text in environment.items() if name.startswith(PREFIX) and text}
    found = kept | said
    for name, text in found.items():
        read_connection(name.removeprefix(PREFIX).lower(), text)
    return found


def remember(name: str, uri: str) -> None:
    """Write a Connection into the file, which only its owner may read: others may hold passwords."""
    file = connections_file()
    known = _read(file) | {name: uri}
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as opened:
        opened.write(json.dumps(known, indent=2) + "\n")


def reached(name: str, file: str, connection: str) -> tuple[str, str]:
    """The Connection of a new source, and a file's key in its store.

    A file of this machine needs none: one to the folder above its own is kept in the file of Connections. Raises RequestError
    where neither is said, or a file lies outside of the Connection's folder.
    """
    path = Path(file).expanduser().resolve() if file else None
    if path is None or not path.is_file():
        if not connection:
            raise RequestError(_nothing_reached(file))
        return connection, file
    connection = connection or f"{name}_files"
    if variable_of(connection) not in given():
        remember(connection, path.parent.parent.as_uri())
    url, _ = store_of(read_connection(connection, given()[variable_of(connection)]))
    root = Path(unquote(urlsplit(url).path))
    if not url.startswith("file:") or not path.is_relative_to(root):
        raise RequestError(f"{path} does not lie below {url}, where Connection {connection} leads. Name another one.")
    return connection, path.relative_to(root).as_posix()


def _nothing_reached(file: str) -> str:
    if file:
        return f"There is no file {file} on this machine. For one of a store, say CONNECTION=…, too."
    return "Say CONNECTION=… of the table's database, or FILE=… of this machine."


def needed(catalog: Catalog, sources: Iterable[str]) -> list[str]:
    """The names of the Connections that sources ask for."""
    specs = [catalog.source(name) for name in sources]
    return sorted({name for spec in specs for name in (spec.connection, spec.primary) if name})


def refuse_missing(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConnectionsError, with what to do, where some Connections are not among the known variables."""
    absent = [name for name in names if variable_of(name) not in set(known)]
    if absent:
        raise ConnectionsError(f"{missing(absent)} The file is {connections_file()}.")


def _read(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ConnectionsError(f"{file} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ConnectionsError(f'{file} is no object of names. Write {{"orders_db": "postgresql://…"}}.')
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
