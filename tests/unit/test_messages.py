"""Messages: who is told what of a run, and what a person reads."""

from collections import namedtuple
from dataclasses import replace

import pytest
from toy_models.zoo import zoo
from toy_models.zoo.weight import weight

from perennial import Owner
from perennial.catalog import FleetSpecs, RefusedSpec
from perennial.core.messages import MOST_CAUSES, Result, messages_of, owners_of

Row = namedtuple("Row", "model country state reason champion gain held kind", defaults=("", "v1", None, "", "publish"))
KEEPERS = Owner("keepers", alerts=("mailto://keepers@example.com",))
VETS = Owner("vets", alerts=("mailto://vets@example.com",), tier=1)
COUNTRIES = [f"{first}{second}" for first in "ABCDE" for second in "ABCDEFGHIJ"]


def fleet(owner=KEEPERS, **owners):
    """A fleet whose models have these owners."""
    models = {name: replace(weight, name=name, owner=of) for name, of in owners.items()}
    return FleetSpecs(fleet=replace(zoo, owner=owner), models=models, refused={})


def rows(state, *countries, model="weight", **facts):
    return [Row(model, country, state, **facts) for country in countries]


def told(specs, outcomes, limit=1.0, url="", why=""):
    """Messages by owner."""
    result = Result(run_id="zoo/run-1", url=url, outcomes=outcomes, limit=limit, why_no_plan=why)
    return {message.owner: message for message in messages_of(specs, result)}


def body(outcomes, **facts):
    (message,) = told(fleet(weight=KEEPERS), outcomes, **facts).values()
    return message.body


@pytest.mark.parametrize("state", ["kept", "inconclusive", "skipped"])
def test_nobody_is_told_of_a_run_in_which_nothing_happened(state):
    assert told(fleet(weight=KEEPERS), rows(state, "GB", "FR")) == {}


def test_cells_whose_rows_are_held_say_so_where_a_message_goes_out_anyway():
    held = rows("skipped", "GB", reason="Not due. Batch s/GB 7 is held: volume.", held="Batch s/GB 7 is held: volume.")
    assert told(fleet(weight=KEEPERS), held) == {}
    said = body([*rows("published", "FR"), *held])
    assert "Waiting for rows that are held:\n- weight: GB: Batch s/GB 7 is held: volume." in said
    assert "trigger quarantine_<source> with action look, that country and batch, then with accept" in said
    assert "Not due" not in said


def test_nobody_is_told_of_an_empty_run():
    assert told(fleet(weight=KEEPERS), [], limit=0.0) == {}


def test_the_subject_says_first_what_failed():
    outcomes = rows("published", "GB", "FR") + rows("failed", "DE") + rows("blocked", "ES") + rows("kept", "IT")
    assert told(fleet(weight=KEEPERS), outcomes)["keepers"].subject == "[zoo] 1 of 5 cells failed, 1 blocked, 2 published"
    assert told(fleet(weight=KEEPERS), outcomes[:1])["keepers"].subject == "[zoo] 1 of 1 cell published"


def test_cells_that_failed_for_one_cause_are_one_line():
    outcomes = rows("failed", "GB", "FR", reason="ExamplesError: no target. Name it.") + rows("failed", "DE", reason="Other.")
    lines = body(outcomes).splitlines()
    assert lines[:3] == ["Failed:", "- weight: GB, FR (2 cells): ExamplesError: no target. Name it.", "- weight: DE: Other."]


def test_a_cause_is_one_line_over_models_and_whatever_cell_or_number_it_names():
    outcomes = [
        *rows("failed", "GB", reason="CellTimeout: weight/GB met its limit after 61 s."),
        *rows("failed", "FR", model="height", reason="CellTimeout: height/FR met its limit after 74 s."),
    ]
    text = told(fleet(weight=KEEPERS, height=KEEPERS), outcomes)["keepers"].body
    assert "- weight: GB; height: FR (2 cells): e.g. CellTimeout: weight/GB met its limit after 61 s." in text


def test_a_long_list_of_cells_is_cut():
    assert "BI, BJ and 30 more (50 cells): x" in body(rows("failed", *COUNTRIES, reason="x"))


def test_many_causes_are_cut_and_the_commonest_come_first():
    outcomes = [row for country in COUNTRIES[2:] for row in rows("failed", country, reason=country * 2)]
    lines = body(outcomes + rows("failed", "AA", "AB", reason="common")).splitlines()
    assert lines[1] == "- weight: AA, AB (2 cells): common"
    assert lines[MOST_CAUSES + 1] == "- and 39 cells for 39 other causes"


def test_a_very_long_reason_keeps_its_first_words_and_its_fix():
    text = body(rows("failed", "GB", reason=f"SpecError: {'wrong, ' * 500}. Mend line 7."))
    assert "SpecError: wrong" in text
    assert " [...] " in text
    assert "Mend line 7." in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    "reason",
    ["postgresql://ada:hunter2@db/shop", "https://hunter2@example.com/x", "password=hunter2 host=db", "TOKEN=hunter2"],
)
def test_credentials_in_a_reason_are_left_out(reason):
    text = body(rows("failed", "GB", reason=f"SourceError: cannot reach {reason}. Check it."))
    assert "hunter2" not in text
    assert text.startswith("Failed:\n- weight: GB: SourceError: cannot reach ")


def test_published_cells_show_their_gain():
    outcomes = [*rows("published", "GB", gain=0.0312), *rows("published", "FR", champion=None), *rows("published", "DE")]
    assert "Published:\n- weight: GB +3.1%, FR first model, DE\n" in body(outcomes)


def test_rebuilt_cells_are_named_apart_from_published_ones():
    outcomes = rows("published", "GB", "FR", kind="rebuild", reason="Rebuilt for scikit-learn 2.0.") + rows("published", "DE")
    (message,) = told(fleet(weight=KEEPERS), outcomes).values()
    assert message.subject == "[zoo] 1 of 3 cells published, 2 rebuilt"
    assert "Published:\n- weight: DE\n" in message.body
    assert "Rebuilt:\n- weight: GB, FR (2 cells): Rebuilt for scikit-learn 2.0.\n" in message.body
    assert "Readers with the former scikit-learn keep the release before" in message.body


def test_blocked_cells_show_who_blocks_them():
    reason = "Promoted, not published. hold by ada: the price list is wrong"
    assert f"Blocked:\n- weight: GB, FR (2 cells): {reason}\n" in body(rows("blocked", "GB", "FR", reason=reason))


def test_a_message_says_what_to_do_and_where_to_look():
    text = body(rows("failed", "GB", reason="x"), url="https://airflow.example.com/dags/retrain_zoo/runs/run-1")
    assert "What to do:\n- Failed cells keep their champions" in text
    assert "trigger retrain_zoo for them with force" in text
    assert text.endswith("Run zoo/run-1:\nhttps://airflow.example.com/dags/retrain_zoo/runs/run-1\n")
    assert "Blocked cells" not in text


def test_where_all_is_well_there_is_nothing_to_do():
    assert "There is nothing to do." in body(rows("published", "GB"))


def test_each_owner_is_told_of_its_own_cells_and_tier_1_first():
    outcomes = rows("failed", "GB", reason="x") + rows("published", "GB", model="health")
    found = told(fleet(weight=KEEPERS, health=VETS), outcomes)
    assert list(found) == ["vets", "keepers"]
    assert (found["vets"].subject, found["keepers"].subject) == ("[zoo] 1 of 1 cell published", "[zoo] 1 of 1 cell failed")


def test_the_fleets_owner_is_told_when_the_run_counts_as_failed():
    outcomes = rows("failed", "GB", reason="x") + rows("published", "FR")
    found = told(fleet(weight=VETS), outcomes, limit=0.1)
    assert set(found) == {"vets", "keepers"}
    assert found["keepers"].body.startswith("More cells failed than the fleet's limit of 10% allows")
    assert set(told(fleet(weight=VETS), outcomes, limit=0.5)) == {"vets"}


def test_the_fleets_owner_is_told_of_cells_without_a_healthy_spec():
    specs = replace(fleet(weight=VETS), refused={"height": RefusedSpec(name="height", countries=("GB",), faults=())})
    outcomes = rows("failed", "GB", model="height", reason="SpecError: x") + rows("kept", "GB")
    found = told(specs, outcomes)
    assert set(found) == {"keepers"}
    assert "- height: GB: SpecError: x" in found["keepers"].body


def test_the_fleets_owner_is_told_of_a_run_without_a_plan():
    found = told(fleet(weight=VETS), None, url="https://airflow.example.com/r")
    assert {name: message.subject for name, message in found.items()} == {
        "keepers": "[zoo] run without a plan, nothing was trained"
    }
    assert "The plan task failed" in found["keepers"].body
    assert "https://airflow.example.com/r" in found["keepers"].body


def test_the_same_name_and_addresses_are_one_owner_of_the_most_urgent_tier():
    found = owners_of(fleet(weight=replace(KEEPERS, tier=1), height=KEEPERS))
    assert found == {"keepers": replace(KEEPERS, tier=1)}


def test_a_name_with_other_addresses_is_another_owner():
    other = Owner("keepers", alerts=("mailto://night@example.com",))
    found = owners_of(fleet(weight=other, height=other))
    assert found == {"keepers (zoo)": KEEPERS, "keepers (zoo/height)": other}
    outcomes = rows("failed", "GB", reason="x") + rows("failed", "GB", model="height", reason="x")
    assert list(told(fleet(weight=other, height=other), outcomes)) == ["keepers (zoo/height)"]


def test_the_sentence_that_a_plan_failed_with_is_told():
    text = body(None, why="RequestError: Fleet zoo has no model wight. It has: weight.")
    assert text.startswith("Why:\n- RequestError: Fleet zoo has no model wight. It has: weight.\n\n")
    assert "The plan task failed, so nothing was trained" in text
