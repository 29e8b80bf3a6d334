"""One's own fleet in the real stack, as a new user goes about it: a CSV file and a table that it has never seen.

All is typed as in the README, in specs outside of this tree and a state folder of its own.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg2
import pytest
from psycopg2.extras import execute_values

from embedded.postgres import Postgres
from perennial.client import Champions
from scratch import server_folder

REPO = Path(__file__).parents[2]
READINGS = """
CREATE TABLE readings (
    reading_id bigint PRIMARY KEY, read_at timestamptz NOT NULL, region text NOT NULL, load float8, price float8,
    updated_at timestamptz NOT NULL DEFAULT now())
"""


@dataclass(frozen=True)
class User:
    """Somebody with a folder and a database of their own."""

    folder: Path
    environment: dict[str, str]

    def types(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command beside the environment of `make`."""
        command, environment = [sys.executable, "-m", *words], {**self.environment, **more}
        return subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, check=False)

    def does(self, *words: str, **more: str) -> str:
        """A command that has to succeed; what it prints."""
        ended = self.types(*words, **more)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


def measures() -> pd.DataFrame:
    """Hourly measures of two regions over two months; the price is three times the load, and some noise."""
    random = np.random.default_rng(0)
    number = 2 * 24 * 60
    load = random.uniform(10, 90, number)
    read_at = pd.date_range("2026-01-01", periods=number, freq="30min", tz="UTC")
    price = 3 * load + random.normal(0, 5, number)
    return pd.DataFrame(
        {"reading_id": range(number), "read_at": read_at, "region": ["NO", "SE"] * (number // 2), "load": load, "price": price}
    )


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """The user's own PostgreSQL."""
    folder = server_folder("perennial-own-")
    running = Postgres(folder / "data", folder / "postgres.log")
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def user(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> User:
    folder = tmp_path_factory.mktemp("own")
    for name in ("own_models", "own_sources", "data/visits"):
        (folder / name).mkdir(parents=True)
    rows = measures()
    as_text = rows.assign(read_at=rows["read_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    as_text.rename(columns={"reading_id": "visit_id"}).to_csv(folder / "data/visits/2026.csv", index=False)
    with psycopg2.connect(server.dsn("postgres")) as database, database.cursor() as cursor:
        cursor.execute(READINGS)
        execute_values(cursor, "INSERT INTO readings VALUES %s", rows.astype(object).to_numpy().tolist(), "(%s,%s,%s,%s,%s)")
    database.close()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERENNIAL_", "AIRFLOW"))}
    own = {
        "PERENNIAL_STATE": str(folder / "state"),
        "PERENNIAL_CONNECTIONS": str(folder / "connections.json"),
        "PERENNIAL_MODELS": "own_models",
        "PERENNIAL_SOURCES": "own_sources",
        "PYTHONPATH": os.pathsep.join((str(REPO / "include"), str(REPO / "plugins"), str(folder))),
    }
    return User(folder, {**kept, **own})


@pytest.fixture(scope="module")
def ran(user: User, server: Postgres) -> str:
    """What `make run` prints after the specs were written."""
    grid = {"AIRFLOW_CONN_GRID_DB": server.dsn("postgres")}
    user.does("embedded", "new-source", "--name", "visits", "--file", str(user.folder / "data/visits/2026.csv"))
    user.does("embedded", "new-source", "--name", "readings", "--connection", "grid_db", "--table", "readings", **grid)
    for name, source in (("visit_price", "visits"), ("grid_price", "readings")):
        words = ("--fleet", "mine", "--name", name, "--source", source, "--target", "price")
        user.does("perennial", "new-model", *words)
    user.does("perennial", "check-models")
    return user.does("embedded", "run", "--fleet", "mine", "--stay", "0", **grid)


def test_from_a_file_and_a_table_to_champions_that_a_service_reads(ran, user):
    state = user.folder / "state"
    champions = Champions.from_url((state / "store").as_uri(), state / "keys" / "public.pem")
    for model in ("visit_price", "grid_price"):
        for country in ("NO", "SE"):
            champion = champions.load(model, country)
            features = pd.DataFrame({name: [50.0] for name, _ in champion.schema})
            assert champion.predict(features)[0] == pytest.approx(150, abs=20)


def test_the_manuals_reader_reads_it(ran, user, capsys):
    page = (REPO / "docs" / "own-fleet.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    text = textwrap.dedent(block).replace(".state", str(user.folder / "state"))
    exec(compile(text.replace("temperature", "visit_price").replace("JFK", "NO"), "docs/own-fleet.md", "exec"), {})  # noqa: S102
    assert "('load', 'float64')" in capsys.readouterr().out


def test_each_cell_is_shown_with_its_reason(ran):
    for cell in ("visit_price/NO", "visit_price/SE", "grid_price/NO", "grid_price/SE"):
        assert cell in ran
    assert "First model: rmse" in ran
    assert "from the start of ingest" in ran


def test_the_connection_to_ones_own_files_is_kept_in_the_small_file(ran, user):
    assert json.loads((user.folder / "connections.json").read_text()) == {"visits_files": (user.folder / "data").as_uri()}


def test_a_missing_connection_is_named_with_what_to_do_before_anything_starts(ran, user):
    ended = user.types("embedded", "run", "--fleet", "mine", "--stay", "0", PERENNIAL_STATE=str(user.folder / "elsewhere"))
    assert ended.returncode == 2
    assert "There is no Connection grid_db. Set AIRFLOW_CONN_GRID_DB, or add it to connections.json" in unwrapped(ended)
    assert not (user.folder / "elsewhere" / "postgres").exists()


def test_a_second_run_asks_what_is_due_and_a_cell_can_be_tried(ran, user, server):
    grid = {"AIRFLOW_CONN_GRID_DB": server.dsn("postgres")}
    again = user.does("embedded", "run", "--fleet", "mine", "--stay", "0", **grid)
    assert "nothing new was accepted" in again
    tried = user.does(
        "embedded", "exec", "--", sys.executable, "-m", "perennial", "try", "--model", "visit_price", "--country", "NO"
    )
    assert "visit_price/NO: " in tried


def unwrapped(ended: Any) -> str:
    return " ".join((ended.stdout + ended.stderr).split())
