"""Where the tests' PostgreSQL servers keep their data."""

import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - folders are made below it, by mkdtemp
PLENTY = 4 << 30  # bytes


def server_folder(prefix: str) -> Path:
    """A new folder, in memory where that has room: a database is copied for each test, which a disk makes slow."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= PLENTY
    return Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if has_room else None))
