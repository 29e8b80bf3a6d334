"""Where Data Docs stand in the store: a page for each batch, and one for each source that leads to them."""

from urllib.parse import quote

FOLDER = "data_docs"


def page_key(source: str, country: str, seq: int) -> str:
    """The key of a batch's page."""
    return f"{FOLDER}/{source}/{country}/{seq}.html"


def index_key(source: str) -> str:
    """The key of a source's index."""
    return f"{FOLDER}/{source}/index.html"


def path_of(key: str) -> str:
    """A key as the path of a URL, relative to the folder of all pages."""
    return quote(key.removeprefix(f"{FOLDER}/"))
