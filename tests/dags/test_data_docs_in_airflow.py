"""Data Docs through Airflow: from a task's link, past the login, to the page in the store; and how they expire."""

import json
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

INDEX = "/perennial/data-docs/sightings/index.html"
PAGE = "/perennial/data-docs/sightings/GB/1.html"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Airflow's own API server with the plugin, and a user who may look at everything."""
    passwords = tmp_path_factory.mktemp("login") / "passwords.json"
    passwords.write_text(json.dumps({"vera": "secret"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "vera:viewer")
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "x" * 64)
        from airflow.api_fastapi.app import create_app

        with TestClient(create_app(), base_url="http://testserver") as made:
            yield made


@pytest.fixture
def vera(client):
    """Headers of somebody who has logged in."""
    answer = client.post("/auth/token", json={"username": "vera", "password": "secret"})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
def documented(world):
    world.see("Britain", range(3))
    assert world.ingest()[0] == "success"
    return world


def test_the_tasks_that_validate_and_document_link_to_the_sources_index(documented):
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        asked = select(XComModel.task_id, XComModel.value).where(XComModel.key == "_link_DataDocsLink")
        found = dict(session.execute(asked).tuples().all())
    assert {task: url.partition("/perennial/")[2] for task, url in found.items()} == dict.fromkeys(
        ("validate", "document"), "data-docs/sightings/index.html"
    )


def test_a_link_stays_below_airflows_own_address(monkeypatch):
    from perennial_airflow.links import DataDocsLink

    key = SimpleNamespace(dag_id="ingest_sightings")
    assert DataDocsLink().get_link(None, ti_key=key).endswith(INDEX)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")
    assert DataDocsLink().get_link(None, ti_key=key) == f"https://example.com/airflow{INDEX}"


def test_whoever_is_logged_in_reads_the_index_and_the_page(documented, client, vera):
    index, page = (client.get(path, headers=vera) for path in (INDEX, PAGE))
    assert (index.status_code, page.status_code) == (200, 200)
    assert 'href="GB/1.html"' in index.text
    assert "sightings/GB 1" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("path", [INDEX, PAGE])
def test_whoever_is_not_is_sent_to_the_login_and_back(documented, client, path):
    for headers in ({}, {"Authorization": "Bearer made-up"}):
        answer = client.get(path, headers=headers, follow_redirects=False)
        assert answer.status_code == 307
        assert answer.headers["location"].endswith("next=" + quote(f"http://testserver{path}", safe=""))


def test_whoever_may_not_see_the_sources_dag_may_not_see_its_pages(documented, client, vera, monkeypatch):
    from airflow.api_fastapi.app import get_auth_manager

    asked = []

    def refused(*, details, **_):
        asked.append(details.id)
        return False

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", refused)
    assert client.get(PAGE, headers=vera).status_code == 403
    assert asked == ["ingest_sightings"]


@pytest.mark.parametrize(
    "path",
    [
        "sightings/GB/2.html", "sightings/FR/1.html", "sightings/GB/1.json", "sightings/GB/0.html", "sightings/GB/01x.html",
        "sightings/..%2F..%2Flake/1.html", "sightings/%2e%2e/1.html", "..%2Flake/GB/1.html", "no_source/index.html",
        "sightings/GB/..%2f..%2findex.html", "openapi.json", "docs",
        "sightings/%00/1.html", "sightings/G%00B/1.html", "sightings/GB%0A/1.html", "sightings/%ff/1.html", "%00/index.html",
        f"sightings/{'G' * 300}/1.html", f"sightings/GB/{'1' * 300}.html",
    ],
)  # fmt: skip
def test_there_is_nothing_else_to_read(documented, client, vera, path):
    assert client.get(f"/perennial/data-docs/{path}", headers=vera).status_code in {404, 422}


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_can_be_written(documented, client, vera, method):
    assert getattr(client, method)(PAGE, headers=vera).status_code == 405


def test_house_keeping_deletes_old_pages_and_leaves_the_results(documented, client, vera):
    from perennial_airflow.dags import maintain_dag

    assert documented._run(maintain_dag("doc"))[1]["expire_data_docs"] == "success"
    assert client.get(PAGE, headers=vera).status_code == 200
    documented.execute(documented.perennial, """SET session_replication_role = replica;
        UPDATE perennial.batches SET decided_at = decided_at - interval '8 days', documented_at = decided_at""")  # fmt: skip
    assert documented._run(maintain_dag("doc"), {"docs_days": 7})[1]["expire_data_docs"] == "success"
    assert client.get(PAGE, headers=vera).status_code == 404
    assert "href" not in client.get(INDEX, headers=vera).text
    assert documented.execute(documented.perennial, "SELECT page, report ? 'findings' FROM perennial.batches") == [(None, True)]
