"""The primary and the standby that other tests read from are real ones."""

import shutil

import psycopg2
import pytest
from replicas import ask, replicated
from toolbox import execute

from scratch import server_folder


@pytest.fixture
def pair():
    folder = server_folder("perennial-test-")
    with replicated(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)


def test_a_standby_follows_stands_still_and_is_promoted(pair):
    primary, standby = pair.primary.dsn("postgres"), pair.standby.dsn("postgres")
    execute(primary, "CREATE TABLE numbers AS SELECT 1 AS number")
    pair.await_replay()
    assert ask(standby, "SELECT count(*) FROM numbers") == 1
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        execute(standby, "DELETE FROM numbers")
    with pair.paused_replay():
        execute(primary, "INSERT INTO numbers VALUES (2)")
        assert ask(standby, "SELECT count(*) FROM numbers") == 1
    pair.await_replay()
    assert ask(standby, "SELECT count(*) FROM numbers") == 2
    pair.promote()
    execute(standby, "INSERT INTO numbers VALUES (3)")
    assert (ask(standby, "SELECT count(*) FROM numbers"), ask(primary, "SELECT count(*) FROM numbers")) == (3, 2)
