"""What people who add models need: check, skeleton, trying one cell, freezing superseded recipes."""

import importlib
import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perennial.catalog import Catalog, FleetSpecs, load_catalog
from perennial.cell import Cell
from perennial.claims import is_name
from perennial.connections import connection_of, dsn_of, store_of
from perennial.errors import ArtifactError, Fault, PerennialError, RecipeMissing, RequestError, RulesBroken, SpecError
from perennial.proposal import Wanted
from perennial.recipe import code_of, deployed_model, fleet_package, frozen_text, recipe_of
from perennial.resources import Resources
from perennial.settings import key_file, setting, spec_folder, spec_package
from perennial.spec import Fleet, Model, Source

SEEDS = ("1", "2", "3")  # of hashes, by which a set has its order
HEAVY = ("pandas", "sklearn", "great_expectations", "skops", "boto3", "psycopg2")


def check_models() -> str:
    """Check every spec, read every recipe, and say which libraries parsing pulls in. Raises SpecError with all faults."""
    catalog = load_catalog()
    heavy = [name for name in HEAVY if name in sys.modules]
    faults = list(catalog.all_faults())
    models = [model for specs in catalog.fleets.values() for model in specs.models.values()]
    broken = [fault for model in models for fault in _recipe_faults(model)]
    found, unseen = (broken, []) if broken else _faults_of_recipes(catalog, models)
    faults += found
    faults += [fault for source in catalog.sources.values() for fault in _suite_faults(source)]
    faults += _address_faults(catalog)
    if os.environ.get("PERENNIAL_DATABASE_URL"):
        faults += [_missing_recipe(model, row.recipe) for model, row in _recipes_in_force() if not _has_code(model, row)]
    if faults:
        raise SpecError(faults)
    cost = f" Parsing them imports {', '.join(heavy)}: move the imports into functions." if heavy else ""
    said = f"{len(models)} models of {len(catalog.fleets)} fleets, {len(catalog.sources)} sources: no fault.{cost}"
    return "\n".join([said, *unseen])


def _recipe_faults(model: Model) -> list[Fault]:
    try:
        recipe_of(model)
    except SpecError as error:
        return list(error.faults)
    except Exception as error:
        what = f"estimator() cannot be built: {type(error).__name__}: {error}"
        return [Fault(where=model.where, what=what, fix="Mend estimator().")]
    return []


def _faults_of_recipes(catalog: Catalog, models: list[Model]) -> tuple[list[Fault], list[str]]:
    """What is found by running recipes, in processes beside one another; and what of them could not be seen."""
    started = _started_by_seed(models)
    try:
        found, unseen = _type_faults(catalog, models)
    finally:
        parameters = _parameters_of(started)
    return [*_order_faults(models, parameters), *found], unseen


def _type_faults(catalog: Catalog, models: list[Model]) -> tuple[list[Fault], list[str]]:
    """What keeps a recipe's fit from being published, found by a small fit; and which recipes had none."""
    from perennial.steps.small_fits import small_fits

    asked = [(model, catalog.sources[model.source]) for model in models if model.source in catalog.sources]
    made = list(zip(asked, small_fits(asked), strict=True))
    faults = [fault for model in models for fault in _faults_of_trust(model)]
    faults += [
        Fault(where=model.where, what=small.refusal.rstrip("."), fix="See docs/types.md.")
        for (model, _), small in made
        if small.refusal
    ]
    unseen = [
        f"{model.name} was not fitted on made-up rows: {small.unseen.rstrip('.')}. "
        "Whether its fit can be published, `make try` tells."
        for (model, _), small in made
        if small.unseen
    ]
    return faults, unseen


def _faults_of_trust(model: Model) -> list[Fault]:
    """Types that a spec names and that no spec can make trusted."""
    from perennial.core.trusted_types import refusal

    return [
        Fault(
            where=model.where,
            what=f"trusted names {name}, which cannot be: {refusal(name)}",
            fix="Leave it out, and make the estimator without it.",
        )
        for name in model.trusted
        if refusal(name)
    ]


def _order_faults(models: list[Model], found: list[list[dict[str, str]]]) -> list[Fault]:
    """Parameters that differ from process to process, found by reading every recipe under several seeds of hashes."""
    return [
        Fault(
            where=model.where,
            what=f"estimator() gives {', '.join(names)} another value in every process: most likely the order of a set",
            fix="Write sorted(…) where a list or text is made of the set.",
        )
        for number, model in enumerate(models)
        if (names := _differing([parameters[number] for parameters in found]))
    ]


def _differing(parameters: list[dict[str, str]]) -> list[str]:
    """The innermost names whose values are not the same everywhere: what is around them shows their values, too."""
    first, *others = parameters
    names = [name for name in first if any(other.get(name) != first[name] for other in others)]
    innermost = max((name.count("__") for name in names), default=0)
    return [name for name in names if name.count("__") == innermost]


def _started_by_seed(models: list[Model]) -> "list[subprocess.Popen[str]]":
    """A process for each seed that tells each model's parameters."""
    named = json.dumps([(fleet_package(model), model.name) for model in models])
    path = os.pathsep.join(sys.path)
    return [
        subprocess.Popen(
            [sys.executable, "-c", f"from perennial.authoring import {tell_parameters.__name__} as tell; tell()", named],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in SEEDS
    ]


def _parameters_of(started: "list[subprocess.Popen[str]]") -> list[list[dict[str, str]]]:
    """Each model's parameters, once for each seed. Raises PerennialError where a process has ended without them."""
    answers = [process.communicate() for process in started]
    for process, (_, said) in zip(started, answers, strict=True):
        if process.returncode:
            raise PerennialError(f"The recipes cannot be read in a process of their own: {said.strip()}")
    return [json.loads(answer.splitlines()[-1]) for answer, _ in answers]


def tell_parameters() -> None:
    """Print the parameters of the models that the command line names, as the last line."""
    specs = [deployed_model(package, name) for package, name in json.loads(sys.argv[1])]
    print(json.dumps([recipe_of(spec).parameters for spec in specs if spec is not None]))


def _suite_faults(source: Source) -> list[Fault]:
    """What is wrong with a source's expectations, found by building their suite."""
    from perennial.core.expectations import Suite

    where = _line_of(source.expectations) or source.where
    try:
        suite = Suite(source, datetime.now(UTC))
    except Exception as error:
        what = f"expectations() cannot be used: {type(error).__name__}: {error}"
        return [Fault(where=where, what=what.rstrip("."), fix="Correct expectations().")]
    strangers = [(rule, set(rule.columns) - set(suite.columns)) for rule in suite.rules]
    return [
        Fault(
            where=where,
            what=f"{rule.name} looks at {', '.join(sorted(missing))}, which columns does not declare",
            fix="Declare the column, or correct expectations().",
        )
        for rule, missing in strangers
        if missing
    ]


def _line_of(function: Any) -> str:
    """``file:line`` of a function; empty where it was not written in Python."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def _address_faults(catalog: Catalog) -> list[Fault]:
    """Alert addresses that Apprise cannot read, by their number: an address may hold a token."""
    from perennial.shell.delivery import is_readable

    specs: list[Fleet | Model | Source] = list(catalog.sources.values())
    for fleet in catalog.fleets.values():
        specs += [fleet.fleet, *fleet.models.values()]
    return [
        Fault(
            where=spec.where,
            what=f"Apprise cannot read alert address {number} of owner {spec.owner.name}",
            fix="Write e.g. mailto://team@example.com; https://appriseit.com/services lists all forms.",
        )
        for spec in specs
        for number, address in enumerate(spec.owner.alerts, start=1)
        if not is_readable(address)
    ]


def new_model(fleet: str, name: str, source: str, target: str = "") -> str:
    """Write a working skeleton, and the fleet where there is none of that name.

    Raises RequestError when the source or target is unknown, a name is none, or the file exists.
    """
    from perennial.skeletons import model_text

    for what, text in (("fleet", fleet), ("model", name)):
        if not is_name(text):
            raise RequestError(f"{text!r} is no {what} name. Use lower case, digits and _.")
    catalog = load_catalog()
    spec = catalog.source(source)
    column = _target(spec, target)
    folder = spec_folder("PERENNIAL_MODELS", "models") / fleet
    path = folder / f"{name}.py"
    if path.exists():
        raise RequestError(f"{path} exists already. Choose another name.")

    if fleet not in catalog.fleets:
        _write_fleet(catalog, folder, spec)
    package = f"{spec_package('PERENNIAL_MODELS', 'models')}.{fleet}"
    path.write_text(model_text(name, fleet, package, _variable_of_fleet(package), spec, column))
    return f"Wrote {path}, which predicts {column}. Edit it, then `make check-models` and `make run FLEET={fleet}`."


def _target(source: Source, asked: str) -> str:
    """The column that a new model predicts. Raises RequestError where there is none."""
    from perennial.skeletons import target_of

    column = asked or target_of(source)
    if column not in [each.name for each in source.declared_columns]:
        raise RequestError(_no_target(source, asked))
    return column


def _write_fleet(catalog: Catalog, folder: Path, source: Source) -> None:
    """Declare a fleet of a source's countries. Raises RequestError where something is there already."""
    from perennial.skeletons import fleet_text

    _refuse_broken_fleet(catalog, folder)
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").write_text(fleet_text(folder.name, sorted(set(source.countries.values()))))
    importlib.invalidate_caches()


def _no_target(source: Source, target: str) -> str:
    names = ", ".join(column.name for column in source.declared_columns)
    if target:
        return f"Source {source.name} has no column {target!r}. It has: {names}."
    return f"Source {source.name} has no number to predict. Name a column, TARGET=…, of: {names}."


def _refuse_broken_fleet(catalog: Catalog, folder: Path) -> None:
    """A fleet that is there and cannot be read is not written over."""
    if (folder / "__init__.py").exists():
        faults = "\n".join(map(str, catalog.all_faults()))
        raise RequestError(f"{folder} is there, and holds no fleet of that name. Correct it first.\n{faults}")


def _variable_of_fleet(package: str) -> str:
    """What a fleet's package calls its declaration."""
    return next(name for name, value in vars(importlib.import_module(package)).items() if isinstance(value, Fleet))


def new_source(name: str, connection: str, table: str, file: str, wanted: Wanted) -> str:
    """Look at a table, or at a file by its key in the Connection's store, and write the spec of a source like it.

    Raises RequestError, naming all that is left to say, and what reaching the table or file raises.
    """
    from perennial.steps.new_source import of_file, of_table, written

    if not is_name(name):
        raise RequestError(f"{name!r} is no source name. Use lower case, digits and _.")
    if bool(table) == bool(file):
        raise RequestError("Say TABLE=…, a table of the Connection's database, or FILE=…, a file of its store.")
    folder = spec_folder("PERENNIAL_SOURCES", "sources")

    def make() -> str:
        if table:
            return of_table(source_dsn(connection), name, connection, table, wanted)
        return of_file(source_store(connection), name, connection, file, wanted)

    path = written(folder, name, make)
    return f"Wrote {path}. Read it and correct its guesses, then `make new-model FLEET=… NAME=… SOURCE={name}`."


def environment_resources() -> Resources:
    """The outside world from environment variables."""
    from perennial.shell.store import open_store

    return Resources(
        database=setting("PERENNIAL_DATABASE_URL"),
        store=open_store(setting("PERENNIAL_STORE_URL")),
        signing_key=key_file("PERENNIAL_SIGNING_KEY"),
        public_keys=key_file("PERENNIAL_PUBLIC_KEYS"),
        source_dsn=source_dsn,
        source_store=source_store,
    )


def source_dsn(name: str) -> str:
    """How to reach a source's database: PERENNIAL_SOURCE_<NAME>, or its Connection in the environment."""
    return os.environ.get(f"PERENNIAL_SOURCE_{name.upper()}") or dsn_of(connection_of(name))


def source_store(name: str) -> Any:
    """The store of a source's files, found as its database would be."""
    from perennial.shell.store import open_store

    url = os.environ.get(f"PERENNIAL_SOURCE_{name.upper()}")
    return open_store(url) if url else open_store(*store_of(connection_of(name)))


def migrate() -> str:
    """Bring the database of PERENNIAL_DATABASE_URL up to date."""
    from perennial.shell.database import migrate as apply

    applied = apply(setting("PERENNIAL_DATABASE_URL"))
    return f"Applied {', '.join(applied)}." if applied else "The database is up to date."


def audit(deep: bool) -> str:
    """Check registry, lake and store against every rule. Raises RulesBroken with the violations."""
    from perennial.steps.audit import examine

    findings = examine(environment_resources(), load_catalog(), deep=deep)
    lines = findings.lines()
    if findings.violations:
        raise RulesBroken("\n".join([*lines, "", *map(str, findings.violations)]))
    return "\n".join(lines)


def resign(former: list[Path]) -> str:
    """Sign manifests and pointers again by the signing key. Raises ArtifactError, naming what was not signed."""
    from perennial.steps.resign import resign as step

    done = step(environment_resources(), former)
    said = f"Signed again: {done.manifests} manifests, {done.pointers} pointers."
    if done.refused:
        raise ArtifactError("\n".join([said, "Not signed, and to be looked at:", *done.refused]))
    return f"{said} `audit` names what other keys still sign."


def deployment() -> str:
    """Whose registry it is: what readers may be given."""
    from perennial.shell.database import connect
    from perennial.shell.registry import deployment_of

    database = connect(setting("PERENNIAL_DATABASE_URL"))
    try:
        found = deployment_of(database)
    finally:
        database.close()
    return f"deployment {found.id}, generation {found.generation}"


def restored(reason: str, is_copy: bool) -> str:
    """Begin a generation of the registry, and write every pointer again."""
    from perennial.steps.pointers import begin_generation

    begun, number = begin_generation(environment_resources(), load_catalog(), reason, is_copy)
    left = " Its manifests still name the other deployment: python -m perennial resign." if is_copy else ""
    return f"Deployment {begun.id}, generation {begun.generation}: {number} pointers written.{left}"


def try_cell(model: str, country: str) -> str:
    """Train and judge one cell on what the lake holds, in this process; nothing is published.

    Raises PerennialError where the cell failed, also for a fit that could not be published.
    """
    from perennial.shell.database import connect, fetch, run
    from perennial.steps.plan import Request, plan
    from perennial.steps.train import train

    resources, catalog = environment_resources(), load_catalog()
    fleet = _fleet_of(catalog, model)
    run_id = f"try/{Cell(model, country)}/{uuid.uuid4().hex[:8]}"
    request = Request(models=(model,), countries=(country,), force=True, dry_run=True)
    if plan(resources, catalog, fleet.fleet.name, run_id, request).cells == 0:
        raise RequestError(
            f"Source {fleet.models[model].source} has no accepted rows yet. Run `make run FLEET={fleet.fleet.name}` first."
        )
    train(resources, catalog, run_id)
    database = connect(resources.database)
    try:
        outcome = fetch(database, "outcomes_of", run_id=run_id)[0]
        run(database, "finish_run", id=run_id)
    finally:
        database.close()
    said = f"{Cell(model, country)}: {outcome.reason} ({outcome.seconds or 0:.1f} s)"
    if outcome.state == "failed":
        raise PerennialError(said)
    return said


def _fleet_of(catalog: Catalog, model: str) -> FleetSpecs:
    for specs in catalog.fleets.values():
        if model in specs.refused:
            raise SpecError(specs.refused[model].faults)
        if model in specs.models:
            return specs
    names = sorted(name for specs in catalog.fleets.values() for name in specs.models)
    raise RequestError(f"There is no model {model!r}. There are: {', '.join(names)}.")


def _recipes_in_force() -> list[tuple[Model, Any]]:
    """Every recipe that a champion or a rollback target needs."""
    from perennial.shell.database import connect, fetch

    database = connect(setting("PERENNIAL_DATABASE_URL"))
    try:
        models = [model for specs in load_catalog().fleets.values() for model in specs.models.values()]
        return [(model, row) for model in models for row in fetch(database, "recipes_in_force", model=model.name)]
    finally:
        database.close()


def _missing_recipe(model: Model, recipe_hash: str) -> Fault:
    what = f"recipe {recipe_hash[:16]} of model {model.name} is still in force, and the tree has lost it"
    return Fault(where=model.where, what=what, fix="Run `make freeze` and commit the file.")


def freeze() -> str:
    """Write the recipes that champions and rollback targets need, and the tree lacks, into their fleets' ``_past``."""
    written = [_write_past(model, row) for model, row in _recipes_in_force() if not _has_code(model, row)]
    return f"Wrote {', '.join(map(str, written))}. Commit and deploy." if written else "Nothing to freeze."


def _has_code(model: Model, row: Any) -> bool:
    try:
        code_of(model, row.recipe, row.parameters)
    except RecipeMissing:
        return False
    return True


def _write_past(model: Model, row: Any) -> Path:
    folder = Path(importlib.import_module(fleet_package(model)).__path__[0]) / "_past"
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    path = folder / f"r_{row.recipe[:16]}.py"
    path.write_text(frozen_text(model, row.source, row.parameters))
    importlib.invalidate_caches()
    code_of(model, row.recipe)
    return path
