"""Spec trees that tests write: packages of their own."""

import importlib
from dataclasses import dataclass
from pathlib import Path

from perennial.catalog import Catalog, load_catalog
from perennial.spec import Model

TOYS = Path(__file__).parents[1] / "specs"
FLEET = (TOYS / "toy_models/zoo/__init__.py").read_text()
MODEL = (TOYS / "toy_models/zoo/weight.py").read_text()
SOURCE = (TOYS / "toy_sources/sightings.py").read_text()


@dataclass(frozen=True)
class Tree:
    """A models and a sources package below a folder. In what is written, ``toy_models`` stands for its own package."""

    folder: Path
    number: int

    @property
    def models(self) -> str:
        return f"models_{self.number}"

    @property
    def sources(self) -> str:
        return f"sources_{self.number}"

    def write(self, path: str, text: str) -> Path:
        """Write a file such as ``models/zoo/weight.py``."""
        root, _, rest = path.partition("/")
        file = self.folder / f"{root}_{self.number}" / rest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("toy_models", self.models))
        importlib.invalidate_caches()
        return file

    def model(self, text: str = MODEL, name: str = "weight") -> Path:
        """Write a model of the fleet ``zoo``."""
        return self.write(f"models/zoo/{name}.py", text)

    def catalog(self) -> Catalog:
        return load_catalog(self.models, self.sources)

    def weight(self) -> Model:
        """The spec of ``weight.py``."""
        return importlib.import_module(f"{self.models}.zoo.weight").weight
