"""Settings from the environment, for commands that run outside Airflow."""

import os
from collections.abc import Mapping
from pathlib import Path

from perennial.errors import SettingsError


def setting(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """A variable that must be set. Raises SettingsError, naming it."""
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set. `make run` sets it; elsewhere set it as docker-compose.yaml does.")
    return value


def key_file(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """A key file named by a variable. Raises SettingsError when it does not exist."""
    path = Path(setting(name, environment))
    if not path.is_file():
        raise SettingsError(f"{name} names {path}, which does not exist.")
    return path
