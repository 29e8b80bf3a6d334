"""A registry with a long past: as many outcomes as a fleet leaves behind in years, written within seconds."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg2

STATEMENTS = Path(__file__).with_suffix(".sql")


def write_past(
    dsn: str, outcomes: int, models: Sequence[str], countries: Sequence[str], *, fleet: str = "past", source: str = "past",
    until: datetime | None = None, files: int = 0,
) -> None:  # fmt: skip
    """Fill a migrated registry with at least as many outcomes, and all that led to them, one run each quarter of an hour.

    Where the source is one of files, each run has picked up so many new ones, and one that comes again and again.
    The last run is planned at ``until``, by default now. Artifacts and lake are not there: nothing can be trained from it.
    Needs a superuser: triggers do not fire.
    """
    runs = -(-outcomes // (len(models) * len(countries)))
    moment = until or datetime.now(UTC)
    facts = {
        "until": moment,
        "runs": runs,
        "models": list(models),
        "countries": list(countries),
        "fleet": fleet,
        "source": source,
        "files": files,
    }
    with closing(psycopg2.connect(dsn, options="-c search_path=perennial -c synchronous_commit=off")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(STATEMENTS.read_text(), {**facts, "fleet": fleet, "source": source})
            cursor.execute("VACUUM (ANALYZE)")
