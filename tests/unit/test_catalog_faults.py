"""A wrong spec among healthy ones: it is refused or runs by a default, and the others run on."""

import sys
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import FLEET, MODEL, SOURCE

from perennial.cell import Cell
from perennial.claims import is_count
from perennial.schedules import is_schedule
from perennial.spec import Fleet, Model, Source

VALUES = ("None", "5", "-1", "nan", "'x'", "[1]", "(1, None)", "{1: 2}", "{'Spain': 'es'}", "object()", "print", "b'x'", "True")
SPECS = {"fleet": FLEET, "model": MODEL, "source": SOURCE}


def whats(catalog):
    return [fault.what for fault in catalog.all_faults()]


def with_field(text, name, value):
    """The file of a spec whose one spec has another value in a field."""
    spec = text.split(" = ")[0].splitlines()[-1]
    line = f"\nfrom dataclasses import replace\nnan = float('nan')\n{spec} = replace({spec}, {name}={value})\n"
    return text + line


def forget(tree):
    for name in [name for name in sys.modules if name.split(".")[0] in (tree.models, tree.sources)]:
        del sys.modules[name]


def test_a_source_whose_schedule_is_no_cron_has_no_dag_and_the_others_do(tree):
    other = SOURCE.replace('name="sightings"', 'name="tracks"').replace("max_commit", 'schedule="every day", max_commit')
    path = tree.write("sources/tracks.py", other)
    catalog = tree.catalog()
    assert list(catalog.sources) == ["sightings"]
    assert whats(catalog) == ["schedule 'every day' is no cron"]
    assert catalog.faults[0].where.startswith(f"{path}:")


@pytest.mark.parametrize("change", ["schedule='every day'", "workers='two'", "failure_limit=nan", "country_pattern='('"])
def test_a_fleet_of_a_setting_that_cannot_be_used_runs_on_by_the_default(tree, change):
    name = change.split("=")[0]
    usual = getattr(tree.catalog().fleet("zoo").fleet, name) if name != "workers" else 2
    forget(tree)
    tree.write("models/zoo/__init__.py", with_field(FLEET, name, change.split("=")[1]))
    catalog = tree.catalog()
    assert len(whats(catalog)) == 1
    assert getattr(catalog.fleet("zoo").fleet, name) == usual
    assert Cell("weight", "GB") in catalog.fleet("zoo").cells()
    assert list(catalog.fleet("zoo").models) == ["weight"]


def test_codes_of_a_source_that_is_read_have_the_form_of_iso_or_of_a_fleet(tree):
    path = tree.write("sources/tracks.py", SOURCE.replace('"sightings"', '"tracks"', 1).replace('"GB"', '"LHR"'))
    tree.model(MODEL.replace('source="sightings"', 'source="tracks"'))
    fault, unread = tree.catalog().all_faults()
    assert (fault.what, fault.where.startswith(f"{path}:")) == ("no country codes: LHR", True)
    assert "no healthy source 'tracks'" in unread.what
    forget(tree)
    airports = FLEET.replace('"zoo"', '"airports"').replace('("GB", "FR", "DE")', '("LHR",), country_pattern="[A-Z]{3}"')
    tree.write("models/airports/__init__.py", airports)
    assert whats(tree.catalog()) == []
    assert set(tree.catalog().sources) == {"sightings", "tracks"}


def test_codes_of_a_source_that_nothing_reads_yet_are_left_to_its_fleet(tree):
    tree.write("sources/tracks.py", SOURCE.replace('"sightings"', '"tracks"', 1).replace('"GB"', '"LHR"'))
    assert whats(tree.catalog()) == []


FILES = {"fleet": "models/farm/__init__.py", "model": "models/zoo/other.py", "source": "sources/tracks.py"}
KINDS = {"fleet": Fleet, "model": Model, "source": Source}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(SPECS)), value=st.sampled_from(VALUES), data=st.data())
def test_whatever_stands_in_a_field_the_catalog_loads_and_the_others_run_on(new_tree, kind, value, data):
    tree = new_tree()
    name = data.draw(st.sampled_from([each.name for each in fields(KINDS[kind]) if each.name != "where"]))
    text = SPECS[kind].replace('"zoo"', '"farm"').replace('name="sightings"', 'name="tracks"')
    tree.write(FILES[kind], with_field(text, name, value))
    catalog = tree.catalog()
    assert Cell("weight", "GB") in catalog.fleet("zoo").cells()
    assert "sightings" in catalog.sources
    for specs in catalog.fleets.values():
        assert is_schedule(specs.fleet.schedule)
        assert is_count(specs.fleet.workers, 1)
        assert all(isinstance(part, str) for cell in specs.cells() for part in cell)
