"""What the steps need of the outside world, handed in: database, store, keys, and how to reach a source."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from perennial.errors import SettingsError
from perennial.pages import path_of

if TYPE_CHECKING:
    from perennial.shell.store import Store


@dataclass(frozen=True, kw_only=True)
class MailRelay:
    """The server that mail to owners goes through. ``security``: ssl, starttls or none; ``sender``: the From address."""

    host: str
    port: int | None = None
    login: str = ""
    password: str = field(default="", repr=False)
    sender: str = ""
    security: str = "starttls"


def no_source_store(name: str) -> "Store":
    """A deployment whose sources are tables alone."""
    raise SettingsError(f"There is no store behind connection {name}.")


def no_mail() -> MailRelay | None:
    """A deployment without a mail relay."""
    return None


@dataclass(frozen=True, kw_only=True)
class Post:
    """What it takes to notify owners: the DSN of Perennial's PostgreSQL, and the mail relay as in Resources.

    Less than all Resources, so that owners are notified where the rest is not to be had.
    """

    database: str
    mail: Callable[[], MailRelay | None] = no_mail


@dataclass(frozen=True, kw_only=True)
class Resources:
    """``database``: DSN of Perennial's PostgreSQL. ``source_dsn``: from a connection's name to a DSN; ``source_store``: to
    the store that holds a source's files.

    ``pages``: the address that serves the store's Data Docs; without one they are named where they stand in the store.
    ``mail`` looks the mail relay up when a message waits, so that nothing else depends on it.
    """

    database: str
    store: "Store"
    signing_key: Path
    public_keys: Path
    source_dsn: Callable[[str], str]
    source_store: Callable[[str], "Store"] = no_source_store
    mail: Callable[[], MailRelay | None] = no_mail
    pages: str = ""

    @property
    def post(self) -> Post:
        """What it takes of them to notify owners."""
        return Post(database=self.database, mail=self.mail)

    def page_url(self, key: str) -> str:
        """Where a person reads the page of a key."""
        return f"{self.pages}/{path_of(key)}" if self.pages else f"{self.store.url}/{quote(key)}"
