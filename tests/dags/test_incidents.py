"""The shop's real incidents, on its real rows, through the real DAG that takes them in."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perennial.catalog import load_catalog
from worlds import retail

HISTORY, OVERLAP, NEW_YEAR = (
    datetime(2010, 12, 1, tzinfo=UTC),
    datetime(2010, 12, 10, tzinfo=UTC),
    datetime(2011, 1, 12, tzinfo=UTC),
)
NO_PRICE, VANISHED = "expect_column_values_to_be_between", "expect_column_pair_values_negative_to_match_regex"


@pytest.fixture
def shop(world, tmp_path):
    """A year of the shop's history, then the nine days in which its two yearly files overlap, then Christmas."""
    spec = replace(load_catalog().source("order_lines"), connection="zoo_db", max_commit_lag=timedelta(0))
    world.catalog = replace(world.catalog, sources={"sightings": spec, "order_lines": spec})
    retail.prepare(world.zoo)
    for moment in (HISTORY, OVERLAP, NEW_YEAR):
        retail.advance(world.zoo, moment, tmp_path / "cache")
        assert set(world.ingest()[1].values()) == {"success"}
    return world


@pytest.fixture
def in_the_file(tmp_path):
    """The numbers of the data set's own lines that meet a condition, up to the last day that was taken in."""
    lines = retail.read_lines(tmp_path / "cache")

    def chosen(condition, since=None, until=NEW_YEAR):
        return set(lines["line_id"][condition(lines) & retail._within(lines["invoice_date"], since, until)])

    return chosen


def kept_aside(store):
    """Numbers of the lines kept aside for an expectation, as they lie in the store."""
    files = [pq.read_table(path, columns=["line_id", "rejected_by"]) for path in (store / "quarantine").rglob("*.parquet")]
    rows = pa.concat_tables(files).to_pandas().explode("rejected_by")
    return lambda rule: set(rows["line_id"][rows["rejected_by"] == rule])


def rejections(shop, lower):
    """Rows of all countries kept aside by the landing that begins with these events, by expectation."""
    statement = f"""SELECT key, sum(value::int)::int FROM perennial.splits JOIN perennial.batches USING (source, country, seq),
        jsonb_each_text(rejections) WHERE seq {lower} GROUP BY key"""
    return Counter(dict(shop.execute(shop.perennial, statement)))


def test_each_incident_is_caught_and_the_closed_days_are_none(shop, in_the_file, tmp_path):
    copied = len(in_the_file(lambda lines: lines.duplicated(lines.columns.drop("line_id").tolist()), HISTORY, OVERLAP))
    caught = rejections(shop, ">= 2")["copies"]
    assert copied > 22_000
    assert caught == pytest.approx(copied, rel=0.03)  # some are mistyped at first, and equal no other line

    everything = rejections(shop, ">= 1")
    free = in_the_file(lambda lines: lines["price"] <= 0)
    assert everything[NO_PRICE] == pytest.approx(len(free), rel=0.01)  # corrected lines come twice
    lost = in_the_file(lambda lines: (lines["quantity"] < 0) & ~lines["invoice"].str.startswith("C"))
    assert everything[VANISHED] == pytest.approx(len(lost), rel=0.01)

    aside = kept_aside(tmp_path / "store")
    assert aside(NO_PRICE) == free
    assert len(in_the_file(lambda lines: lines["price"] < 0)) == 3
    assert aside(VANISHED) == lost
    alike = in_the_file(lambda lines: lines.duplicated(lines.columns.drop("line_id").tolist(), keep=False))
    assert aside("copies") < alike  # of each only the repetitions

    odd = in_the_file(lambda lines: ~lines["stock_code"].str.match(r"\d{5}"))
    noticed = shop.execute(shop.perennial, """SELECT sum((finding ->> 'unexpected')::int)::int FROM perennial.batches,
        jsonb_array_elements(report -> 'findings') AS finding
        WHERE finding ->> 'expectation' = 'expect_column_values_to_match_regex'
          AND finding ->> 'severity' = 'info'""")  # fmt: skip
    assert noticed[0][0] == pytest.approx(len(odd), rel=0.01)

    volume = shop.execute(shop.perennial, """SELECT country, finding ->> 'text' FROM perennial.batches,
        jsonb_array_elements(report -> 'findings') AS finding
        WHERE finding ->> 'expectation' = 'volume' AND finding ->> 'success' = 'false'""")  # fmt: skip
    assert [text for country, text in volume if country == "GB"] == []

    states = dict(shop.execute(shop.perennial, "SELECT state, count(*) FROM perennial.batches GROUP BY state"))
    assert set(states) == {"accepted"}
    landed, accepted, kept = shop.execute(shop.perennial, """SELECT sum(b.rows), sum(r.rows), sum(b.rows - r.rows)
        FROM perennial.batches b JOIN perennial.readable r USING (source, country, seq)""")[0]  # fmt: skip
    stored = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "store" / "quarantine").rglob("*.parquet"))
    assert landed == accepted + kept
    assert kept == stored

    assert shop.decide("look") == ("success", {"decide": "success", "announce": "skipped", "report": "success"})
    assert shop.returned["decide"]["held"] == []
    assert "GB 2" in shop.returned["decide"]["with rejected rows"]
