"""Document: a page of each decided batch, an index for each source, and their end when they are old.

Pages follow decisions and decide nothing: the ledger keeps each validation's result, and a page can be made of it at any time.
"""

import logging
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from perennial.core.batch_index import index
from perennial.errors import NothingToDo, RegistryError, StoreError
from perennial.pages import index_key, page_key
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction

logger = logging.getLogger(__name__)

LISTED = 20  # batches of each country in the index
EXPIRING = 10_000  # pages that one run deletes


def document(resources: Resources, source: str) -> dict[str, int]:
    """Make the page of each batch of the source that was decided since its page was made, then the index.

    Returns how many were made and how many could not be: those are errors in the log, and tried again the next time. Raises
    NothingToDo without any.
    """
    with closing(connect(resources.database)) as database:
        due = fetch(database, "undocumented_batches", source=source)
        if not due:
            raise NothingToDo(f"Every decided batch of {source} has its page.")
        made = [_documented(resources, database, source, batch) for batch in due]
        write_index(resources, database, source)
    return {"pages": sum(made), "failed": len(made) - sum(made)}


def expire(resources: Resources, sources: Iterable[str], days: int) -> int:
    """Delete the pages of batches decided more than some days ago, but for held ones; returns how many. What is more than a
    run's share is left to the next one. The ledger keeps their results.
    """
    with closing(connect(resources.database)) as database:
        old = fetch(database, "old_pages", days=days, number=EXPIRING)
        for batch in old:
            resources.store.delete(batch.page)
            run(database, "forget_page", **_named(batch), decided_at=batch.decided_at)
        for source in sources:
            write_index(resources, database, source)
    logger.info("%s pages of batches decided more than %s days ago were deleted", len(old), days)
    return len(old)


def write_index(resources: Resources, database: Connection, source: str) -> None:
    """Write the source's index as the ledger says. One at a time does so: else an older one might be written last."""
    with transaction(database):
        fetch(database, "lock_index", source=source)
        listed = fetch(database, "listed_batches", source=source, number=LISTED)
        resources.store.put(index_key(source), index(source, listed).encode())


def _documented(resources: Resources, database: Connection, source: str, due: Any) -> bool:
    try:
        _make_page(resources, database, source, due)
    except (RegistryError, StoreError):
        raise
    except Exception:
        logger.exception("The page of %s/%s batch %s could not be made. Its decision stands", source, due.country, due.seq)
        return False
    return True


def _make_page(resources: Resources, database: Connection, source: str, due: Any) -> None:
    from perennial.core.data_docs import batch_page  # Great Expectations takes seconds to import

    batch = fetch_one(database, "batch_to_document", source=source, country=due.country, seq=due.seq)
    key = page_key(source, due.country, due.seq)
    resources.store.put(key, batch_page(batch).encode())
    run(database, "note_page", **_named(batch), page=key, decided_at=batch.decided_at)
    logger.info("%s/%s batch %s: %s", source, due.country, due.seq, resources.page_url(key))


def _named(batch: Any) -> dict[str, Any]:
    return {"source": batch.source, "country": batch.country, "seq": batch.seq}
