"""What a drill breaks, what it reads afterwards, and how it says so."""

import mailbox
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from killed_world import World, wait_until

from perennial.catalog import load_catalog
from perennial.steps.audit import examine

QUIET_SECONDS = 8
TOLD = ("warning", "error", "critical")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What somebody is told."""

    broken: str
    who: str
    words: str


@dataclass
class Drill:
    """Reads what owners are sent, what reports say, and what Airflow shows."""

    world: World
    told: list[Told]
    read: set[str] = field(default_factory=set)

    def tells(self, broken: str, who: str, words: str) -> str:
        """Keep what somebody is told when something is broken."""
        self.told.append(Told(broken=broken, who=who, words=words))
        return words

    def mails(self) -> list[str]:
        """Mails that came since this was asked last, as text: subject and body."""
        folder = mailbox.Maildir(self.world.stack.paths.mail, create=False)
        new = {key: folder[key] for key in folder.iterkeys() if key not in self.read}
        self.read |= set(new)
        return [f"{mail['subject']}\n{mail.get_payload(decode=True).decode()}" for mail in new.values()]

    def mail(self, words: str) -> str:
        """The mail that has these words in it, waited for."""
        return str(wait_until(lambda: next((mail for mail in self.mails() if words in " ".join(mail.split())), None)))

    def run(self, dag: str, state: str = "success", **conf: Any) -> str:
        """Trigger a DAG and wait for its end; returns its run's id."""
        self.world.stack.api.unpause(dag)
        run_id = self.world.stack.api.trigger(dag, conf)
        ended = wait_until(lambda: state_of(self.world, dag, run_id))
        assert ended == state, self.failed(dag, run_id)
        return run_id

    def retrain(self, state: str = "success", **conf: Any) -> Any:
        """The outcome of weight/GB in a run over ten days more."""
        self.world.see(10)
        run_id = f"zoo/{self.run('retrain_zoo', state, models=['weight'], countries=['GB'], **conf)}"
        (outcome,) = self.world.rows("outcomes_of", run_id=run_id)
        return outcome

    def await_idle(self) -> None:
        """Wait until no run of the fleet is there or comes, woken by rows that were accepted."""
        api, since = self.world.stack.api, time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            runs = api._ask("GET", "/api/v2/dags/retrain_zoo/dagRuns")["dag_runs"]
            if any(run["state"] in ("queued", "running") for run in runs):
                since = time.monotonic()
            time.sleep(0.5)

    def log(self, dag: str, run_id: str, task: str) -> str:
        """Warnings and errors in the log of a task's last try, as the UI shows them."""
        tries = {each["task_id"]: each["try_number"] for each in self.world.stack.api.tasks(dag, run_id)}
        path = f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/logs/{tries[task]}"
        content = self.world.stack.api._ask("GET", path)["content"]
        told = [entry for entry in content if entry.get("level") in TOLD]
        return "\n".join(_line(entry) for entry in told)

    def failed(self, dag: str, run_id: str) -> list[str]:
        """Which tasks of a run failed."""
        return [each["task_id"] for each in self.world.stack.api.tasks(dag, run_id) if each["state"] == "failed"]

    def violations(self) -> list[Any]:
        """What an audit finds."""
        return list(examine(self.world.resources, load_catalog(), deep=True).violations)


def state_of(world: World, dag: str, run_id: str) -> str | None:
    """How a run has ended, None before."""
    state = world.stack.api.run_state(dag, run_id)
    return state if state in ("success", "failed") else None


def _line(entry: dict[str, Any]) -> str:
    """An entry of a log, with the exceptions that it shows."""
    raised = (f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ())
    return "\n".join([str(entry.get("event", "")), *raised])


@contextmanager
def renamed(world: World, column: str, name: str) -> Iterator[None]:
    """Inside, a column of the source's table has another name."""
    statement = "ALTER TABLE sightings RENAME {} TO {}"
    with world.session("shop") as cursor:
        cursor.execute(statement.format(column, name))
    try:
        yield
    finally:
        with world.session("shop") as cursor:
            cursor.execute(statement.format(name, column))


@contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    """Inside, a file holds other bytes."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def flipped(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
