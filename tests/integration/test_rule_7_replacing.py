"""Rule 7 and rule 6: a batch whose rows were mended is landed anew, each of its changes in force once."""

import threading
from contextlib import closing
from dataclasses import replace

import pytest
from psycopg2 import errors
from toolbox import DAY, START, cycle, edit_gate, edit_source, execute, landed_changes, seen_changes

from perennial.decision import Decision
from perennial.errors import NothingToDo, RequestError
from perennial.shell.database import connect
from perennial.shell.lake import open_batch
from perennial.steps import ingest, replacing, validate
from perennial.steps.audit import audit
from perennial.steps.held import look
from perennial.steps.quarantine import accept_batch, carry_out, extract_again, retract_batch, validate_again

ROW = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, %s, %s, %s, %s)"
MEND = "UPDATE sightings SET weight = 2 * length WHERE country = 'France'"


@pytest.fixture
def held(zoo):
    """Britain is accepted, France is held; a later landing of both is accepted."""
    zoo.see("Britain", range(60))
    zoo.see("France", range(60), noise=5000)
    zoo.ingest()
    zoo.see("Britain", range(60, 70))
    zoo.see("France", range(60, 70))
    zoo.ingest()
    assert states(zoo) == {"GB 1": "accepted", "FR 1": "quarantined", "GB 2": "accepted", "FR 2": "accepted"}
    return zoo


def states(zoo):
    return {
        f"{row.country} {row.seq}": row.state for row in zoo.sql("SELECT * FROM batches ORDER BY landed_at, seq, country DESC")
    }


def source_of(zoo):
    return zoo.catalog.source("sightings")


def again(zoo, country="FR", seq=1, reason="the scale was mended"):
    return extract_again(zoo.resources, source_of(zoo), country, seq, "ann", reason)


def in_force(zoo):
    """Every change of every batch that was not replaced."""
    found = []
    for key, digest in zoo.sql("SELECT object_key, sha256 FROM batches LEFT JOIN replaced r USING (source, country, seq) "
                               "WHERE r.by IS NULL"):  # fmt: skip
        rows = open_batch(zoo.resources.store, key, digest).read().to_pandas()
        found += zip(rows["id"], rows["changed_at"], strict=True)
    return sorted(found)


def is_in_force_once(zoo):
    return in_force(zoo) == sorted(seen_changes(zoo)) and audit(zoo.resources, zoo.catalog) == []


def object_of(zoo, country, seq):
    (row,) = zoo.sql("SELECT object_key FROM batches WHERE (country, seq) = (%s, %s)", country, seq)
    return zoo.resources.store.root / row.object_key


def test_rows_mended_without_a_new_changed_at_replace_the_held_batch(held):
    execute(held.shop, MEND)
    assert again(held) == {"replaced by": "FR 3", "accepted": ["FR 3"], "quarantined": []}
    assert states(held) == {
        "GB 1": "accepted", "FR 1": "retracted", "GB 2": "accepted", "FR 2": "accepted", "FR 3": "accepted"
    }  # fmt: skip
    (row,) = held.sql("SELECT decision, person, reason, overruled FROM batch_decisions")
    assert row[:3] == ("extract again", "ann", "the scale was mended")
    assert "weight" in row.overruled
    assert is_in_force_once(held)


def test_what_is_extracted_again_makes_its_cells_due_once_though_its_rows_are_old(held):
    assert held.retrain()["weight/FR"].state == "published"
    assert held.retrain() == {}
    execute(held.shop, MEND)
    again(held)
    outcome = held.retrain()["weight/FR"]
    assert outcome.state == "published"
    assert held.sql("SELECT excluded, rows FROM snapshots ORDER BY created_at DESC LIMIT 1")[0] == ([1], 1400)
    assert held.retrain() == {}


def test_a_batch_that_comes_no_better_is_held_in_its_place_and_may_be_extracted_once_more(held):
    assert again(held) == {"replaced by": "FR 3", "accepted": [], "quarantined": ["FR 3"]}
    with pytest.raises(RequestError, match="FR 1 was replaced by FR 3 already"):
        again(held, reason="once more")
    execute(held.shop, MEND)
    assert again(held, seq=3)["accepted"] == ["FR 4"]
    assert is_in_force_once(held)


def test_a_lost_object_is_extracted_again_though_another_of_the_landing_is_lost_too(held):
    for country in ("FR", "GB"):
        object_of(held, country, 1).unlink()
    with pytest.raises(RequestError, match=r"GB 1 is accepted\. Retract it first"):
        again(held, "GB")
    retract_batch(held.resources, "sightings", "GB", 1, "ann", "its object is lost")
    execute(held.shop, MEND)
    assert again(held)["accepted"] == ["FR 3"]
    assert again(held, "GB")["accepted"] == ["GB 3"]
    assert is_in_force_once(held)


def test_landing_goes_on_after_a_replacement(held):
    execute(held.shop, MEND)
    again(held)
    held.see("France", range(70, 71))
    held.ingest()
    assert states(held)["FR 4"] == "accepted"
    assert is_in_force_once(held)


def test_rows_given_to_another_country_at_their_source_go_there_and_no_other_row_does(zoo):
    zoo.see("Britain", range(60))
    zoo.see("Frnce", range(60), per_day=10)
    zoo.see("France", range(60), per_day=5)
    zoo.ingest()
    execute(zoo.shop, "UPDATE sightings SET country = 'France' WHERE country = 'Frnce'")
    assert again(zoo, "ZZ") == {"replaced by": "FR 2", "accepted": ["FR 2"], "quarantined": []}
    assert is_in_force_once(zoo)


def test_rows_without_a_key_stay_their_countrys(zoo):
    execute(zoo.shop, "ALTER TABLE sightings DROP CONSTRAINT sightings_pkey, ALTER COLUMN id DROP NOT NULL")
    zoo.see("Britain", range(3))
    zoo.see("France", range(3), noise=5000)
    for country in ("Britain", "Britain", "France", "France"):
        execute(zoo.shop, ROW, None, START, country, 1, 2)
    zoo.ingest()
    execute(zoo.shop, MEND)
    again(zoo)
    assert [row.rows for row in zoo.sql("SELECT rows FROM batches ORDER BY country, seq")] == [62, 62, 62]


def test_a_table_that_holds_nothing_of_it_any_more_changes_nothing(held):
    execute(held.shop, "DELETE FROM sightings WHERE country = 'France'")
    before = states(held)
    with pytest.raises(RequestError, match=r"holds no change of batch FR 1 any more\. It stays"):
        again(held)
    assert states(held) == before
    assert held.sql("SELECT 1 FROM batch_decisions") == []


@pytest.mark.parametrize(("country", "seq", "said"), [("FR", 7, "no batch sightings/FR 7"), ("GB", 2, "GB 2 is accepted")])
def test_only_what_is_held_or_retracted_is_extracted_again(held, country, seq, said):
    with pytest.raises(RequestError, match=said):
        again(held, country, seq)


def test_the_same_extraction_asked_for_twice_is_one(held):
    execute(held.shop, MEND)
    again(held)
    assert again(held) == {"replaced by": "FR 3"}
    assert len(held.sql("SELECT 1 FROM batches WHERE country = 'FR'")) == 3


def test_a_replacement_killed_before_its_end_leaves_the_batch_held(held, monkeypatch):
    execute(held.shop, MEND)
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr(replacing, "_names", lambda batches: 1 / 0)
        killed.setattr(replacing, "_land", lambda *given: 1 / 0)
        again(held)
    assert states(held)["FR 1"] == "quarantined"
    assert again(held)["accepted"] == ["FR 3"]


def test_a_landing_beside_an_extraction_waits_and_both_are_whole(held, monkeypatch):
    execute(held.shop, MEND)
    held.see("France", range(70, 75))
    amidst, landed, land = threading.Event(), [], replacing._land

    def slow(*given):
        amidst.set()
        landing.join(1)
        assert landing.is_alive(), "the landing did not wait"
        return land(*given)

    def ingest_beside():
        amidst.wait(10)
        landed.append(ingest.land(held.resources, source_of(held)))

    monkeypatch.setattr(replacing, "_land", slow)
    landing = threading.Thread(target=ingest_beside)
    landing.start()
    assert again(held)["accepted"] == ["FR 3"]
    landing.join(10)
    assert landed == [{"FR": 100}]
    validate.validate(held.resources, source_of(held))
    assert is_in_force_once(held)


def test_of_two_extractions_at_once_one_replaces(held):
    execute(held.shop, MEND)
    results = []

    def attempt(person):
        try:
            results.append(len(replacing.extract_anew(held.resources, source_of(held), "FR", 1, person, "mended")))
        except RequestError as error:
            results.append(str(error))

    race = [threading.Thread(target=attempt, args=(person,)) for person in ("ann", "bob")]
    for thread in race:
        thread.start()
    for thread in race:
        thread.join()
    assert sorted(results, key=str) == [1, "Batch sightings/FR 1 was replaced by FR 3 already."]


@pytest.mark.parametrize(
    ("columns", "values", "refusal"),
    [
        ("", "", errors.CheckViolation),
        (", replaces_country, replaces_seq", ", 'FR', 1", errors.RestrictViolation),
        (", replaces_country, replaces_seq", ", 'FR', 9", errors.RestrictViolation),
        (", replaces_seq", ", 1", errors.RestrictViolation),
    ],
)
def test_the_database_refuses_a_second_batch_of_an_interval_that_replaces_none(held, columns, values, refusal):
    with pytest.raises(refusal):
        held.sql(f"""INSERT INTO batches
            (source, country, seq, lower, upper, previous_upper, rows, object_key, sha256, size{columns})
            SELECT source, country, 3, lower, upper, (SELECT reach FROM batches WHERE (country, seq) = ('FR', 2)), rows, 'k',
                   sha256, size{values} FROM batches WHERE (country, seq) = ('FR', 1)""")  # fmt: skip


@pytest.mark.parametrize("moved", ["lower = lower - interval '1 minute'", "replaces_seq = 2", "reach = upper"])
def test_what_a_replacement_stands_for_never_changes(held, moved):
    execute(held.shop, MEND)
    again(held)
    with pytest.raises((errors.RestrictViolation, errors.GeneratedAlways)):
        held.sql(f"UPDATE batches SET {moved} WHERE (country, seq) = ('FR', 3)")


@pytest.fixture
def islands(zoo):
    """Rows of Britain and of two countries that the spec does not know."""
    zoo.see("Britain", range(30))
    zoo.see("Spain", range(30))
    zoo.see("Atlantis", range(3))
    execute(zoo.shop, ROW, 7001, START + DAY, None, 1, 2)
    zoo.ingest()
    return zoo


def know(zoo, **countries):
    edit_source(zoo, countries={**source_of(zoo).countries, **countries})


def test_a_batch_of_unknown_countries_names_them(islands):
    (row,) = islands.sql("SELECT state, reason FROM batches WHERE country = 'ZZ'")
    assert row.state == "quarantined"
    assert (
        "with their rows: 'Spain' (600), 'Atlantis' (60), none (1). Mend the rows, or add them to countries at " in row.reason
    )


def test_rows_of_a_country_that_the_spec_knows_by_now_go_there(islands):
    know(islands, Spain="ES", Atlantis="GB")
    said = validate_again(islands.resources, source_of(islands), "ann", "Spain is a country")
    assert said == {"accepted": ["ES 1", "GB 2"], "quarantined": ["ZZ 2"]}
    rows = {f"{row.country} {row.seq}": row.rows for row in islands.sql("SELECT country, seq, rows FROM batches")}
    assert rows == {"GB 1": 600, "ZZ 1": 661, "GB 2": 60, "ES 1": 600, "ZZ 2": 1}
    assert is_in_force_once(islands)
    islands.see("Spain", range(30, 40))
    islands.ingest()
    assert states(islands)["ES 2"] == "accepted"
    assert is_in_force_once(islands)


def test_as_long_as_none_is_known_nothing_is_landed_anew(islands):
    assert validate_again(islands.resources, source_of(islands), "ann", "let me see") == {
        "accepted": [],
        "quarantined": ["ZZ 1"],
    }
    assert len(islands.sql("SELECT 1 FROM batches")) == 2


def test_a_batch_of_unknown_countries_that_cannot_be_read_stays_and_says_so(islands):
    know(islands, Spain="ES")
    object_of(islands, "ZZ", 1).unlink()
    assert validate_again(islands.resources, source_of(islands), "ann", "Spain")["quarantined"] == ["ZZ 1"]
    assert "could not run: ObjectMissing" in islands.sql("SELECT reason FROM batches WHERE country = 'ZZ'")[0].reason
    assert again(islands, "ZZ")["replaced by"] == "ES 1, ZZ 2"
    assert is_in_force_once(islands)


def test_looking_names_reasons_objects_decisions_and_rows(held, caplog):
    caplog.set_level("INFO", "perennial")
    execute(held.shop, ROW, 7001, "2099-01-05", "Britain", 1, 2)
    held.ingest()
    validate_again(held.resources, source_of(held), "ann", "just to see", country="FR")
    assert look(held.resources, source_of(held)) == {"held": ["FR 1", "GB 3"], "with rejected rows": ["GB 3"]}
    text = caplog.text
    (reason,) = held.sql("SELECT reason FROM batches WHERE (country, seq) = ('FR', 1)")[0]
    assert f"FR 1: {reason}" in text
    assert "FR 1: last decided by ann (validate again): just to see" in text
    assert f"FR 1: landed rows in {held.resources.store.url}/lake/sightings/FR/" in text
    assert f"GB 3: 1 rejected rows in {held.resources.store.url}/quarantine/sightings/GB/" in text
    assert "id=7001" in text
    assert "seen_at=2099-01-05" in text
    assert "| expect_column_values_to_be_plausible_times on seen_at" in text


def test_looking_at_one_batch_shows_it_whatever_its_state(held, caplog):
    caplog.set_level("INFO", "perennial")
    execute(held.shop, MEND)
    again(held)
    look(held.resources, source_of(held), "FR", 1)
    assert "FR 1: replaced by FR 3" in caplog.text
    with pytest.raises(NothingToDo, match="keeps nothing of that kind aside"):
        look(held.resources, source_of(held))


def test_looking_at_a_batch_whose_object_is_lost_says_so(held, caplog):
    caplog.set_level("INFO", "perennial")
    object_of(held, "FR", 1).unlink()
    assert look(held.resources, source_of(held))["held"] == ["FR 1"]
    assert "FR 1: such as rows that cannot be read:" in caplog.text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"action": "accept", "country": "XX", "seq": 1}, "has no country XX. It has: DE, FR, GB, ZZ"),
        ({"action": "accept", "country": "FR"}, "name one batch by country and number"),
        ({"action": "retract", "seq": 1}, "name the country of batch 1"),
        ({"action": "accept", "country": "FR", "seq": 0}, "numbered from 1"),
        ({"action": "accept", "country": "FR", "seq": 1, "reason": " "}, "needs a reason"),
        ({"action": "validate again", "person": ""}, "No person has triggered this run"),
        ({"action": "delete", "country": "FR", "seq": 1}, "Choose one of look, accept"),
        ({"action": "accept", "country": "FR", "seq": 7}, "There is no batch sightings/FR 7"),
    ],
)
def test_what_cannot_be_decided_is_refused_by_name(held, asked, said):
    decision = replace(Decision(person="ann", reason="why not", action="look"), **asked)
    with pytest.raises(RequestError, match=said):
        carry_out(held.resources, source_of(held), decision)


@pytest.mark.parametrize("action", ["accept", "retract"])
def test_the_same_decision_made_twice_is_one(zoo, action):
    cycle(zoo)
    zoo.sql("UPDATE batches SET state = state")
    if action == "accept":
        zoo.see("Britain", range(60, 70), noise=5000)
        zoo.ingest()
    decision = Decision(action=action, country="GB", seq=2 if action == "accept" else 1, person="ann", reason="why not")
    first = carry_out(zoo.resources, source_of(zoo), decision)
    assert carry_out(zoo.resources, source_of(zoo), decision) == first
    assert len(zoo.sql("SELECT 1 FROM batch_decisions")) == 1
    with pytest.raises(RequestError, match=r"GB \d is (accepted|retracted), not"):
        carry_out(zoo.resources, source_of(zoo), replace(decision, person="bob"))


def test_a_country_whose_newest_batch_is_held_says_so_in_each_of_its_cells(zoo):
    cycle(zoo, range(60), "Britain", "France")
    zoo.see("Britain", range(60, 90))
    zoo.see("France", range(60, 90), noise=5000)
    zoo.ingest()
    outcomes = zoo.retrain()
    (held,) = zoo.sql("SELECT reason FROM batches WHERE state = 'quarantined'")
    assert outcomes["weight/GB"].state == "published"
    assert outcomes["weight/FR"].state == "skipped"
    assert f"Batch sightings/FR 2 is held: {held.reason}" in outcomes["weight/FR"].reason
    assert outcomes["weight/FR"].reason.startswith("Batch sightings/FR 2 is held")
    accept_batch(zoo.resources, "sightings", "FR", 2, "ann", "let it in")
    assert zoo.retrain()["weight/FR"].held == ""


def test_forced_cells_of_such_a_country_are_trained_and_say_it_where_they_keep_their_champion(zoo):
    cycle(zoo, range(60), "Britain")
    zoo.see("Britain", range(60, 90), noise=5000)
    zoo.ingest()
    edit_gate(zoo, floor=0.001)
    outcome = zoo.retrain(force=True)["weight/GB"]
    assert outcome.state == "kept"
    assert "Batch sightings/GB 2 is held" in outcome.reason
    assert zoo.outcomes(zoo.plan(countries=("FR",))) == {}


def test_landed_rows_are_all_still_there(held):
    execute(held.shop, MEND)
    again(held)
    assert len(landed_changes(held)) == 2 * 1200 + 2 * 200 + 1200
    with closing(connect(held.resources.database)):
        assert [row.landed for row in held.rows("audit_balance")] == [2600, 1400]
