"""Rules 6 and 7 over long random histories: after each ingest the lake holds the table's rows, each in force once.

Transactions overlap and commit late or not at all; rows are corrected, moved in time and to other countries, withdrawn, and
hold values that cannot be read; batches are retracted, accepted and compacted; ingest and validation are killed anywhere.
"""

import random
from contextlib import closing, suppress
from dataclasses import replace

import pandas as pd
import pytest
from histories import TABLE, UNREADABLE, Writers, committed, in_process, killed_at, revisions
from replicas import replicated
from toolbox import START, execute

from perennial.core.snapshots import latest_revisions
from perennial.errors import NothingToDo, RequestError
from perennial.shell import lake
from perennial.shell.database import connect, fetch, fetch_one
from perennial.spec import Column, Days
from perennial.steps import compact, ingest, landing, validate
from perennial.steps.quarantine import accept_batch, retract_batch, validate_again

COLUMNS = (
    Column("id", "int64", nullable=False),
    Column("changed_at", "timestamp", nullable=False),
    Column("seen_at", "timestamp", nullable=False),
    Column("country", "string"),
    Column("length", "float64", min_value=-1_000, max_value=1_000),
    Column("weight", "float64"),
    Column("is_withdrawn", "bool", nullable=False),
)
WINDOW = START - Days(1), START + Days(60)
STEPS = 550  # of each of four histories
WEIGHTS = {
    "insert": 18, "correct": 12, "move_in_time": 5, "move_country": 5, "withdraw": 3, "spoil": 4, "end": 30, "ingest": 6,
    "kill": 3, "accept": 2, "retract": 1, "compact": 1,
}  # fmt: skip


class History:
    """Random steps over a zoo, and what must hold after each ingest."""

    def __init__(self, zoo, seed):
        self.zoo, self.chance = zoo, random.Random(seed)  # noqa: S311 - a history, not a secret
        self.writers = Writers(zoo.shop, self.chance)
        self.source = zoo.catalog.source("sightings")
        self.compared = 0

    def run(self, steps):
        for _ in range(steps):
            getattr(self, self.chance.choices([*WEIGHTS], [*WEIGHTS.values()])[0])()
        self.writers.end_all()
        self.ingest()

    def insert(self):
        self.writers.insert()

    def correct(self):
        self.writers.update("length = %s", self.writers.length())

    def move_in_time(self):
        self.writers.update("seen_at = %s", self.writers.seen_at())

    def move_country(self):
        self.writers.update("country = %s", self.writers.country())

    def withdraw(self):
        self.writers.update("is_withdrawn = NOT is_withdrawn")

    def spoil(self):
        self.writers.update("length = %s", self.chance.choice(UNREADABLE))

    def end(self):
        self.writers.end()

    def land(self):
        with suppress(NothingToDo):
            ingest.land(self.zoo.resources, self.source)

    def validate(self):
        with suppress(NothingToDo):
            validate.validate(self.zoo.resources, self.source)

    def ingest(self):
        self.land()
        self.validate()
        self.accept()
        self.check()

    def kill(self):
        module, name, work = self.chance.choice(
            [(landing, "run", self.land), (landing, "transaction", self.land), (validate, "run", self.validate)]
        )

        def killed():
            with killed_at(module, name, self.chance.randint(1, 6)):
                work()

        in_process(killed)

    def accept(self):
        held = "SELECT country, seq, reason FROM batches WHERE state = 'quarantined'"
        for row in self.zoo.sql(held):
            if "could not run" in row.reason:  # two kills in a row found the same batch open
                validate_again(self.zoo.resources, self.source, "a person", "it was killed", row.country, row.seq)

        for row in self.zoo.sql(held):
            with suppress(RequestError):  # where all of its rows were rejected
                accept_batch(self.zoo.resources, "sightings", row.country, row.seq, "a person", "it is right")

    def retract(self):
        rows = self.zoo.sql("SELECT country, seq, object_key, sha256 FROM batches WHERE state = 'accepted'")
        if not rows:
            return

        self.writers.end_all()  # rows that somebody has locked could not be touched below
        row = self.chance.choice(rows)
        retract_batch(self.zoo.resources, "sightings", row.country, row.seq, "a person", "it is wrong")
        with lake.open_batch(self.zoo.resources.store, row.object_key, row.sha256) as file:
            keys = file.read(columns=["id"])["id"].to_pylist()
        execute(self.zoo.shop, "UPDATE sightings SET changed_at = clock_timestamp() WHERE id = ANY(%s)", keys)

    def compact(self):
        compact.compact(self.zoo.resources, self.zoo.catalog)

    def in_force(self):
        """All rows that a training would read, by id."""
        frames = [self.country_rows(code) for code in sorted(set(self.source.countries.values()))]
        return pd.concat(frames)

    def country_rows(self, code):
        columns = lake.row_columns(self.source, ())
        reader = lake.Reader(self.zoo.resources.store, self.source, columns)
        with closing(connect(self.zoo.resources.database)) as database:
            named = {"source": "sightings", "country": code}
            decided = fetch_one(database, "last_decided", **named)
            last_seq = decided.last_seq if decided else 0
            objects = fetch(database, "objects_of", **named, last_seq=last_seq, start=WINDOW[0], end=WINDOW[1])
        return latest_revisions(reader.rows(objects, columns, *WINDOW), self.source)

    def check(self):
        """Every row that has landed is in force as it stands in the table; what has not is as it was before."""
        rows, there, past = self.in_force(), committed(self.zoo.shop), revisions(self.zoo.shop)
        position = self.zoo.sql("SELECT position FROM cursors")[0].position
        landed = there[there["changed_at"] < position]
        is_readable = ~landed["length"].isin(UNREADABLE)
        present = landed[is_readable & ~landed["is_withdrawn"]]

        self.check_unique(rows.drop(landed.index[~is_readable], errors="ignore"))
        self.check_present(rows, present)
        withdrawn = landed.index[landed["is_withdrawn"] & is_readable]
        assert not rows.index.intersection(withdrawn).size, "withdrawn rows are in force"

        others = rows.drop(present.index)
        identities = set(zip(past["id"], past["changed_at"], strict=True))
        assert identities.issuperset(zip(others.index, others["changed_at"], strict=True))
        self.compared += len(present)

    def check_unique(self, rows):
        """No id is twice in force, neither in one country nor in two.

        Where the newest revision cannot be read, the former ones may be: whoever retracts the batch
        that says a row has left its country gets that row back there, until a readable one lands.
        """
        assert rows.index.is_unique, rows[rows.index.duplicated(keep=False)].sort_index()

    def check_present(self, rows, present):
        missing = present.index.difference(rows.index)
        assert missing.empty, f"committed and landed, but not in force: {present.loc[missing]}"
        found = rows.loc[present.index]
        assert (found["changed_at"] == present["changed_at"]).all(), "a former revision is in force"
        assert (found["seen_at"] == present["seen_at"]).all()
        assert (found["length"] == present["length"].astype(float)).all()
        assert (found["country"] == present["country"]).all()


def watched(zoo, shop, **changes):
    """The zoo with a table that keeps one row per key, and all that its rows ever were beside it."""
    execute(shop, "DROP TABLE IF EXISTS sightings")
    execute(shop, TABLE)
    source = zoo.catalog.source("sightings")
    source = replace(source, columns=COLUMNS, deleted="is_withdrawn", **changes)
    zoo.catalog = replace(zoo.catalog, sources={"sightings": source})
    zoo.shop = shop
    return zoo


def has_done_everything(history):
    past = revisions(history.zoo.shop)
    moved = past.groupby("id")[["country", "seen_at"]].nunique().max()
    states = {row.state for row in history.zoo.sql("SELECT DISTINCT state FROM batches")}
    unreadable = history.zoo.sql("SELECT sum(unreadable_rows)::int FROM batches")[0][0]
    return (
        history.compared > 1_000
        and (moved > 1).all()
        and past["is_withdrawn"].any()
        and {"accepted", "retracted"} <= states
        and unreadable > 0
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_lake_equals_the_table_after_each_ingest_of_a_random_history(zoo, seed):
    history = History(watched(zoo, zoo.shop), seed)
    history.run(STEPS)
    assert has_done_everything(history)


def test_it_does_so_too_where_a_standby_is_read(zoo, tmp_path):
    with replicated(tmp_path / "pair") as pair:
        pair.primary.create_database("shop")
        watched(zoo, pair.primary.dsn("shop"), primary="zoo_primary")
        servers = {"zoo_db": pair.standby, "zoo_primary": pair.primary}
        zoo.resources = replace(zoo.resources, source_dsn=lambda name: servers[name].dsn("shop"))
        pair.await_replay()
        history = History(zoo, seed=3)
        history.run(STEPS)
        assert has_done_everything(history)
