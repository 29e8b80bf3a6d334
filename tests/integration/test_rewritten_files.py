"""A file that comes again and again under its name: each delivery costs what the one before did, and removes what it must."""

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from test_rule_6_files import Inbox, light
from toy_files import sightings_files

from perennial.errors import RequestError
from perennial.shell.store import FolderStore
from perennial.steps import land_files, validate
from perennial.steps.quarantine import accept_batch, retract_batch, validate_again
from perennial.steps.vanished import FormerRevisions

FILLING = [(number, 10.0) for number in range(900, 910)]  # rows enough that a rejected one is no reason to hold a batch


class Counting(FolderStore):
    """A folder that remembers what was opened, listed and looked up."""

    def __init__(self, root):
        super().__init__(root)
        self.opened, self.lists, self.entries = [], 0, 0

    def open(self, key):
        self.opened.append(key)
        return super().open(key)

    def look(self, prefix):
        self.lists += 1
        return super().look(prefix)

    def entry(self, key):
        self.entries += 1
        return super().entry(key)


@pytest.fixture
def inbox(zoo, tmp_path):
    """An empty inbox beside a lake, both of which count."""
    drop = Counting(tmp_path / "drop")
    lake = Counting(tmp_path / "lake")
    zoo.resources = replace(zoo.resources, store=lake, source_store=lambda name: drop)
    zoo.catalog = replace(zoo.catalog, sources={"sightings": sightings_files})
    return Inbox(zoo, drop)


def opened(inbox):
    """How many objects of the lake the landing of what is there opens; it is validated afterwards."""
    inbox.zoo.resources.store.opened.clear()
    inbox.land()
    number = len(inbox.zoo.resources.store.opened)
    validate.validate(inbox.zoo.resources, inbox.source)
    return number


def test_the_nth_delivery_of_a_file_opens_as_many_objects_as_the_second(inbox):
    counts = []
    for number in range(8):
        inbox.drop("a.csv", (number, 10), (number + 1, 20), (100, number))
        counts.append(opened(inbox))
    assert counts == [0, 2, 2, 2, 2, 2, 2, 2]
    assert inbox.truth() == {7: 10, 8: 20, 100: 7}
    assert inbox.is_sound()


def test_a_delivery_opens_no_batch_of_the_files_that_came_meanwhile_with_other_keys(inbox):
    counts = []
    for number in range(6):
        inbox.drop("a.csv", (number, 10), (number + 1, 20))
        counts.append(opened(inbox))
        for other in range(4):
            key = 1000 + 10 * number + other
            inbox.drop(f"{key}.csv", (key, 30))
            inbox.ingest()
    assert counts == [0, 2, 2, 2, 2, 2]
    assert set(inbox.truth()) >= {5, 6, 1000, 1053}
    assert inbox.is_sound()


def test_a_key_that_another_file_holds_is_looked_for_once(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 22))
    inbox.ingest()
    counts = []
    for number in range(7):
        inbox.drop("a.csv", (1, number))
        counts.append(opened(inbox))
    assert counts == [3, 4, 3, 3, 3, 3, 3]
    assert inbox.truth() == {1: 6, 2: 22}
    assert inbox.is_sound()


def test_a_row_is_removed_once_the_batch_of_the_file_that_held_it_is_retracted(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 22))
    inbox.ingest()
    for number in range(4):
        inbox.drop("a.csv", (1, number))
        inbox.ingest()
    retract_batch(inbox.zoo.resources, "sightings", "GB", 2, "ann", "wrong")
    assert inbox.truth() == {1: 3, 2: 20}
    inbox.drop("a.csv", (1, 11))
    inbox.ingest()
    assert inbox.truth() == {1: 11}


def test_a_row_whose_newer_ones_were_rejected_is_removed_however_many_they_were(inbox):
    inbox.edit(columns=light(inbox.source))
    counts = []
    for weight in (10, 500, 501, 502, 503, None):
        inbox.drop("a.csv", *([(1, weight)] if weight else []), *FILLING)
        counts.append(opened(inbox))
    assert counts == [0, 1, 2, 3, 3, 4]
    assert inbox.truth() == dict(FILLING)
    assert inbox.is_sound()


def test_what_only_rejected_rows_said_removes_nothing_of_another_file(inbox):
    inbox.edit(columns=light(inbox.source))
    inbox.drop("b.csv", (1, 10))
    inbox.ingest()
    for weight in (500, 501, None):
        inbox.drop("a.csv", *([(1, weight)] if weight else []), *FILLING)
        inbox.ingest()
    assert inbox.truth() == {1: 10, **dict(FILLING)}


def test_a_removal_that_was_taken_back_later_is_made_once_more(inbox):
    for rows in ([(1, 10), (2, 20)], [(1, 11)], [(1, 12)], [(1, 13)]):
        inbox.drop("a.csv", *rows)
        inbox.ingest()
    retract_batch(inbox.zoo.resources, "sightings", "GB", 2, "ann", "wrong")
    assert inbox.truth() == {1: 13, 2: 20}
    for weight in (14, 15):
        inbox.drop("a.csv", (1, weight))
        inbox.ingest()
    assert inbox.truth() == {1: 15}


def test_a_file_goes_on_though_what_was_remembered_of_it_is_lost(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 22))
    inbox.ingest()
    for number in range(3):
        inbox.drop("a.csv", (1, number))
        inbox.ingest()
    (key,) = inbox.zoo.resources.store.keys("older/")
    inbox.zoo.resources.store.delete(key)
    inbox.drop("a.csv", (3, 30))
    inbox.ingest()
    assert inbox.truth() == {2: 22, 3: 30}


def test_deliveries_that_wait_for_their_validation_remove_what_they_must(inbox):
    for rows in ([(1, 10), (2, 20), (3, 30)], [(1, 11), (3, 31)], [(1, 12)], [(1, 13)]):
        inbox.drop("a.csv", *rows)
        inbox.land()
    validate.validate(inbox.zoo.resources, inbox.source)
    inbox.drop("a.csv", (4, 14))
    inbox.ingest()
    assert inbox.truth() == {4: 14}
    assert inbox.is_sound()


def test_a_batch_without_a_key_filter_is_opened(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 22))
    inbox.ingest()
    inbox.zoo.sql("DELETE FROM key_filters")
    inbox.drop("a.csv", (1, 11))
    inbox.ingest()
    assert inbox.truth() == {1: 11, 2: 22}


def test_a_filter_of_other_types_is_not_believed(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 22))
    inbox.ingest()
    columns = (replace(each, type="string") if each.name == "id" else each for each in inbox.source.file_columns)
    inbox.edit(columns=tuple(columns))
    inbox.drop("a.csv", (1, 11))
    inbox.land()
    assert inbox.zoo.sql("SELECT removed FROM files ORDER BY seen_at DESC LIMIT 1") == [(0,)]


class Checked(FormerRevisions):
    """Reads every revision as well, as if nothing were remembered, and compares."""

    compared = 0

    def vanished(self, rows):
        whole = FormerRevisions(resources=self.resources, database=self.database, source=self.source, name=self.name)
        whole._start = lambda: (0, {})
        expected = {(country, key) for country, table in whole.vanished(rows) for key in table["id"].to_pylist()}
        found = list(super().vanished(rows))
        assert {(country, key) for country, table in found for key in table["id"].to_pylist()} == expected
        Checked.compared += len(expected)
        yield from found


def deliver(inbox, chance):
    """Put a file with some rows, of which one in ten is rejected."""
    rows = [
        (number, chance.choice([500, *range(1, 10)]), chance.choice(["Britain", "France"]))
        for number in chance.sample(range(8), chance.randint(0, 4))
    ]
    inbox.drop(
        f"{chance.choice('aab')}.csv",
        *rows,
        *FILLING,
        *((n + 100, w, "France") for n, w in FILLING),
    )


def decide(inbox, chance):
    """Let a person decide about any batch, if it is in a state for it."""
    resources = inbox.zoo.resources
    batches = inbox.zoo.sql("SELECT country, seq, state FROM batches WHERE state IN ('accepted', 'quarantined')")
    if not batches:
        return
    batch = chance.choice(batches)
    act = retract_batch if batch.state == "accepted" else chance.choice([accept_batch, again])
    with suppress(RequestError):  # whose rows were all rejected cannot be accepted
        act(resources, "sightings", batch.country, batch.seq, "ann", f"because {chance.random()}")


def again(resources, source, country, seq, person, reason):
    """Validate a held batch again, by a spec that rejects nothing."""
    validate_again(resources, sightings_files, person, reason, country, seq)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_remembered_says_what_reading_every_revision_says(inbox, monkeypatch, seed):
    inbox.edit(columns=light(inbox.source))
    monkeypatch.setattr(land_files, "FormerRevisions", Checked)
    monkeypatch.setattr(Checked, "compared", 0)
    chance = random.Random(seed)  # noqa: S311 (nothing is kept secret with it)
    for _ in range(40):
        deliver(inbox, chance)
        inbox.land()
        if chance.random() < 0.8:
            validated(inbox)
        if chance.random() < 0.15:
            decide(inbox, chance)
    assert Checked.compared > 20


def validated(inbox):
    """Validate what waits, if anything does."""
    if inbox.zoo.sql("SELECT 1 FROM batches WHERE state = 'landed'"):
        validate.validate(inbox.zoo.resources, inbox.source)


def test_a_folder_of_new_files_is_listed_once_and_each_of_them_looked_up_once(inbox):
    for number in range(30):
        inbox.drop(f"{number}.csv", (number, 10))
    inbox.store.lists = inbox.store.entries = 0
    inbox.land()
    assert (inbox.store.lists, inbox.store.entries) == (1, 30)
    inbox.land()
    assert (inbox.store.lists, inbox.store.entries) == (2, 30)
