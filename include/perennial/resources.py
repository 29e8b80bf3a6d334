"""What the steps need of the outside world, handed in: database, store, keys, and how to reach a source."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perennial.shell.store import Store


@dataclass(frozen=True, kw_only=True)
class Resources:
    """``database``: DSN of Perennial's PostgreSQL. ``source_dsn``: from a connection's name to a DSN."""

    database: str
    store: "Store"
    signing_key: Path
    public_keys: Path
    source_dsn: Callable[[str], str]
