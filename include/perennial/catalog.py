"""Finds the fleets, models and sources of the deployed tree, the refused ones with all their faults."""

import importlib
import pkgutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

from perennial.cell import Cell
from perennial.errors import Fault, RequestError, SpecError
from perennial.settings import spec_package
from perennial.spec import NAME, Fleet, Model, Owner, Source

T = TypeVar("T")
S = TypeVar("S", Fleet, Model, Source)


@dataclass(frozen=True, kw_only=True)
class RefusedSpec:
    """A model that cannot run: its cells are planned and fail with these faults."""

    name: str
    countries: tuple[str, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, kw_only=True)
class FleetSpecs:
    """A fleet with its healthy models by name, and its refused ones."""

    fleet: Fleet
    models: dict[str, Model]
    refused: dict[str, RefusedSpec]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources its models read."""
        return tuple(sorted({model.source for model in self.models.values()}))

    def cells(self) -> list[Cell]:
        """Every cell of the matrix, refused ones included."""
        specs: list[Model | RefusedSpec] = [*self.models.values(), *self.refused.values()]
        return [Cell(spec.name, country) for spec in specs for country in spec.countries]

    def model(self, name: str) -> Model:
        """The healthy model of that name. Raises SpecError when it was refused."""
        if name in self.refused:
            raise SpecError(self.refused[name].faults)
        if name not in self.models:
            raise RequestError(f"Fleet {self.fleet.name} has no model {name!r}. It has: {', '.join(self.models)}.")
        return self.models[name]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All specs of the deployed tree."""

    fleets: dict[str, FleetSpecs]
    sources: dict[str, Source]
    faults: tuple[Fault, ...] = field(default=())

    def fleet(self, name: str) -> FleetSpecs:
        """The fleet of that name. Raises RequestError with the names there are."""
        if name not in self.fleets:
            raise RequestError(f"There is no fleet {name!r}. There are: {', '.join(self.fleets)}.")
        return self.fleets[name]

    def source(self, name: str) -> Source:
        """The source of that name. Raises RequestError with the names there are."""
        if name not in self.sources:
            raise RequestError(f"There is no healthy source {name!r}. There are: {', '.join(self.sources)}.")
        return self.sources[name]

    def all_faults(self) -> tuple[Fault, ...]:
        """Every fault of every spec."""
        refused = [spec for specs in self.fleets.values() for spec in specs.refused.values()]
        return (*self.faults, *(fault for spec in refused for fault in spec.faults))


def load_catalog(models: str | None = None, sources: str | None = None) -> Catalog:
    """Import every spec below two packages, by default those of PERENNIAL_MODELS and PERENNIAL_SOURCES.

    A spec that cannot be imported or is wrong never hides the others.
    """
    models = models or spec_package("PERENNIAL_MODELS", "models")
    sources = sources or spec_package("PERENNIAL_SOURCES", "sources")
    found, source_faults = _load_sources(sources)
    fleets, fleet_faults = {}, []
    for name in _submodules(models):
        try:
            package = importlib.import_module(f"{models}.{name}")
            fleet = _one_fleet(package)
        except Exception as error:
            fleet_faults.append(_import_fault(f"{models}.{name}", error))
            continue
        if fleet.name in fleets:
            fleet_faults.append(_used_twice(fleet, "fleets"))
            continue
        fleet_faults += _faults_of(fleet, Fleet.faults)
        if _has_a_dag(fleet):
            fleets[fleet.name] = _load_fleet(package, fleet, found)
    return Catalog(fleets=_with_unique_names(fleets), sources=found, faults=(*source_faults, *fleet_faults))


def _has_a_dag(fleet: Fleet) -> bool:
    """Whether a DAG can be made of it. One that cannot must not take the DAGs of the others with it."""
    has_name = isinstance(fleet.name, str) and NAME.fullmatch(fleet.name) is not None
    return has_name and isinstance(fleet.owner, Owner) and isinstance(fleet.countries, tuple)


def _load_sources(package: str) -> tuple[dict[str, Source], list[Fault]]:
    found: dict[str, Source] = {}
    faults: list[Fault] = []
    for name in _submodules(package):
        try:
            specs = list(_instances(importlib.import_module(f"{package}.{name}"), Source))
        except Exception as error:
            faults.append(_import_fault(f"{package}.{name}", error))
            continue
        for source in specs:
            own = _faults_of(source, type(source).faults)
            if not own and found.get(source.name, source) is not source:
                own = (_used_twice(source, "sources"),)
            faults += own
            if not own:
                found[source.name] = source
    return found, faults


def _load_fleet(package: ModuleType, fleet: Fleet, sources: dict[str, Source]) -> FleetSpecs:
    models, refused = {}, {}
    found: dict[int, Model] = {}
    for name in _submodules(package.__name__):
        try:
            found |= {id(model): model for model in _instances(importlib.import_module(f"{package.__name__}.{name}"), Model)}
        except Exception as error:
            fault = _import_fault(f"{package.__name__}.{name}", error)
            refused[name] = RefusedSpec(name=name, countries=fleet.countries, faults=(fault,))
    counts = Counter(model.name for model in found.values())
    for model in found.values():
        faults = (*_faults_of(model, Model.faults), *_faults_of(model, _faults_in_fleet, fleet, sources))
        if counts[model.name] > 1:
            faults = (*faults, _used_twice(model, "models"))
        if faults:
            refused[model.name] = _refused(model, fleet, faults, refused.get(model.name))
        else:
            models[model.name] = model
    return FleetSpecs(fleet=fleet, models=models, refused=refused)


def _refused(model: Model, fleet: Fleet, faults: tuple[Fault, ...], namesake: RefusedSpec | None) -> RefusedSpec:
    known = tuple(country for country in fleet.countries if country in (model.countries or ()))
    return RefusedSpec(
        name=str(model.name), countries=known or fleet.countries, faults=(*(namesake.faults if namesake else ()), *faults)
    )


def _faults_of(spec: S, look: Callable[..., Iterable[Fault]], *context: Any) -> tuple[Fault, ...]:
    """What a look at a spec finds; values of a type that even looking cannot bear are a fault."""
    try:
        return tuple(look(spec, *context))
    except Exception as error:
        what = f"a value is of the wrong type: {type(error).__name__}: {error}"
        return (Fault(where=spec.where, what=what, fix=f"Compare it with {type(spec).__name__} in perennial/spec.py."),)


def _used_twice(spec: Fleet | Model | Source, kind: str) -> Fault:
    return Fault(where=spec.where, what=f"the name {spec.name!r} is used by two {kind}", fix="Rename one.")


def _faults_in_fleet(model: Model, fleet: Fleet, sources: dict[str, Source]) -> Iterator[Fault]:
    strangers = [country for country in model.countries or () if country not in fleet.countries]
    if strangers:
        yield Fault(
            where=model.where,
            what=f"fleet {fleet.name} has no country {', '.join(strangers)}",
            fix=f"Use some of {', '.join(fleet.countries)}, or add it to the fleet's countries.",
        )
    if model.source not in sources:
        yield Fault(
            where=model.where,
            what=f"there is no healthy source {model.source!r}",
            fix=f"Use one of {', '.join(sources)}, or mend its file in include/sources.",
        )
        return
    known = {column.name for column in sources[model.source].columns}
    missing = [column for column in model.columns if column not in known]
    if missing:
        yield Fault(
            where=model.where,
            what=f"source {model.source} has no column {', '.join(missing)}",
            fix=f"Use some of {', '.join(sorted(known))}.",
        )


def _with_unique_names(fleets: dict[str, FleetSpecs]) -> dict[str, FleetSpecs]:
    """Refuse every model whose name occurs in two fleets: cells are named by model and country alone."""
    counts = Counter(name for specs in fleets.values() for name in specs.models)
    return {name: _refuse(specs, {model for model in specs.models if counts[model] > 1}) for name, specs in fleets.items()}


def _refuse(specs: FleetSpecs, names: set[str]) -> FleetSpecs:
    doubled = {
        name: RefusedSpec(
            name=name,
            countries=specs.models[name].countries,
            faults=(
                Fault(
                    where=specs.models[name].where,
                    what=f"the name {name!r} is used by two fleets",
                    fix="Rename one: a model's name is unique over all fleets.",
                ),
            ),
        )
        for name in names
    }
    models = {name: model for name, model in specs.models.items() if name not in names}
    return FleetSpecs(fleet=specs.fleet, models=models, refused={**specs.refused, **doubled})


def _one_fleet(package: ModuleType) -> Fleet:
    fleets = list(_instances(package, Fleet))
    if len(fleets) != 1:
        raise ValueError(f"the folder declares {len(fleets)} fleets; its __init__.py must hold one Fleet(…)")
    return fleets[0]


def _instances(module: ModuleType, kind: type[T]) -> Iterator[T]:
    return (value for value in vars(module).values() if isinstance(value, kind))


def _submodules(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return sorted(info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_"))


def _import_fault(module: str, error: Exception) -> Fault:
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if module.replace(".", "/") in f.filename]
        frame = own[-1] if own else frame
        where = f"{frame.filename}:{frame.lineno}"
    return Fault(where=where, what=f"{module} cannot be imported: {type(error).__name__}: {error}", fix="Mend the file.")
