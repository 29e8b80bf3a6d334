"""The page that leads to the pages of a source's batches."""

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader

from perennial.pages import FOLDER

MINUTE = "%Y-%m-%d %H:%M"


def index(source: str, batches: Sequence[Any]) -> str:
    """The index as HTML, readable without a network. ``batches``: as the ledger lists them, those with a page linked to it."""
    environment = Environment(loader=PackageLoader("perennial.core", "pages"), autoescape=True)
    return environment.get_template("index.html").render(source=source, batches=[_line(source, batch) for batch in batches])


def _line(source: str, batch: Any) -> dict[str, str]:
    return {
        "name": f"{batch.country} {batch.seq}",
        "link": batch.page.removeprefix(f"{FOLDER}/{source}/") if batch.page else "",
        "state": batch.state,
        "decided": format(batch.decided_at, MINUTE) if batch.decided_at else "",
        "rows": f"{batch.rows:,}",
        "rejected": f"{batch.rejected_rows:,}" if batch.rejected_rows else "",
        "reason": batch.reason,
    }
