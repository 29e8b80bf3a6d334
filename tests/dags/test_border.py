"""The border: our errors as task states, Airflow's Connections as DSNs and store URLs."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import ANY

import psycopg2.extensions
import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from perennial.connections import read_connection
from perennial.decision import Decision
from perennial.errors import (
    ArtifactError,
    FleetFailed,
    NothingToDo,
    PerennialError,
    RegistryError,
    RequestError,
    SettingsError,
    SourceError,
    SourceMismatch,
    StoreError,
)  # fmt: skip
from perennial.steps.plan import Request
from perennial_airflow import border, history

LOGICAL_DATE = datetime(2011, 5, 1, tzinfo=UTC)


def cross(error):
    with border.task_states():
        raise error


def test_nothing_to_do_skips_with_its_message():
    with pytest.raises(AirflowSkipException, match="no new row"):
        cross(NothingToDo("Source s has no new row."))


@pytest.mark.parametrize("kind", [RequestError, SettingsError, SourceMismatch, FleetFailed])
def test_what_the_fleet_refuses_fails_without_a_retry(kind):
    with pytest.raises(AirflowFailException, match="because") as raised:
        cross(kind("because"))
    assert isinstance(raised.value.__cause__, kind)


@pytest.mark.parametrize("kind", [RegistryError, StoreError, SourceError, ArtifactError, PerennialError, ValueError, OSError])
def test_anything_else_bubbles_up_and_is_retried(kind):
    with pytest.raises(kind, match=r"^now$"):
        cross(kind("now"))


def test_a_step_gets_the_outside_world_first(world):
    resources, *rest = border.stepping(lambda *arguments, **keywords: (*arguments, keywords), 1, two=2)
    assert rest == [1, {"two": 2}]
    assert resources.store.url.startswith("file:///")
    assert resources.source_dsn("zoo_db") == ANY
    assert resources.source_store("perennial_store").url == resources.store.url
    assert psycopg2.extensions.parse_dsn(resources.database)["dbname"] == "perennial"


def dsn(**facts):
    return border.dsn_of(Connection(conn_id="c", conn_type="postgres", **facts))


def parsed(**facts):
    return psycopg2.extensions.parse_dsn(dsn(**facts))


def test_a_dsn_of_a_tcp_host():
    found = parsed(login="ada", password="p@ss:/?#%", host="db.example.com", port=5433, schema="perennial")
    assert found == {
        "user": "ada", "password": "p@ss:/?#%", "host": "db.example.com", "port": "5433", "dbname": "perennial"
    }  # fmt: skip


def test_a_dsn_of_a_sockets_folder():
    found = parsed(login="postgres", host="/run/a folder", schema="zoo")
    assert found == {"user": "postgres", "host": "/run/a folder", "dbname": "zoo"}


def test_a_dsn_of_a_sockets_folder_keeps_the_port():
    assert parsed(login="postgres", host="/run/pg", port=5433, schema="zoo")["port"] == "5433"


def test_a_dsn_takes_libpqs_options_from_the_extra():
    found = parsed(login="a@b", host="h", schema="d", extra='{"sslmode": "require", "connect_timeout": 5}')
    assert (found["user"], found["sslmode"], found["connect_timeout"]) == ("a@b", "require", "5")


def test_a_dsn_of_an_ipv6_host():
    assert parsed(login="a", host="::1", port=5432, schema="d")["host"] == "::1"


def test_a_dsn_without_a_database_names_none():
    assert "dbname" not in parsed(login="a", host="h")


def test_a_database_with_a_special_name_is_quoted():
    assert parsed(login="a", host="h", schema="my db?")["dbname"] == "my db?"


GIVEN = [
    "postgresql://ada:p%40ss%2Fw@db.example.com:5433/my%20db?sslmode=require&connect_timeout=5",
    "postgres://postgres@/zoo?host=%2Frun%2Fa%20folder",
    "postgresql://postgres@/zoo?host=/run/pg",
    "file:///data/drop",
    "s3://key:se%2Fcret@bucket/some/prefix?region_name=eu-west-1",
    "generic://?__extra__=%7B%22url%22%3A%20%22s3%3A%2F%2Fb%22%2C%20%22deep%22%3A%20%7B%22a%22%3A%201%7D%7D",
    '{"conn_type": "postgres", "host": "h", "login": "ada", "password": "p", "port": 5433, "schema": "d"}',
    '{"conn_type": "generic", "extra": {"url": "s3://bucket", "region_name": "eu-west-1"}}',
    '{"conn_type": "postgresql", "host": "::1", "port": "5432", "extra": "{\\"sslmode\\": \\"require\\"}"}',
]


@pytest.mark.parametrize("text", GIVEN)
def test_a_connection_means_outside_of_airflow_what_it_means_within(text):
    ours = read_connection("c", text)
    theirs = Connection.from_json(text, conn_id="c") if text.startswith("{") else Connection.from_uri(text, conn_id="c")
    if ours.conn_type == "postgres":
        assert border.dsn_of(ours) == border.dsn_of(theirs)
    else:
        assert border.store_of(ours) == border.store_of(theirs)


def test_a_stores_own_uri_leads_to_it():
    assert border.store_of(Connection.from_uri("file:///data/drop", conn_id="c")) == ("file:///data/drop", {})
    url, options = border.store_of(Connection.from_uri("s3://bucket/prefix?region_name=r", conn_id="c"))
    assert (url, options) == ("s3://bucket/prefix", {"region_name": "r"})


def store(**facts):
    return border.store_of(Connection(conn_id="c", conn_type="aws", **facts))


def test_a_store_is_an_url_and_what_boto3_needs():
    url, options = store(
        login="key", password="secret", extra='{"url": "s3://models/shop", "endpoint_url": "http://s3:8333"}'
    )  # fmt: skip
    assert url == "s3://models/shop"
    assert options == {"endpoint_url": "http://s3:8333", "aws_access_key_id": "key", "aws_secret_access_key": "secret"}


def test_a_store_without_a_login_uses_the_machines_own_rights():
    assert store(extra='{"url": "file:///srv/store"}') == ("file:///srv/store", {})


def test_a_store_without_an_url_is_refused_by_name(world):
    world.patch.setenv("AIRFLOW_CONN_PERENNIAL_STORE", '{"conn_type": "aws"}')
    with pytest.raises(AirflowFailException, match="connection perennial_store"):
        border.stepping(lambda resources: resources)


def relay(**facts):
    return border.relay_of(Connection(conn_id="perennial_mail", conn_type="smtp", **facts))


def test_a_mail_relay_is_a_server_a_sender_and_its_security():
    extra = '{"from": "perennial@example.com", "security": "ssl"}'
    found = relay(host="smtp.example.com", port=465, login="ada", password="p@s/s", extra=extra)
    assert (found.host, found.port, found.login, found.password) == ("smtp.example.com", 465, "ada", "p@s/s")
    assert (found.sender, found.security) == ("perennial@example.com", "ssl")


def test_a_mail_relay_that_says_nothing_of_security_is_used_with_starttls():
    assert relay(host="smtp.example.com").security == "starttls"


def test_the_mail_relay_is_optional_and_looked_up_when_it_is_asked_for(world):
    resources = border.stepping(lambda resources: resources)
    assert resources.mail() is None
    world.patch.setenv("AIRFLOW_CONN_PERENNIAL_MAIL", '{"conn_type": "smtp", "host": "smtp.example.com"}')
    assert resources.mail().host == "smtp.example.com"


def test_an_empty_mail_connection_is_none(world):
    world.patch.setenv("AIRFLOW_CONN_PERENNIAL_MAIL", "")
    assert border.mail_relay() is None


def test_a_runs_page_is_below_airflows_address(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/base/")
    found = border.run_url("retrain_zoo", "scheduled__2026-01-01T00:00:00+00:00")
    page = "scheduled__2026-01-01T00%3A00%3A00%2B00%3A00"
    assert found == f"https://airflow.example.com/base/dags/retrain_zoo/runs/{page}"


def test_without_an_address_of_airflow_a_run_has_no_page(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "")
    assert border.run_url("retrain_zoo", "run") == ""


@pytest.mark.parametrize("variable", ["PERENNIAL_SIGNING_KEY", "PERENNIAL_PUBLIC_KEYS"])
def test_a_missing_key_fails_without_a_retry(world, variable):
    world.patch.delenv(variable)
    with pytest.raises(AirflowFailException, match=f"{variable} is not set"):
        border.stepping(lambda resources: resources)


def test_the_specs_are_read_once_per_process():
    assert border.catalog() is border.catalog()


def requested(run_type="manual", **params):
    form = {"models": None, "countries": ["GB"], "force": False, "dry_run": False, "as_of": None, **params}
    return border.request_of(form, SimpleNamespace(run_type=run_type, logical_date=LOGICAL_DATE))


def test_a_trigger_form_becomes_a_request():
    assert requested(force=True) == Request(countries=["GB"], force=True)
    assert requested(as_of="2011-06-01T00:00:00Z").as_of == datetime(2011, 6, 1, tzinfo=UTC)


def test_a_backfills_run_asks_for_the_data_as_of_its_date_unless_the_form_says_otherwise():
    assert requested("backfill").as_of == LOGICAL_DATE
    assert requested("backfill", as_of="2011-06-01").as_of == datetime(2011, 6, 1, tzinfo=UTC)
    assert requested("scheduled").as_of is None


def test_a_moment_that_is_none_fails_the_run_without_a_retry():
    with pytest.raises(AirflowFailException, match="is no moment"):
        requested(as_of="soon")


def test_a_decision_is_that_of_the_person_who_triggered_the_run():
    form = {"action": "accept", "country": "GB", "batch": 3, "reason": "it is right"}
    found = border.decision_of(form, SimpleNamespace(triggering_user_name="ada"))
    assert found == Decision(action="accept", country="GB", seq=3, person="ada", reason="it is right")


def test_a_run_that_nobody_triggered_has_no_person():
    form = {"action": "accept", "country": "GB", "batch": 3, "reason": None}
    found = border.decision_of(form, SimpleNamespace(triggering_user_name=None))
    assert (found.person, found.reason) == ("", "")


def test_airflows_history_is_reached_by_a_connection_of_its_own_and_no_masked_one_is_handed_on(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__SQL_ALCHEMY_CONN", "airflow-db-not-allowed:///")
    monkeypatch.setenv("PERENNIAL_PRELOAD", "1")
    facts = {"conn_type": "postgres", "host": "db", "port": 5433, "login": "airflow", "password": "p@ss/w", "schema": "airflow"}
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_DB", json.dumps(facts))
    environment = history.environment_of(Connection.get("airflow_db"))
    url = "postgresql+psycopg2://airflow:p%40ss%2Fw@db:5433/airflow"
    assert {name: value for name, value in environment.items() if "SQL_ALCHEMY_CONN" in name or "PRELOAD" in name} == {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url
    }


def test_a_socket_is_a_host_too(monkeypatch):
    facts = {"conn_type": "postgres", "host": "/run/postgres", "login": "airflow", "schema": "airflow"}
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_DB", json.dumps(facts))
    url = "postgresql+psycopg2://airflow@/airflow?host=%2Frun%2Fpostgres"
    assert history.url_of(Connection.get("airflow_db")) == url


def test_without_that_connection_nothing_is_cleaned_and_it_is_said():
    with pytest.raises(NothingToDo, match="no connection airflow_db"):
        history.clean_history(30)
