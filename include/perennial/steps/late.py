"""Land what was written behind the cursor, after a source's clock was set back: each change that has not landed yet, once.

Each such change lands in a late batch of the interval in which it lies: that of the landing which has passed it, or of the
time between two landings with changes. So intervals never overlap, and the ledger stays a partition of time.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from perennial.resources import Resources
from perennial.shell import lake, postgres_source
from perennial.shell.database import Connection, fetch
from perennial.shell.values import Flags, Reading
from perennial.spec import UNKNOWN_COUNTRY, Source
from perennial.steps.batches import Batches, by_country
from perennial.steps.landed import changes_of, identity_of
from perennial.steps.landing import Landing, record
from perennial.steps.places import with_moves, with_overtaken

logger = logging.getLogger(__name__)

Interval = tuple[datetime, datetime]


def land_late(
    resources: Resources, database: Connection, source: Source, connection: Any, again: Interval, clock: datetime
) -> dict[str, int]:  # fmt: skip
    """Look for changes of an interval behind the cursor that have not landed, and land them; returns rows by country."""
    start, end = again
    found: Counter[str] = Counter()
    landings = [(row.lower, row.upper) for row in fetch(database, "landings_between", source=source.name, start=start, end=end)]
    for lower, upper in intervals(landings, again):
        part = (max(lower, start), min(upper, end))
        landed = _landed(resources, database, source, (lower, upper))
        with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
            batches = Batches(source, Path(folder))
            for reading in postgres_source.extract(connection, source, *part):
                new = _without(reading, source, landed)
                _add(resources, database, source, lower, batches, new)
            files, places = with_moves(resources, database, source, batches)
            landing = Landing(
                lower=lower,
                upper=upper,
                clock=clock,
                batches=files,
                places=places,
                rechecked=part,
            )
            found.update(record(resources, database, source, landing))
    if found:
        logger.warning("%s: landed %s rows late, dated from %s to %s.", source.name, f"{found.total():,}", start, end)
    return dict(found)


def _add(
    resources: Resources,
    database: Connection,
    source: Source,
    since: datetime,
    batches: Batches,
    reading: Reading,
) -> None:
    """Add rows to their countries' batches; as removed where their key was changed later elsewhere."""
    no_rows = np.zeros(reading.rows.num_rows, dtype=bool)
    batches.add(reading.only(no_rows, np.ones(reading.unreadable.num_rows, dtype=bool)))
    batches.leave_out(reading.rows)

    for country, rows in by_country(reading.rows, source):
        if country != UNKNOWN_COUNTRY:
            rows = with_overtaken(resources, database, source, since, country, rows)  # noqa: PLW2901
        batches.write_country(country, rows)


def intervals(landings: Iterable[Interval], within: Interval) -> Iterator[Interval]:
    """The landings' intervals in their order, and what lies between them within another one."""
    at, end = within
    for lower, upper in sorted(landings):
        if at < lower:
            yield at, lower
        yield lower, upper
        at = max(at, upper)
    if at < end:
        yield at, end


def _landed(resources: Resources, database: Connection, source: Source, interval: Interval) -> pd.DataFrame:
    """The changes that the batches of a landing hold. Raises StoreError when one cannot be read: it would land twice."""
    held = [lake.schema_of(source).empty_table().select([*source.key, source.changed_at])]
    lower, upper = interval
    for batch in fetch(database, "landed_beside", source=source.name, lower=lower, upper=upper, country="", seq=0):
        held += changes_of(resources, source, batch)
    found: pd.DataFrame = pa.concat_tables(held).drop_null().to_pandas()
    return found.drop_duplicates()


def _without(reading: Reading, source: Source, landed: pd.DataFrame) -> Reading:
    """The rows that have not landed. One without a key cannot be told from another: it is left out."""
    aside = identity_of(reading.unreadable, source)
    return reading.only(_is_new(reading.rows, landed), _is_new(aside, landed))


def _is_new(rows: pa.Table, landed: pd.DataFrame) -> Flags:
    identity = rows.select(list(landed.columns)).to_pandas()
    sides = identity.merge(landed, how="left", indicator="side")["side"]
    has_key = ~identity.isna().any(axis=1)
    found: Flags = ((sides == "left_only") & has_key).to_numpy().astype(bool)
    return found
