"""Settings from the environment."""

import importlib.util
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


def spec_package(name: str, default: str, environment: Mapping[str, str] = os.environ) -> str:
    """The package whose specs are used: the variable's, for those who keep theirs elsewhere, or the tree's own.

    Raises SettingsError when there is no such package on the import path.
    """
    package = environment.get(name, "") or default
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.submodule_search_locations is None:
        raise SettingsError(f"{name} names {package!r}, which is no package on the import path. Add its parent to PYTHONPATH.")
    return package


def spec_folder(name: str, default: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of that package, where new specs are written. Raises SettingsError."""
    spec = importlib.util.find_spec(spec_package(name, default, environment))
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0])
