"""Finds the fleets, models and sources of the deployed tree, the refused ones with all their faults."""

import importlib
import pkgutil
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

from perennial.cell import Cell
from perennial.claims import is_name, is_pattern, is_tuple_of, matches
from perennial.errors import Fault, RequestError, SpecError
from perennial.settings import spec_package
from perennial.spec import COUNTRY, Fleet, Model, Owner, Source

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
    declared, fleet_faults = _load_fleets(models)
    patterns = {COUNTRY.pattern, *(fleet.country_pattern for _, fleet in declared)}
    held = {fleet.name: _import_models(package) for package, fleet in declared}
    read = {source for each in held.values() for source in each.sources}
    found, source_faults = _load_sources(sources, patterns, read)
    fleets = {fleet.name: _load_fleet(fleet, held[fleet.name], found) for _, fleet in declared}
    return Catalog(fleets=_with_unique_names(fleets), sources=found, faults=(*source_faults, *fleet_faults))


def _load_fleets(package: str) -> tuple[list[tuple[ModuleType, Fleet]], list[Fault]]:
    """The fleets that a DAG can be made of, each with its package; and the faults of all."""
    found: dict[str, tuple[ModuleType, Fleet]] = {}
    faults: list[Fault] = []
    for name in _submodules(package):
        try:
            module = importlib.import_module(f"{package}.{name}")
            fleet = _one_fleet(module)
        except Exception as error:
            faults.append(_import_fault(f"{package}.{name}", error))
            continue
        own = _faults_of(fleet, Fleet.faults)
        if not own and fleet.name in found:
            own = (_used_twice(fleet, "fleets"),)
        elif _has_a_dag(fleet) and fleet.name not in found:
            found[fleet.name] = (module, _with_usable_settings(fleet))
        faults += own
    return list(found.values()), faults


def _has_a_dag(fleet: Fleet) -> bool:
    """Whether a DAG can be made of it. One that cannot must not take the DAGs of the others with it."""
    has_owner = isinstance(fleet.owner, Owner) and not fleet.owner.faults(fleet.where)
    return is_name(fleet.name) and has_owner and is_tuple_of(fleet.countries, str)


def _with_usable_settings(fleet: Fleet) -> Fleet:
    """The fleet, with defaults for settings that cannot be used: they are faults, and its models run on."""
    plain = Fleet(name=fleet.name, owner=fleet.owner, countries=("GB",), where=fleet.where)
    unusable = {}
    for name in ("schedule", "workers", "failure_limit", "country_pattern"):
        is_country = name == "country_pattern"  # a code that it does not match is another fault
        value = getattr(fleet, name)
        if not (is_pattern(value) if is_country else not replace(plain, **{name: value}).faults()):
            unusable[name] = getattr(plain, name)
    return replace(fleet, **unusable)


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What a fleet's modules hold: its models, and by module the fault of each that cannot be imported."""

    models: list[Model]
    faults: dict[str, Fault]

    @property
    def sources(self) -> set[str]:
        """The names of the sources that its models read."""
        return {model.source for model in self.models if isinstance(model.source, str)}


def _import_models(package: ModuleType) -> _Read:
    found: dict[int, Model] = {}
    faults = {}
    for name in _submodules(package.__name__):
        try:
            found |= {id(model): model for model in _instances(importlib.import_module(f"{package.__name__}.{name}"), Model)}
        except Exception as error:
            faults[name] = _import_fault(f"{package.__name__}.{name}", error)
    return _Read(models=list(found.values()), faults=faults)


def _load_sources(package: str, patterns: set[str], read: set[str]) -> tuple[dict[str, Source], list[Fault]]:
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
            own = own or (tuple(_wrong_codes(source, patterns)) if source.name in read else ())
            if not own and found.get(source.name, source) is not source:
                own = (_used_twice(source, "sources"),)
            faults += own
            if not own:
                found[source.name] = source
    return found, faults


def _wrong_codes(source: Source, patterns: set[str]) -> Iterator[Fault]:
    """Codes that no fleet can have: each is of the form of ISO 3166-1 alpha-2, or of some fleet's own.

    Of a source that nothing reads yet nobody can say: its fleet is still to come.
    """
    codes = set(source.countries.values())
    wrong = sorted(code for code in codes if not any(matches(each, code) for each in patterns))
    if wrong:
        yield Fault(
            where=source.where,
            what=f"no country codes: {', '.join(wrong)}",
            fix="Use ISO 3166-1 alpha-2, or set country_pattern in the fleet that reads the source.",
        )


def _load_fleet(fleet: Fleet, read: _Read, sources: dict[str, Source]) -> FleetSpecs:
    models = {}
    refused = {name: RefusedSpec(name=name, countries=fleet.countries, faults=(fault,)) for name, fault in read.faults.items()}
    counts = Counter(str(model.name) for model in read.models)
    for model in read.models:
        faults = (*_faults_of(model, Model.faults), *_faults_of(model, _faults_in_fleet, fleet, sources))
        if counts[str(model.name)] > 1:
            faults = (*faults, _used_twice(model, "models"))
        if faults:
            name = str(model.name)
            refused[name] = _refused(model, fleet, faults, refused.get(name))
        else:
            models[model.name] = model
    return FleetSpecs(fleet=fleet, models=models, refused=refused)


def _refused(model: Model, fleet: Fleet, faults: tuple[Fault, ...], namesake: RefusedSpec | None) -> RefusedSpec:
    named = model.countries if isinstance(model.countries, tuple) else ()
    known = tuple(country for country in fleet.countries if country in named)
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
    countries = model.countries if is_tuple_of(model.countries, str) else ()
    strangers = [country for country in countries if country not in fleet.countries]
    if strangers:
        yield Fault(
            where=model.where,
            what=f"fleet {fleet.name} has no country {', '.join(strangers)}",
            fix=f"Use some of {', '.join(fleet.countries)}, or add it to the fleet's countries.",
        )
    if not isinstance(model.source, str) or model.source not in sources:
        yield Fault(
            where=model.where,
            what=f"there is no healthy source {model.source!r}",
            fix=f"Use one of {', '.join(sources)}, or mend its file in include/sources.",
        )
        return
    yield from _faults_of_source(model, sources[model.source])


def _faults_of_source(model: Model, source: Source) -> Iterator[Fault]:
    """What a model asks for and its source does not have."""
    known = {column.name for column in source.columns}
    columns = model.columns if is_tuple_of(model.columns, str) else ()
    missing = [column for column in columns if column not in known]
    if missing:
        yield Fault(
            where=model.where,
            what=f"source {source.name} has no column {', '.join(missing)}",
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
