"""How specs are found, and how wrong ones are refused without hiding the others."""

import pytest
from trees import FLEET, MODEL, SOURCE

from perennial.cell import Cell
from perennial.errors import RequestError, SpecError


def faults_of(catalog):
    return [str(fault) for fault in catalog.all_faults()]


def test_the_matrix_of_a_healthy_tree_is_models_by_countries(tree):
    specs = tree.catalog().fleet("zoo")
    assert specs.cells() == [Cell("weight", "GB"), Cell("weight", "FR"), Cell("weight", "DE")]
    assert specs.sources == ("sightings",)
    assert tree.catalog().all_faults() == ()


def test_a_fault_says_file_line_what_and_fix(tree):
    path = tree.model(MODEL.replace('"rmse"', '"accuracy"'))
    line = MODEL.splitlines().index("weight = Model(") + 1
    assert faults_of(tree.catalog()) == [f"{path}:{line}: unknown metric 'accuracy'. Use one of rmse, mae, log_loss, brier."]


def test_all_faults_of_all_files_are_said_at_once(tree):
    tree.model(MODEL.replace('"rmse"', '"accuracy"').replace("Days(60)", "60").replace("zoo.countries", '("ES",)'))
    tree.model(MODEL.replace('"weight"', '"height"').replace('"sightings"', '"hearings"'), "height")
    tree.write("sources/tracks.py", SOURCE.replace('"sightings"', '"Tracks"'))
    assert len(tree.catalog().all_faults()) == 5


def test_an_unknown_country_is_refused_with_those_of_the_fleet(tree):
    tree.model(MODEL.replace("zoo.countries", '("GB", "ES")'))
    (fault,) = tree.catalog().all_faults()
    assert fault.what == "fleet zoo has no country ES"
    assert "GB, FR, DE" in fault.fix


def test_an_unknown_source_is_refused_with_those_there_are(tree):
    tree.model(MODEL.replace('source="sightings"', 'source="hearings"'))
    (fault,) = tree.catalog().all_faults()
    assert fault.what == "there is no healthy source 'hearings'"
    assert "sightings" in fault.fix


def test_a_column_that_the_source_lacks_is_refused(tree):
    tree.model(MODEL.replace("cadence=", 'columns=("weight", "colour"), cadence='))
    assert [fault.what for fault in tree.catalog().all_faults()] == ["source sightings has no column colour"]


def test_a_model_of_a_wrong_source_is_refused_too(tree):
    tree.write("sources/sightings.py", SOURCE.replace('key=("id",)', "key=()"))
    whats = [fault.what for fault in tree.catalog().all_faults()]
    assert whats == ["key is empty", "there is no healthy source 'sightings'"]


def test_a_model_name_used_by_two_fleets_is_refused_in_both(tree):
    tree.write("models/farm/__init__.py", FLEET.replace('"zoo"', '"farm"'))
    tree.write("models/farm/weight.py", MODEL)
    catalog = tree.catalog()
    assert [list(catalog.fleet(fleet).refused) for fleet in ("farm", "zoo")] == [["weight"], ["weight"]]
    assert {fault.what for fault in catalog.all_faults()} == {"the name 'weight' is used by two fleets"}


def test_a_model_name_used_by_two_files_of_a_fleet_is_refused(tree):
    tree.model(name="copy")
    specs = tree.catalog().fleet("zoo")
    assert specs.models == {}
    assert len(specs.refused["weight"].faults) == 2
    assert len(specs.cells()) == 3


def test_a_model_imported_by_another_file_is_still_one_model(tree):
    tree.model("from toy_models.zoo.weight import weight\n", "other")
    assert tree.catalog().all_faults() == ()


def test_a_source_name_used_twice_is_a_fault(tree):
    tree.write("sources/tracks.py", SOURCE)
    assert [fault.what for fault in tree.catalog().all_faults()] == ["the name 'sightings' is used by two sources"]


def test_a_fleet_name_used_twice_is_a_fault(tree):
    tree.write("models/zoo_two/__init__.py", FLEET)
    assert [fault.what for fault in tree.catalog().all_faults()] == ["the name 'zoo' is used by two fleets"]
    assert list(tree.catalog().fleet("zoo").models) == ["weight"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("x = 1\ndef broken(:\n", 2, "SyntaxError"),
        ("from perennial import Model\n\nModel(nmae='height')\n", 3, "TypeError"),
        ("import no_such_library\n", 1, "ModuleNotFoundError"),
        ("\n\n1 / 0\n", 3, "ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_and_the_others_stay(tree, text, line, what):
    path = tree.model(text, "height")
    specs = tree.catalog().fleet("zoo")
    (fault,) = specs.refused["height"].faults
    assert fault.where == f"{path}:{line}"
    assert what in fault.what
    assert list(specs.models) == ["weight"]
    assert Cell("height", "DE") in specs.cells()


@pytest.mark.parametrize(
    "change",
    [
        ("countries=zoo.countries", "countries=None"),
        ("countries=zoo.countries", "countries='GB'"),
        ("metric=", "attempts='two', metric="),
        ("metric=", "columns=None, metric="),
    ],
)
def test_a_model_of_wrong_types_is_refused_and_the_catalog_still_loads(tree, change):
    tree.model(MODEL.replace('name="weight"', 'name="height"').replace(*change), "height")
    specs = tree.catalog().fleet("zoo")
    assert list(specs.models)[-1] == "weight"
    assert all(cell.country in specs.fleet.countries for cell in specs.cells())


def test_a_source_of_wrong_types_is_refused_and_the_catalog_still_loads(tree):
    tree.write(
        "sources/tracks.py",
        SOURCE.replace('name="sightings"', 'name="tracks"')
        .replace("countries={", "key=7, countries={")
        .replace('key=("id",),', ""),
    )
    catalog = tree.catalog()
    assert list(catalog.sources) == ["sightings"]
    assert "tracks.py" in catalog.faults[0].where


def test_a_source_that_cannot_be_imported_leaves_the_others(tree):
    path = tree.write("sources/tracks.py", "import\n")
    catalog = tree.catalog()
    assert list(catalog.sources) == ["sightings"]
    assert catalog.faults[0].where == f"{path}:1"


@pytest.mark.parametrize("text", ["", FLEET + "two = Fleet(name='two', owner=Owner('a'), countries=('GB',))\n", "import\n"])
def test_a_folder_that_does_not_declare_one_fleet_leaves_the_others(tree, text):
    tree.write("models/farm/__init__.py", text)
    catalog = tree.catalog()
    assert list(catalog.fleets) == ["zoo"]
    assert "farm" in catalog.faults[0].what


@pytest.mark.parametrize("change", [('"zoo"', '"my farm!"'), ('Owner("keepers")', '"keepers"'), ('("GB", "FR", "DE")', "None")])
def test_a_fleet_that_no_dag_can_be_made_of_leaves_the_others(tree, change):
    tree.write("models/farm/__init__.py", FLEET.replace(*change).replace('"zoo"', '"farm"'))
    catalog = tree.catalog()
    assert list(catalog.fleets) == ["zoo"]
    assert "farm" in catalog.faults[0].where


def test_a_fleet_of_a_wrong_limit_is_a_fault_and_its_models_run_on(tree):
    tree.write("models/zoo/__init__.py", FLEET.replace("workers=2", "workers=2, failure_limit=10"))
    catalog = tree.catalog()
    assert [fault.what for fault in catalog.all_faults()] == ["failure_limit is not in [0, 1]"]
    assert list(catalog.fleet("zoo").models) == ["weight"]


def test_frozen_recipes_are_no_models(tree):
    tree.write("models/zoo/_past/r_0.py", "import\n")
    assert tree.catalog().all_faults() == ()


def test_what_does_not_exist_is_refused_with_what_does(tree):
    catalog = tree.catalog()
    for ask, known in ((catalog.fleet, "zoo"), (catalog.source, "sightings"), (catalog.fleet("zoo").model, "weight")):
        with pytest.raises(RequestError, match=known):
            ask("nothing")


def test_asking_for_a_refused_model_says_its_faults(tree):
    tree.model(MODEL.replace('"rmse"', '"accuracy"'))
    with pytest.raises(SpecError, match="unknown metric 'accuracy'"):
        tree.catalog().fleet("zoo").model("weight")
