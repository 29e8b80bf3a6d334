"""The whole stack of one state folder: PostgreSQL and Airflow, started together, stopped together."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from embedded import components, signals
from embedded.api import Api
from embedded.errors import EmbeddedError, NotReady
from embedded.paths import Paths
from embedded.ports import Ports
from embedded.postgres import Postgres
from embedded.processes import Lock, Processes
from perennial.shell.database import migrate

READY_SECONDS = 180


class Stack:
    """Start it, use ``api`` and ``postgres``, stop it. State survives; a crashed former run is swept at the start.

    ``settings``: Airflow's, by section and key, beside those of ``components``.
    """

    def __init__(self, state: Path, repo: Path, settings: Mapping[tuple[str, str], Any] | None = None) -> None:
        self.settings = settings or {}
        self.paths = Paths.at(state, repo)
        self.paths.state.mkdir(parents=True, exist_ok=True)
        self.lock = Lock(self.paths.lock)
        self.ports = Ports()
        self.postgres = Postgres(self.paths.postgres, self.paths.logs / "postgres.log")
        self.processes = Processes(self.paths.processes, self.paths.logs)

    def start(self, progress: Callable[[str], None], port: int | None = None) -> None:
        """Bring everything up and wait until it is healthy. Raises EmbeddedError, having stopped all of it."""
        self.lock.acquire()
        self.former = signals.install()
        try:
            self.start_postgres(progress)
            self._start_airflow(progress, port)
        except BaseException:
            self.stop()
            raise

    def start_postgres(self, progress: Callable[[str], None]) -> None:
        """Bring up PostgreSQL with Perennial's database migrated."""
        self.paths.make()
        self.processes.sweep()
        progress("starting PostgreSQL")
        self.postgres.start()
        for name in components.DATABASES:
            self.postgres.create_database(name)
        migrate(self.postgres.dsn("perennial"))

    def stop(self) -> None:
        """Stop everything, whoever started it, and give the state folder free; nothing where another owns the folder."""
        if not self.lock.is_held:
            return
        with signals.deferred():
            self.processes.stop()
            self.postgres.stop()
            self.ports.release()
            self.lock.release()
            signals.forget()
        signals.restore(getattr(self, "former", {}))

    def check(self) -> None:
        """Raise ChildFailed or PostgresFailed when something has ended by itself."""
        self.postgres.check()
        self.processes.check()

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start_airflow(self, progress: Callable[[str], None], port: int | None) -> None:
        ports = components.choose_ports(self.paths, self.ports, port)
        env = components.airflow_env(self.paths, self.postgres, ports, self.settings)
        shutil.copy(Path(__file__).with_name("airflow_local_settings.py"), self.paths.airflow / "config")
        self._migrate_airflow(progress, env)
        self._bury_the_dead()
        progress("starting Airflow")
        self.processes.start("mail", components.mail_server(self.paths, ports))
        for name, arguments in components.COMPONENTS.items():
            self.processes.start(name, [sys.executable, "-m", "airflow", *arguments], components.component_env(name, env))
        self.url, self.user = f"http://localhost:{ports['api']}", components.USER
        self.password = components.secrets_of(self.paths)["password"]
        self.api = Api(self.url, self.user, self.password)
        self._await_health()

    def _migrate_airflow(self, progress: Callable[[str], None], env: dict[str, str]) -> None:
        """Migrate Airflow's database once per Airflow version; the database itself remembers which."""
        current = f"airflow {components.airflow_version()}"
        if self.postgres.comment("airflow") != current:
            progress("preparing Airflow's database")
            self.processes.run("migrate", [sys.executable, "-m", "airflow", "db", "migrate"], env)
            self.postgres.set_comment("airflow", current)

    def _bury_the_dead(self) -> None:
        """Tell Airflow that its former components have ended: else a scheduler waits for its predecessor's tasks."""
        with self.postgres.connect("airflow") as database, database.cursor() as cursor:
            cursor.execute("UPDATE job SET state = 'failed' WHERE state = 'running'")

    def _await_health(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        wanted = {"metadatabase", "scheduler", "dag_processor"}
        while (health := self.api.health()) is not None:
            if health:
                self.api.warm_up()
            if wanted <= {name for name, status in health.items() if status == "healthy"}:
                return
            self.check()
            if time.monotonic() > deadline:
                raise NotReady(f"Airflow is not healthy after {READY_SECONDS} s: {health}. See the logs in {self.paths.logs}.")
            time.sleep(0.3)


def wanted_port() -> int | None:
    """The port somebody asked for with PORT=…; raises EmbeddedError when it is no number."""
    wanted = os.environ.get("PORT", "")
    if wanted and not (wanted.isdecimal() and 0 < int(wanted) < 2**16):
        raise EmbeddedError(f"PORT={wanted} is no port. Give a number, such as PORT=8081.")
    return int(wanted) if wanted else None
