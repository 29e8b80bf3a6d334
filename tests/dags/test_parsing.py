"""What Airflow makes of the DAG files: which DAGs, at what cost, with which form."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

from perennial.catalog import load_catalog

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))
HEAVY = ("pandas", "sklearn", "great_expectations", "skops", "boto3", "psycopg2", "pyarrow", "numpy")
SECONDS = 0.5


@pytest.fixture(scope="module")
def bag():
    return DagBag()


def test_every_dag_file_can_be_imported(bag):
    assert bag.import_errors == {}


def test_there_are_two_dags_per_source_and_one_per_fleet_and_two_keep_house(bag):
    catalog = load_catalog()
    expected = {f"ingest_{name}" for name in catalog.sources} | {f"retrain_{name}" for name in catalog.fleets}
    expected |= {f"quarantine_{name}" for name in catalog.sources}
    assert set(bag.dags) == expected | {"compact", "maintain"}
    assert {"ingest_order_lines", "retrain_shop", "ingest_trips", "retrain_ride_hailing"} <= expected


def test_every_dag_has_an_owner_tags_and_the_operators_page(bag):
    for dag in bag.dags.values():
        assert "perennial" in dag.tags
        assert "airflow" not in dag.owner
        assert "Running it again" in dag.doc_md


def test_every_dag_says_in_a_list_of_dags_what_it_does_and_whose_it_is(bag):
    for dag in bag.dags.values():
        kind, _, of = dag.dag_id.partition("_")
        assert of in dag.description if of else "Perennial" in dag.description
        assert dag.dag_display_name == (dag.dag_id if of else f"perennial: {kind}")


def test_every_task_retries(bag):
    retries = {(dag.dag_id.split("_")[0], task.task_id): task.retries for dag in bag.dags.values() for task in dag.tasks}
    assert {name for name, number in retries.items() if number == 0} == set()


def test_every_task_has_a_time_limit_but_the_training_whose_cells_have_theirs(bag):
    unlimited = {(dag.dag_id.split("_")[0], task.task_id) for dag in bag.dags.values() for task in dag.tasks
                 if task.execution_timeout is None}  # fmt: skip
    assert unlimited == {("retrain", "train")}


def test_no_dag_catches_up(bag):
    assert [dag.dag_id for dag in bag.dags.values() if dag.catchup] == []


def test_a_fleet_is_woken_by_its_sources_and_by_the_clock(bag):
    for name, specs in load_catalog().fleets.items():
        timetable = bag.dags[f"retrain_{name}"].timetable
        woken_by = {asset.uri for asset in assets_of(timetable.asset_condition)}
        assert woken_by == {f"perennial://sources/{source}" for source in specs.sources}


def assets_of(condition):
    return [condition] if hasattr(condition, "uri") else [asset for part in condition.objects for asset in assets_of(part)]


def test_the_asset_that_ingest_emits_is_the_one_that_wakes_the_fleet(bag):
    emitted = {asset.uri for dag in bag.dags.values() for task in dag.tasks for asset in task.outlets}
    catalog = load_catalog()
    sources = {f"perennial://sources/{name}" for name in catalog.sources}
    assert emitted == sources | {f"perennial://fleets/{name}" for name in catalog.fleets}


def test_the_trigger_form_offers_the_fleets_models_and_countries(bag):
    for name, specs in load_catalog().fleets.items():
        params = bag.dags[f"retrain_{name}"].params
        cells = specs.cells()
        assert params.get_param("models").schema["items"]["enum"] == sorted({cell.model for cell in cells})
        assert params.get_param("countries").schema["items"]["enum"] == sorted({cell.country for cell in cells})
        assert (params["force"], params["dry_run"]) == (False, False)


def test_a_quarantine_is_asked_by_hand_alone_and_offers_its_sources_countries(bag):
    for name, source in load_catalog().sources.items():
        dag = bag.dags[f"quarantine_{name}"]
        assert (dag.timetable.can_be_scheduled, dag.is_paused_upon_creation) == (False, False)
        assert dag.params.get_param("country").schema["enum"] == [None, *sorted({*source.countries.values(), "ZZ"})]
        assert (dag.params["action"], dag.params["batch"], dag.params["reason"]) == ("look", None, None)


def test_two_parses_give_the_same_dags(bag):
    again = DagBag()
    for dag_id, dag in bag.dags.items():
        assert DagSerialization.to_dict(dag) == DagSerialization.to_dict(again.dags[dag_id])


def test_two_processes_give_the_same_version_of_each_dag():
    code = (
        "from airflow.dag_processing.dagbag import DagBag\n"
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        "from airflow.models.serialized_dag import SerializedDagModel\n"
        "dags = DagBag().dags.items()\n"
        "print('HASHES', sorted((name, SerializedDagModel.hash(DagSerialization.to_dict(dag))) for name, dag in dags))\n"
    )
    hashes = [_last_line(code, seed) for seed in ("1", "2")]
    assert hashes[0] == hashes[1]
    assert hashes[0].startswith("HASHES [('compact'")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_parsing_a_file_is_quick_and_imports_nothing_heavy(file):
    code = (
        "import runpy, sys, time\n"
        "import airflow.sdk\n"
        "from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable, Connection, Param, dag, task\n"
        "started = time.process_time()\n"
        f"runpy.run_path({str(file)!r})\n"
        "seconds = time.process_time() - started\n"
        f"print(seconds, [name for name in {HEAVY} if name in sys.modules])\n"
    )
    seconds, heavy = _last_line(code).split(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < SECONDS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_parsing_a_file_asks_for_no_connection_and_no_variable(file):
    code = (
        "import runpy\n"
        "from airflow.sdk import Connection, Variable\n"
        "asked = []\n"
        "def ask(name, *_, **__):\n"
        "    asked.append(name)\n"
        "    raise LookupError(name)\n"
        "Connection.get = Variable.get = ask\n"
        "try:\n"
        f"    runpy.run_path({str(file)!r})\n"
        "finally:\n"
        "    print('ASKED', asked)\n"
    )
    assert _last_line(code) == "ASKED []"


def _last_line(code, seed="0"):
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().splitlines()[-1]


def test_the_plugins_folder_loads_only_what_is_a_plugin():
    from airflow import plugins_manager

    ours = [plugin for plugin in plugins_manager._get_plugins()[0] if str(ROOT) in str(plugin.source)]
    assert plugins_manager.get_import_errors() == {}
    assert len({plugin.name for plugin in ours}) == len(ours)
    assert not [name for name in sys.modules if name.startswith(("plugins.perennial_airflow", "border", "dags."))]
