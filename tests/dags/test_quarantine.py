"""What a person sees and does of held batches, through the real DAGs: one country's bad batch from its landing to its end."""

from dataclasses import replace

import pytest

from perennial import Checks, Limit
from perennial.spec import Days

DONE = {"decide": "success", "announce": "success", "report": "success"}
LOOKED = {"decide": "success", "announce": "skipped", "report": "success"}
REFUSED = {"decide": "failed", "announce": "upstream_failed", "report": "upstream_failed"}


@pytest.fixture
def shops(world):
    """Two countries published; then a month whose British batch is three times too big, and is held."""
    source = replace(world.catalog.source("sightings"), country_checks={"GB": Checks(volume=Limit(2.0, 2.5))})
    world.catalog = replace(world.catalog, sources={"sightings": source})
    world.keep("weight", window=Days(365))
    grow(world, range(60))
    world.retrain()
    grow(world, range(60, 90), british=60)
    return world


def grow(world, days, british=20):
    world.see("Britain", days, per_day=british)
    world.see("France", days)
    assert world.ingest()[0] == "success"


def champions(world):
    return dict(
        world.execute(
            world.perennial,
            "SELECT DISTINCT ON (model, country) country, to_version FROM perennial.releases ORDER BY model, country, seq DESC",
        )
    )


def last_outcomes(world):
    rows = world.execute(
        world.perennial,
        """SELECT country, state, reason FROM perennial.outcomes
        WHERE run_id = (SELECT id FROM perennial.runs ORDER BY planned_at DESC LIMIT 1)""",
    )
    return {country: (state, reason) for country, state, reason in rows}


def trained(world):
    """The countries that the last run has trained."""
    return {country: state for country, (state, _) in last_outcomes(world).items() if state != "skipped"}


def test_from_a_held_batch_to_its_acceptance_to_its_retraction(shops, caplog):
    before = champions(shops)
    assert shops.retrain()[0] == "success"
    state, reason = last_outcomes(shops)["GB"]
    assert last_outcomes(shops)["FR"][0] == "published"
    assert (state, "Batch sightings/GB 2 is held: volume: 30 of 30 days are unusual" in reason) == ("skipped", True)
    assert champions(shops)["GB"] == before["GB"]
    assert champions(shops)["FR"] != before["FR"]

    assert shops.decide("look") == ("success", LOOKED)
    assert shops.returned["decide"] == {"held": ["GB 2"], "with rejected rows": []}
    assert shops.decide("accept", "GB", 2, "the shop has grown") == ("success", DONE)
    assert (shops.returned["decide"], shops.returned["announce"]) == ({"accepted": ["GB 2"]}, ["GB/2"])
    assert shops.returned["report"] == {"begun": 0, "ended": 1}
    shops.retrain()
    assert trained(shops) == {"GB": "published"}
    with_it = champions(shops)["GB"]

    grow(shops, range(90, 120))
    shops.retrain()
    tainted = champions(shops)["GB"]
    assert shops.decide("retract", "GB", 2, "a till counted thrice") == ("success", DONE)
    told = shops.returned["decide"]["versions"]
    assert told[0] == {"cell": "weight/GB", "version": tainted, "is_champion": True}
    assert {"cell": "weight/GB", "version": with_it, "is_champion": False} in told
    assert f"Trained on it: weight/GB version {tainted}, the champion" in caplog.text

    shops.retrain()
    assert trained(shops) == {"GB": "published"}
    without = "SELECT excluded FROM perennial.snapshots s JOIN perennial.versions v ON v.snapshot = s.id WHERE v.id = '{}'"
    assert shops.execute(shops.perennial, without.format(champions(shops)["GB"])) == [([2],)]
    assert shops.retrain()[1]["train"] == "skipped"
    said = "SELECT decision, person, reason FROM perennial.batch_decisions ORDER BY id"
    assert shops.execute(shops.perennial, said) == [
        ("accept", "dag_test", "the shop has grown"), ("retract", "dag_test", "a till counted thrice")
    ]  # fmt: skip


def test_a_retraction_wakes_the_fleets_though_nothing_new_was_accepted(shops):
    shops.decide("accept", "GB", 2, "the shop has grown")
    assert shops.decide("retract", "GB", 2, "it has not")[1] == DONE
    assert shops.returned["announce"] == []


def test_what_was_mended_without_a_new_moment_is_extracted_again(shops):
    shops.execute(shops.zoo, "DELETE FROM sightings WHERE country = 'Britain' AND seen_at >= '2026-03-02' AND id % 3 > 0")
    assert shops.decide("extract again", "GB", 2, "the doubles are deleted") == ("success", DONE)
    assert shops.returned["decide"] == {"replaced by": "GB 3", "accepted": ["GB 3"], "quarantined": []}
    assert shops.returned["announce"] == ["GB/3"]
    shops.retrain()
    assert last_outcomes(shops)["GB"][0] == "published"


def test_rows_of_a_country_that_the_spec_did_not_know_are_read_once_it_does(shops):
    shops.see("Spain", range(60))
    shops.ingest()
    source = shops.catalog.source("sightings")
    spec = replace(source, countries={**source.countries, "Spain": "ES"})
    shops.catalog = replace(shops.catalog, sources={"sightings": spec})
    assert shops.decide("validate again", "ZZ", None, "Spain is a country now") == ("success", DONE)
    assert shops.returned["decide"] == {"accepted": ["ES 1"], "quarantined": []}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("accept", "GB", None, "why not"), "name one batch by country and number"),
        (("accept", None, 2, "why not"), "name the country of batch 2"),
        (("accept", "GB", 7, "why not"), "There is no batch sightings/GB 7"),
        (("retract", "GB", 2, "why not"), "Batch sightings/GB 2 is quarantined, not accepted"),
        (("accept", "GB", 2, None), "needs a reason"),
        (("extract again", "GB", 1, "why not"), "Retract it first"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once_and_changes_nothing(shops, capsys, asked, said):
    assert shops.decide(*asked) == ("failed", REFUSED)
    assert shops.tries["decide"] == 1
    assert said in capsys.readouterr().out
    assert shops.execute(shops.perennial, "SELECT 1 FROM perennial.batch_decisions") == []


@pytest.mark.parametrize("asked", [("burn",), ("accept", "XX", 1, "r"), ("accept", "GB", 0, "r"), ("accept", "GB", "two", "r")])
def test_what_the_form_does_not_offer_makes_no_run(shops, asked):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        shops.decide(*asked)


def test_looking_where_nothing_is_kept_aside_is_no_failure(world):
    world.see("Britain", range(3))
    world.ingest()
    assert world.decide("look") == ("success", {**LOOKED, "decide": "skipped"})
