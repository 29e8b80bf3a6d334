"""Real child processes: recorded, ended with all of their session, swept after a crash, and never mistaken for a stranger."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from embedded.errors import ChildFailed, StateInUse
from embedded.processes import Lock, Processes, Record, birth, boot_id, members, write_json
from embedded.running import Stack

INCLUDE = Path(__file__).parents[2] / "include"
SLEEP = ("sleep", "60")
# As Airflow's tasks are: in a process group of their own, in the session of the component that started them.
TASK_IN_OWN_GROUP = "import os, time; os.fork() or os.setpgid(0, 0); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    yield (processes := processes_in(tmp_path))
    processes.stop(timeout_seconds=0.2)


@pytest.fixture
def stranger() -> Iterator[int]:
    """The leader of a session that is not ours."""
    with subprocess.Popen(SLEEP, start_new_session=True) as process:
        yield process.pid
        process.kill()


def processes_in(folder: Path) -> Processes:
    for name in ("processes", "logs"):
        (folder / name).mkdir(exist_ok=True)
    return Processes(folder / "processes", folder / "logs")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 s in vain"
        time.sleep(0.02)


def record(processes: Processes, name: str) -> Record:
    found = processes._read(name)
    assert found
    return found


def forge(processes: Processes, forged: Record) -> None:
    write_json(processes.folder / f"{forged.name}.json", asdict(forged))


def test_a_child_leads_its_own_session_and_is_recorded(processes: Processes) -> None:
    pid = processes.start("one", SLEEP)
    assert os.getsid(pid) == pid
    assert processes.names() == ["one"]
    assert members(record(processes, "one")) == [pid]


def test_stop_ends_the_session_and_forgets_it(processes: Processes) -> None:
    processes.start("one", SLEEP)
    processes.start("two", SLEEP)
    assert processes.stop() == ["one", "two"]
    assert processes.names() == []
    assert processes.stop() == []


def test_stop_reaches_members_in_another_process_group(processes: Processes) -> None:
    processes.start("one", python(TASK_IN_OWN_GROUP))
    session = record(processes, "one")
    wait_until(lambda: len({os.getpgid(pid) for pid in members(session)}) == 2)
    processes.stop()
    assert members(session) == []


def test_stop_kills_who_does_not_listen(processes: Processes) -> None:
    processes.start("one", python(DEAF))
    session = record(processes, "one")
    wait_until(lambda: "deaf" in processes.log("one").read_text())
    processes.stop(timeout_seconds=0.2)
    assert members(session) == []


def test_sweep_ends_what_a_crashed_run_left(processes: Processes, tmp_path: Path) -> None:
    script = (
        "import os, signal; from pathlib import Path; from embedded.processes import Processes; "
        f"Processes(Path({str(processes.folder)!r}), Path({str(processes.logs)!r})).start('one', ['sleep', '60']); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run(python(script), env={**os.environ, "PYTHONPATH": str(INCLUDE)}, check=False)
    session = record(processes, "one")
    assert members(session)
    assert processes_in(tmp_path).sweep() == ["one"]
    assert members(session) == []


def test_sweep_ends_members_whose_leader_is_dead(processes: Processes, tmp_path: Path) -> None:
    leader = processes.start("one", python(TASK_IN_OWN_GROUP))
    session = record(processes, "one")
    wait_until(lambda: len(members(session)) == 2)
    os.kill(leader, signal.SIGKILL)
    wait_until(lambda: leader not in members(session))
    assert processes_in(tmp_path).sweep() == ["one"]
    assert members(session) == []


def test_a_recycled_pid_is_not_killed(processes: Processes, stranger: int) -> None:
    forge(processes, Record("one", stranger, birth(stranger) - 100, boot_id()))
    assert processes.sweep() == []
    assert psutil.pid_exists(stranger)
    assert processes.names() == []


def test_a_record_from_before_a_reboot_kills_nobody(processes: Processes, stranger: int) -> None:
    forge(processes, Record("one", stranger, birth(stranger), "another boot"))
    assert processes.sweep() == []
    assert psutil.pid_exists(stranger)


def test_members_older_than_the_record_are_not_ours(processes: Processes) -> None:
    processes.start("one", SLEEP)
    session = record(processes, "one")
    assert members(replace(session, birth=session.birth + 100)) == []


def test_a_damaged_record_is_dropped(processes: Processes) -> None:
    (processes.folder / "one.json").write_text("{")
    assert processes.sweep() == []
    assert processes.names() == []


def test_run_waits_for_the_end(processes: Processes) -> None:
    processes.run("one", python("print('done')"))
    assert processes.log("one").read_text() == "done\n"
    assert processes.names() == []


def test_a_failed_run_shows_the_end_of_its_log(processes: Processes) -> None:
    with pytest.raises(ChildFailed, match=r"one ended with code 3, see .*one\.log(.|\n)*what went wrong"):
        processes.run("one", python("print('what went wrong'); raise SystemExit(3)"))


def test_check_notices_a_child_that_has_died(processes: Processes) -> None:
    pid = processes.start("one", SLEEP)
    processes.check()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ChildFailed, match="one ended with code -9"):
        processes.check()


def test_the_former_log_is_kept(processes: Processes) -> None:
    processes.run("one", python("print('first')"))
    processes.run("one", python("print('second')"))
    assert processes.log("one").read_text() == "second\n"
    assert processes.log("one").with_suffix(".log.1").read_text() == "first\n"


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(StateInUse, match=f"process {os.getpid()}"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_children_do_not_hold_the_lock(processes: Processes, tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    lock.acquire()
    processes.start("one", SLEEP)
    lock.release()
    lock.acquire()
    lock.release()


def test_a_second_owner_is_refused_and_does_not_stop_the_first(tmp_path: Path) -> None:
    first, second = Stack(tmp_path / "state", tmp_path), Stack(tmp_path / "state", tmp_path)
    first.lock.acquire()
    first.start_postgres(lambda fact: None)
    with pytest.raises(StateInUse, match=str(os.getpid())), second:
        second.start(lambda fact: None)
    first.check()
    first.stop()
    assert not first.postgres.is_running()
