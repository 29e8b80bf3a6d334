"""From a table or a file that is there to a champion that a service reads, by the verbs alone, with specs kept elsewhere."""

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg2
import pytest
from psycopg2.extras import execute_values

from perennial.__main__ import main
from perennial.authoring import environment_resources, new_source
from perennial.catalog import load_catalog
from perennial.client import Champions
from perennial.errors import RequestError, SourceError
from perennial.proposal import Wanted
from perennial.shell.database import connect, fetch
from perennial.steps import ingest, validate
from perennial.steps.plan import Request, plan
from perennial.steps.report import report
from perennial.steps.train import train

NUMBERS = itertools.count()
DAYS, PER_DAY = 60, 20
TABLE = """
CREATE TABLE orders (
    order_no bigint PRIMARY KEY, placed_at timestamptz NOT NULL, country text NOT NULL, pieces integer,
    total numeric(10,2), channel text, extras jsonb, updated_at timestamptz NOT NULL DEFAULT now())
"""


def orders():
    """Orders of two countries, whose total is five times their pieces and some noise."""
    random = np.random.default_rng(0)
    number = DAYS * PER_DAY
    pieces = random.integers(1, 50, number)
    return pd.DataFrame(
        {
            "order_no": range(1, number + 1),
            "placed_at": pd.date_range("2026-01-01", periods=number, freq="72min", tz="UTC"),
            "country": ["United Kingdom", "Norway"] * (number // 2),
            "pieces": pieces,
            "total": (5 * pieces + random.normal(0, 2, number)).round(2),
            "channel": ["web", "shop", "phone"] * (number // 3),
        }
    )


@pytest.fixture
def own(tmp_path, monkeypatch, new_database, keys):
    """Empty packages of one's own specs outside of this tree, and an environment as `make` gives it; their folder."""
    number = next(NUMBERS)
    models, sources = f"own_models_{number}", f"own_sources_{number}"
    for package in (models, sources):
        (tmp_path / package).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in {
        "PERENNIAL_MODELS": models,
        "PERENNIAL_SOURCES": sources,
        "PERENNIAL_DATABASE_URL": new_database(),
        "PERENNIAL_STORE_URL": (tmp_path / "store").as_uri(),
        "PERENNIAL_SIGNING_KEY": str(keys[0]),
        "PERENNIAL_PUBLIC_KEYS": str(keys[1]),
        "AIRFLOW_CONN_ORDERS_DB": new_database(None),  # a URI, whose socket's folder is an option
        "AIRFLOW_CONN_DROP": (tmp_path / "drop").as_uri(),
    }.items():
        monkeypatch.setenv(name, value)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


@pytest.fixture
def table(own):
    """The orders in a table."""
    database = psycopg2.connect(os.environ["AIRFLOW_CONN_ORDERS_DB"])
    with database, database.cursor() as cursor:
        cursor.execute(TABLE)
        rows = orders().astype(object).to_numpy().tolist()
        cursor.execute("ALTER TABLE orders ALTER updated_at SET DEFAULT now() - interval '1 hour'")  # beyond any commit lag
        execute_values(cursor, "INSERT INTO orders (order_no, placed_at, country, pieces, total, channel) VALUES %s", rows)
    database.close()


@pytest.fixture
def file(own):
    """The orders in a file; its key."""
    (own / "drop" / "orders").mkdir(parents=True)
    rows = orders()
    rows["placed_at"] = rows["placed_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    rows.to_csv(own / "drop" / "orders" / "2026.csv", index=False)
    os.utime(own / "drop" / "orders" / "2026.csv", (1e9, 1e9))  # it has lain still for long
    return "orders/2026.csv"


def say(*words):
    """A verb, as it is typed; its exit code."""
    return main([*words])


def take_in():
    """Ingest all that the specs name."""
    for source in load_catalog().sources.values():
        ingest.land(environment_resources(), source)
        validate.validate(environment_resources(), source)


def retrain(run_id="mine/1"):
    """Retrain the fleet; the outcomes by cell."""
    resources, catalog = environment_resources(), load_catalog()
    plan(resources, catalog, "mine", run_id, Request())
    train(resources, catalog, run_id)
    report(resources, catalog, run_id)
    database = connect(resources.database)
    found = fetch(database, "outcomes_of", run_id=run_id)
    database.close()
    return {f"{row.model}/{row.country}": row for row in found}


def reads(own, keys, country):
    """The size of the error of a service that reads the champion."""
    champion = Champions.from_url((own / "store").as_uri(), keys[1]).load("total", country)
    rows = orders().assign(hour_of_event=0.0, weekday_of_event=0.0)
    features = rows.assign(pieces=rows["pieces"].astype(float), order_no=rows["order_no"].astype(float))
    return float(np.sqrt(np.mean((champion.predict(features) - rows["total"]) ** 2)))


@pytest.mark.parametrize("kind", ["table", "file"])
def test_from_what_is_there_to_a_champion_that_a_service_reads(kind, own, keys, request, capsys):
    key = request.getfixturevalue(kind)
    made = new_source("orders", "orders_db" if kind == "table" else "drop", "" if key else "orders", key or "", Wanted())
    assert "make new-model" in made
    assert say("check-models") == 0
    assert say("new-model", "--fleet", "mine", "--name", "total", "--source", "orders", "--target", "total") == 0
    assert say("check-models") == 0
    take_in()
    capsys.readouterr()
    assert say("try", "--model", "total", "--country", "NO") == 0
    assert "total/NO: Dry run: promote. First model" in capsys.readouterr().out
    outcomes = retrain()
    assert {name: row.state for name, row in outcomes.items()} == {"total/GB": "published", "total/NO": "published"}
    assert outcomes["total/NO"].champion_seq is None  # whoever only tries publishes nothing
    assert reads(own, keys, "GB") < 6


def test_what_was_guessed_is_said_in_the_spec_and_the_rest_is_left_out_by_name(own, table):
    new_source("orders", "orders_db", "orders", "", Wanted())
    (path,) = own.glob("own_sources_*/orders.py")
    text = path.read_text()
    for part in (
        'key=("order_no",),  # The table\'s own.',
        '"Norway": "NO"',
        "# left out: extras (jsonb)",
        'changed_at="updated_at"',
    ):
        assert part in text
    source = load_catalog().source("orders")
    columns = {column.name: column for column in source.columns}
    assert (columns["total"].type, columns["pieces"].type, columns["channel"].is_category) == ("float64", "int64", True)
    assert (columns["placed_at"].nullable, columns["pieces"].nullable) == (False, True)


def test_nothing_is_written_over(own, table):
    new_source("orders", "orders_db", "orders", "", Wanted())
    with pytest.raises(RequestError, match=r"orders\.py exists already"):
        new_source("orders", "orders_db", "orders", "", Wanted())
    assert say("new-model", "--fleet", "mine", "--name", "total", "--source", "orders") == 0
    (path,) = own.glob("own_models_*/mine/total.py")
    path.write_text("mine = 1\n")
    assert say("new-model", "--fleet", "mine", "--name", "total", "--source", "orders") == 1
    assert path.read_text() == "mine = 1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--fleet", "mine", "--name", "total", "--source", "nowhere"),
            "There is no healthy source 'nowhere'. There are: orders.",
        ),
        (("--fleet", "mine", "--name", "Total", "--source", "orders"), "'Total' is no model name"),
        (("--fleet", "my fleet", "--name", "total", "--source", "orders"), "'my fleet' is no fleet name"),
        (("--fleet", "mine", "--name", "total", "--source", "orders", "--target", "x"), "has no column 'x'. It has: order_no"),
    ],
)
def test_a_new_model_that_cannot_be_is_refused_by_name_and_nothing_is_made(own, table, capsys, words, said):
    new_source("orders", "orders_db", "orders", "", Wanted())
    assert say("new-model", *words) == 1
    assert said in capsys.readouterr().err
    assert list(own.glob("own_models_*/*")) == []


@pytest.mark.parametrize(
    ("name", "table_name", "file_key", "said"),
    [
        ("orders", "nowhere", "", "There is no table nowhere"),
        ("orders", "elsewhere.orders", "", "There is no table elsewhere.orders"),
        ("Orders", "orders", "", "'Orders' is no source name"),
        ("orders", "orders", "orders/a.csv", "Say TABLE=…"),
        ("orders", "", "", "Say TABLE=…"),
    ],
)
def test_a_new_source_that_cannot_be_is_refused_by_name(own, table, name, table_name, file_key, said):
    with pytest.raises(RequestError, match=said):
        new_source(name, "orders_db", table_name, file_key, Wanted())
    assert list(own.glob("own_sources_*/*.py")) == []


def test_a_connection_that_leads_nowhere_is_named(own, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ORDERS_DB", "postgresql://ada:secret@127.0.0.1:1/nowhere?connect_timeout=2")
    with pytest.raises(SourceError, match="Connection orders_db does not lead to a database") as refused:
        new_source("orders", "orders_db", "orders", "", Wanted())
    assert "secret" not in str(refused.value)


def test_an_empty_table_tells_nothing_of_its_columns(own, table):
    database = psycopg2.connect(os.environ["AIRFLOW_CONN_ORDERS_DB"])
    with database, database.cursor() as cursor:
        cursor.execute("TRUNCATE orders")
    database.close()
    with pytest.raises(RequestError, match="Table orders is empty"):
        new_source("orders", "orders_db", "orders", "", Wanted())


def test_a_superseded_recipe_is_frozen_beside_its_own_fleet(own, table, capsys):
    new_source("orders", "orders_db", "orders", "", Wanted())
    say("new-model", "--fleet", "mine", "--name", "total", "--source", "orders", "--target", "total")
    take_in()
    retrain()
    capsys.readouterr()
    assert say("freeze") == 0
    assert capsys.readouterr().out == "Nothing to freeze.\n"
    (path,) = own.glob("own_models_*/mine/total.py")
    path.write_text(path.read_text().replace("max_iter=60", "max_iter=61"))
    for name in [name for name in sys.modules if name.startswith("own_models")]:
        del sys.modules[name]
    assert say("check-models") == 1
    assert "make freeze" in capsys.readouterr().err
    assert say("freeze") == 0
    (frozen,) = own.glob("own_models_*/mine/_past/r_*.py")
    assert str(frozen) in capsys.readouterr().out
    assert "max_iter=60" in frozen.read_text()
    assert say("check-models") == 0


def test_a_cell_cannot_be_tried_before_anything_is_ingested(own, table, capsys):
    new_source("orders", "orders_db", "orders", "", Wanted())
    say("new-model", "--fleet", "mine", "--name", "total", "--source", "orders")
    assert say("try", "--model", "total", "--country", "GB") == 1
    assert "no accepted rows yet. Run `make run FLEET=mine` first" in capsys.readouterr().err
    assert say("try", "--model", "other", "--country", "GB") == 1
    assert "There is no model 'other'. There are: total." in capsys.readouterr().err


def test_specs_of_this_tree_are_not_touched():
    assert not list(Path(__file__).parents[2].glob("include/*/mine"))
