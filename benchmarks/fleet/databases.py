"""Reading databases: what happened when, by their own clocks."""

from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extras import RealDictCursor


def rows_of(dsn: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """What a query selects, times in UTC."""
    with (
        closing(psycopg2.connect(dsn, cursor_factory=RealDictCursor, options="-c timezone=UTC")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query, parameters or None)
        return [dict(row) for row in cursor.fetchall()]
