"""CPU seconds of processes, whatever they have started and outlived included."""

import psutil

from embedded.postgres import Postgres


def server_of(postgres: Postgres) -> psutil.Process:
    """The server's first process."""
    return psutil.Process(int((postgres.data / "postmaster.pid").read_text().split()[0]))


def cpu_seconds(top: psutil.Process) -> float:
    """Of a process, all below it, and all of theirs that have ended."""
    return sum(own_seconds(process) for process in (top, *top.children(recursive=True)))


def own_seconds(process: psutil.Process) -> float:
    """Of a process and of its children that have ended; 0 when it is gone."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
