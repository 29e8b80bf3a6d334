"""Connections as Airflow writes them, read without Airflow: a URI, or JSON. And what they mean to Perennial.

``dsn_of`` and ``store_of`` take Airflow's own Connection objects, too.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from perennial.errors import SettingsError

PREFIX = "AIRFLOW_CONN_"
WHOLE_EXTRA = "__extra__"  # Airflow's name for an extra that no query can hold
STORES = ("s3", "file")  # kinds whose URI is a store's URL by itself


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where something outside lies, and how to log in there."""

    conn_type: str
    host: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    port: int | None = None
    schema: str = ""
    extra_dejson: Mapping[str, Any] = field(default_factory=dict, repr=False)


def variable_of(name: str) -> str:
    """The environment variable that gives a Connection."""
    return f"{PREFIX}{name.upper()}"


def read_connection(name: str, text: str) -> Connection:
    """A Connection from its URI or JSON. Raises SettingsError, which shows nothing of the text: it may hold a password."""
    try:
        return _from_json(text) if text.lstrip().startswith("{") else _from_uri(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"Connection {name} is neither a URI, such as postgresql://user:password@host:5432/database, nor JSON, "
            'such as {"conn_type": "postgres", "host": "…"}.'
        ) from error


def connection_of(name: str, environment: Mapping[str, str] = os.environ) -> Connection:
    """The Connection that the environment gives. Raises SettingsError, naming what to set."""
    text = environment.get(variable_of(name), "")
    if not text:
        raise SettingsError(missing([name]))
    return read_connection(name, text)


def missing(names: list[str]) -> str:
    """What to do about Connections that nobody has given."""
    few = f"There is no Connection {names[0]}" if len(names) == 1 else f"There are no Connections {', '.join(names)}"
    examples = "postgresql://user:password@host:5432/database for tables, file:///folder or s3://bucket for files"
    return f"{few}. Set {', '.join(map(variable_of, names))}, or add it to connections.json: {examples}."


def dsn_of(connection: Any) -> str:
    """A libpq connection string of a Postgres Connection; its extra holds further libpq options."""
    from psycopg2.extensions import make_dsn

    facts = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema,
        **connection.extra_dejson,
    }
    return str(make_dsn(**{name: value for name, value in facts.items() if value not in (None, "")}))


def store_of(connection: Any) -> tuple[str, dict[str, Any]]:
    """The store's URL and boto3's options: login and password are the access key, the rest is extra.

    The URL is the extra ``url``, or the Connection's own where that is of kind s3 or file.
    """
    extra = dict(connection.extra_dejson)
    url = extra.pop("url", "")
    if not url and connection.conn_type in STORES:
        url = f"{connection.conn_type}://{connection.host or ''}/{connection.schema or ''}"
    if connection.login:
        extra |= {"aws_access_key_id": connection.login, "aws_secret_access_key": connection.password}
    return url, extra


def _from_json(text: str) -> Connection:
    facts = json.loads(text)
    extra = facts.get("extra") or {}
    port = facts.get("port")
    return Connection(
        conn_type=_kind(facts.get("conn_type", "")),
        host=facts.get("host") or "",
        login=facts.get("login") or "",
        password=facts.get("password") or "",
        port=int(port) if port not in (None, "") else None,
        schema=facts.get("schema") or "",
        extra_dejson=json.loads(extra) if isinstance(extra, str) else dict(extra),
    )


def _from_uri(text: str) -> Connection:
    parts = urlsplit(text)
    if not parts.scheme or "://" not in text:
        raise ValueError("no URI")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Connection(
        conn_type=_kind(parts.scheme),
        host=unquote(parts.hostname or ""),
        login=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        port=parts.port,
        schema=unquote(parts.path.removeprefix("/")),
        extra_dejson=json.loads(options[WHOLE_EXTRA]) if WHOLE_EXTRA in options else options,
    )


def _kind(name: str) -> str:
    kind = name.replace("-", "_")
    return "postgres" if kind == "postgresql" else kind
