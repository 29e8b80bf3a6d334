"""Connections given by environment or a small file: how they are read, and what is said where one is missing."""

import json

import pytest
from psycopg2.extensions import parse_dsn

from embedded import connections
from embedded.errors import ConnectionsError
from perennial.authoring import source_dsn, source_store
from perennial.connections import connection_of, dsn_of, missing, read_connection, store_of
from perennial.errors import RequestError, SettingsError
from perennial.settings import spec_folder


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """The file of Connections, which is not there yet."""
    path = tmp_path / "connections.json"
    monkeypatch.setenv("PERENNIAL_CONNECTIONS", str(path))
    return path


def test_a_uri_and_its_json_are_the_same_connection():
    uri = read_connection("c", "postgresql://ada:p%40ss%2F%3A%23@db.example.com:5433/my%20db?sslmode=require")
    facts = {"conn_type": "postgres", "host": "db.example.com", "login": "ada", "password": "p@ss/:#", "port": 5433}
    as_json = json.dumps({**facts, "schema": "my db", "extra": {"sslmode": "require"}})
    assert read_connection("c", as_json) == uri
    assert "sslmode=require" in dsn_of(uri)


@pytest.mark.parametrize(
    "text", ["secret", "{secret", '{"conn_type": 5, "password": "secret"}', "postgresql://u:secret@h:no/d"]
)
def test_what_is_no_connection_is_refused_without_being_shown(text):
    with pytest.raises(SettingsError, match="Connection drop is neither a URI") as refused:
        read_connection("drop", text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "url", "options"),
    [
        ("file:///data/drop", "file:///data/drop", {}),
        ("s3://bucket/some/prefix", "s3://bucket/some/prefix", {}),
        (
            "s3://key:se%2Fcret@bucket?region_name=eu-west-1",
            "s3://bucket/",
            {"aws_access_key_id": "key", "aws_secret_access_key": "se/cret", "region_name": "eu-west-1"},
        ),
        ('{"conn_type": "generic", "extra": {"url": "s3://b", "region_name": "r"}}', "s3://b", {"region_name": "r"}),
    ],
)
def test_a_store_is_its_own_uri_or_an_extra(text, url, options):
    assert store_of(read_connection("c", text)) == (url, options)


def test_a_missing_connection_names_the_variable_the_file_and_an_example():
    with pytest.raises(SettingsError, match=r"There is no Connection orders_db\. Set AIRFLOW_CONN_ORDERS_DB, or add it"):
        connection_of("orders_db", {})
    assert "There are no Connections a, b. Set AIRFLOW_CONN_A, AIRFLOW_CONN_B" in missing(["a", "b"])


def test_outside_of_airflow_a_source_is_reached_by_its_connection_or_by_its_own_variable(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ORDERS_DB", "postgresql://ada@h/d")
    monkeypatch.setenv("AIRFLOW_CONN_DROP", "file:///data")
    assert parse_dsn(source_dsn("orders_db")) == {"user": "ada", "dbname": "d", "host": "h"}
    assert source_store("drop").url == "file:///data"
    monkeypatch.setenv("PERENNIAL_SOURCE_ORDERS_DB", "dbname=mine")
    monkeypatch.setenv("PERENNIAL_SOURCE_DROP", "file:///elsewhere")
    assert source_dsn("orders_db") == "dbname=mine"
    assert source_store("drop").url == "file:///elsewhere"


def test_the_file_gives_connections_and_the_environment_goes_before_it(file):
    file.write_text(json.dumps({"drop": "file:///a", "orders_db": {"conn_type": "postgres", "host": "h"}}))
    found = connections.given({"AIRFLOW_CONN_DROP": "file:///b", "AIRFLOW_CONN_EMPTY": "", "HOME": "/root"})
    assert found["AIRFLOW_CONN_DROP"] == "file:///b"
    assert connection_of("orders_db", found).host == "h"
    assert set(found) == {"AIRFLOW_CONN_DROP", "AIRFLOW_CONN_ORDERS_DB"}


@pytest.mark.parametrize(("text", "said"), [("{", "is no JSON"), ("[]", "is no object of names")])
def test_a_file_that_cannot_be_read_is_named(file, text, said):
    file.write_text(text)
    with pytest.raises(ConnectionsError, match=f"connections.json {said}"):
        connections.given({})


def test_what_is_remembered_is_for_its_owner_alone_and_keeps_the_others(file):
    connections.remember("a", "file:///a")
    connections.remember("b", "file:///b")
    assert json.loads(file.read_text()) == {"a": "file:///a", "b": "file:///b"}
    assert file.stat().st_mode & 0o777 == 0o600


def test_all_that_is_missing_is_said_at_once_with_the_file(file):
    with pytest.raises(ConnectionsError, match=r"There are no Connections a, c\. .*connections\.json\.$"):
        connections.refuse_missing(["a", "b", "c"], ["AIRFLOW_CONN_B"])
    connections.refuse_missing(["b"], ["AIRFLOW_CONN_B"])


def test_a_file_of_this_machine_gets_a_connection_to_the_folder_above_its_own(file, tmp_path):
    (tmp_path / "orders").mkdir()
    path = tmp_path / "orders" / "may.csv"
    path.touch()
    assert connections.reached("orders", str(path), "") == ("orders_files", "orders/may.csv")
    assert json.loads(file.read_text()) == {"orders_files": tmp_path.as_uri()}


def test_a_file_outside_of_its_connections_folder_is_refused(file, tmp_path):
    connections.remember("drop", (tmp_path / "drop").as_uri())
    (tmp_path / "may.csv").touch()
    with pytest.raises(RequestError, match=r"may\.csv does not lie below file:.*/drop, where Connection drop leads"):
        connections.reached("orders", str(tmp_path / "may.csv"), "drop")


def test_a_key_of_a_store_needs_a_connection():
    assert connections.reached("orders", "orders/may.csv", "drop") == ("drop", "orders/may.csv")
    with pytest.raises(RequestError, match=r"There is no file orders/may\.csv on this machine\. .* CONNECTION=…"):
        connections.reached("orders", "orders/may.csv", "")
    with pytest.raises(RequestError, match=r"Say CONNECTION=… of the table's database"):
        connections.reached("orders", "", "")


def test_new_specs_go_where_the_packages_of_specs_are(tmp_path, monkeypatch):
    (tmp_path / "own_models").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert spec_folder("PERENNIAL_MODELS", "models", {"PERENNIAL_MODELS": "own_models"}) == tmp_path / "own_models"
    assert spec_folder("PERENNIAL_MODELS", "models", {}).name == "models"
