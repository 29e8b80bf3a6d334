"""The embedded PostgreSQL starts from any state a crash can leave, adopts what runs, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from embedded.errors import PostgresFailed
from embedded.postgres import Postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: pytest's own is too long for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="perennial-pg-"))
    yield folder
    server_in(folder).stop()
    shutil.rmtree(folder, ignore_errors=True)


def server_in(folder: Path) -> Postgres:
    return Postgres(folder / "data", folder / "postgres.log")


def postmaster(server: Postgres) -> int:
    return int((server.data / "postmaster.pid").read_text().split()[0])


def test_a_database_outlives_a_restart(folder: Path) -> None:
    server = server_in(folder)
    server.start()
    server.create_database("shop")
    server.create_database("shop")
    assert server.stop()
    server.start()
    with server.connect("shop") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), current_setting('max_connections')")
        assert cursor.fetchone() == ("shop", "100")


def test_stop_leaves_no_process_and_may_be_repeated(folder: Path) -> None:
    server = server_in(folder)
    server.start()
    assert server.stop()
    assert not server.is_running()
    assert server._servers() == []
    assert not server.stop()


def test_a_server_left_by_a_crashed_run_is_adopted_and_stopped(folder: Path) -> None:
    former, server = server_in(folder), server_in(folder)
    former.start()
    server.start()
    assert postmaster(server) == postmaster(former)
    assert server.stop()
    assert not former.is_running()


def test_a_start_waits_for_a_server_that_recovers_from_the_death_of_a_backend(folder: Path) -> None:
    server = server_in(folder)
    server.start()
    with closing(psycopg2.connect(server.dsn("postgres"))) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
    killed = postmaster(server)
    deadline = time.monotonic() + 5
    while server._admits() and time.monotonic() < deadline:
        pass
    server_in(folder).start()
    server.create_database("shop")
    assert postmaster(server) == killed


def test_a_killed_server_is_noticed_and_started_anew(folder: Path) -> None:
    server = server_in(folder)
    server.start()
    killed = postmaster(server)
    os.kill(killed, signal.SIGKILL)
    server._child.wait()
    with pytest.raises(PostgresFailed, match="has stopped"):
        server.check()
    server.start()
    assert postmaster(server) != killed


def test_a_stale_pid_file_that_names_a_living_stranger_harms_neither(folder: Path) -> None:
    server = server_in(folder)
    server.start()
    stale = (server.data / "postmaster.pid").read_text()
    server.stop()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (server.data / "postmaster.pid").write_text(stale.replace(stale.split()[0], str(stranger.pid), 1))
        assert not server.stop()
        server.start()
        server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("delay_seconds", [0.05, 0.15, 0.3])
def test_an_interrupted_first_start_does_not_spoil_the_next(folder: Path, delay_seconds: float) -> None:
    script = (
        "import sys; from pathlib import Path; from embedded.postgres import Postgres; print('go', flush=True); "
        "Postgres(Path(sys.argv[1]), Path(sys.argv[2])).start()"
    )
    arguments = [sys.executable, "-c", script, str(folder / "data"), str(folder / "postgres.log")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "include")}
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE) as first:
        assert first.stdout
        first.stdout.readline()
        time.sleep(delay_seconds)
        first.kill()
    server = server_in(folder)
    server.start()
    server.check()
    assert (folder / "data" / "PG_VERSION").exists()


def test_a_folder_with_other_files_is_refused(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "letter.txt").write_text("not a database")
    with pytest.raises(PostgresFailed, match="holds files but no database"):
        server_in(folder).start()


def test_a_database_of_another_major_version_is_refused(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(PostgresFailed, match="made by PostgreSQL 15"):
        server_in(folder).start()


def test_a_path_too_long_for_a_socket_works(folder: Path) -> None:
    deep = folder / ("x" * 120)
    deep.mkdir()
    server = server_in(deep)
    try:
        server.start()
        socket = server.socket_folder()
        assert socket != server.data
        assert socket.stat().st_mode & 0o077 == 0
        psycopg2.connect(server.dsn("postgres")).close()
    finally:
        server.stop()
    shutil.rmtree(socket)
