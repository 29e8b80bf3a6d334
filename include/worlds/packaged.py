"""Data that ship in a PyPI package: read by their path, checked, parsed once per cache folder."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd


class DataError(Exception):
    """An example's data are not installed as they should be."""


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """A file of a package: ``parse`` makes a frame of its bytes. The package is never imported."""

    name: str
    package: str
    file: str
    sha256: str
    parse: Callable[[bytes], pd.DataFrame]

    def read(self, cache: Path) -> pd.DataFrame:
        """The parsed data, from the cache folder where they are there. Raises DataError."""
        kept = cache / f"{self.name}-{self.sha256[:12]}.parquet"
        if not kept.exists():
            cache.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".partial")
            self.parse(self._verified(self._installed())).to_parquet(partial, index=False)
            partial.replace(kept)
        return pd.read_parquet(kept)

    def _installed(self) -> Path:
        package = find_spec(self.package)
        if package is None or not package.submodule_search_locations:
            raise DataError("The example's data are not installed. `make run` installs requirements-example.txt.")
        return Path(package.submodule_search_locations[0]) / self.file

    def _verified(self, path: Path) -> bytes:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataError(f"{path} is not the file this replay was made for. Reinstall requirements-example.txt.")
        return data
