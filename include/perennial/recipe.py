"""A recipe's identity: a hash over the normalised code and parameters of what makes a fitted model what it is.

The text behind the hash is a module of its own: the functions, the constants and functions of the deployed tree that they
use, of the fleet's package or of another, and the imports those need. Installed libraries and Perennial itself are imported.
``make freeze`` writes that text to the fleet's ``_past`` folder.
"""

import ast
import builtins
import hashlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import symtable
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from pprint import pformat
from types import ModuleType
from typing import Any

from perennial.errors import Fault, RecipeMissing, SpecError
from perennial.spec import Model

ROOTS = ("examples", "features", "estimator")
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
RECORDED = "RECORDED_PARAMETERS"
INSTALLED = {"site-packages", "dist-packages"}
NAMESPACE = ast.ImportFrom(module="types", names=[ast.alias(name="SimpleNamespace")], level=0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """``hash`` identifies the recipe, ``source`` is a module that holds all of it, ``parameters`` are the estimator's."""

    hash: str
    source: str
    parameters: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RecipeCode:
    """The functions of one recipe, of today or of the past."""

    examples: Callable[..., Any]
    features: Callable[..., Any]


@cache
def recipe_of(model: Model) -> Recipe:
    """Read the recipe of a model out of the deployed tree, once per process.

    Raises SpecError when a function cannot be followed: two different things of one name, or source that is missing.
    """
    statements, parameters = _Collector(model).collect(), _parameters(model)
    return Recipe(hash=_digest(statements, parameters), source=_module_text(statements), parameters=parameters)


def _digest(statements: list[ast.stmt], parameters: dict[str, str]) -> str:
    normalised = [ast.dump(_without_docstrings(statement)) for statement in statements]
    return hashlib.sha256(json.dumps([sorted(normalised), parameters]).encode()).hexdigest()


def _parameters(model: Model) -> dict[str, str]:
    """The estimator's parameters as text; a set's elements have the same order in every process."""
    estimator = model.estimator()
    given = {name: (value, _ordered(value)) for name, value in estimator.get_params().items()}
    sets = {name: ordered for name, (value, ordered) in given.items() if ordered is not value}
    if sets:
        estimator.set_params(**sets)  # so that estimators that hold them show them in this order, too
    return {name: ADDRESS.sub("", repr(value)) for name, value in sorted(estimator.get_params().items())}


class _Ordered:
    """Stands for a set, and is shown as that with its elements in order."""

    def __init__(self, of: "set[Any] | frozenset[Any]") -> None:
        elements = ", ".join(sorted(repr(_ordered(element)) for element in of))
        self.text = f"{{{elements}}}" if isinstance(of, set) else f"frozenset({{{elements}}})"

    def __repr__(self) -> str:
        return self.text


def _ordered(value: Any) -> Any:
    """A value whose sets are shown in order; the value itself where it holds none."""
    if isinstance(value, set | frozenset):
        return _Ordered(value) if value else value
    if type(value) is dict:
        changed = {key: _ordered(item) for key, item in value.items()}
        return changed if any(changed[key] is not value[key] for key in value) else value
    if type(value) in (list, tuple):
        items = [_ordered(item) for item in value]
        is_changed = any(new is not old for new, old in zip(items, value, strict=True))
        return type(value)(items) if is_changed else value
    return value


def code_of(model: Model, recipe_hash: str, recorded: Mapping[str, str] | None = None) -> RecipeCode:
    """The functions of the recipe with this hash, as `model_of`."""
    made = model_of(model, recipe_hash, recorded)
    return RecipeCode(examples=made.examples, features=made.features)


def model_of(model: Model, recipe_hash: str, recorded: Mapping[str, str] | None = None) -> Model:
    """The model with the functions of the recipe with this hash: today's, or frozen ones.

    ``recorded``: the parameters that the recipe is on record with. By another version of a library
    the same code shows others; it is the same recipe. Raises RecipeMissing, naming the fix.
    """
    if _is_todays(model, recipe_hash, recorded):
        return model
    past = _past_module(model, recipe_hash)
    held = _frozen_hash(model, past)
    if held != recipe_hash:
        raise RecipeMissing(f"{past.__file__} was edited: it holds recipe {held}. Restore it, or `make freeze`.")
    return past_model(model, past)


def _is_todays(model: Model, recipe_hash: str, recorded: Mapping[str, str] | None) -> bool:
    if recipe_of(model).hash == recipe_hash:
        return True
    return recorded is not None and _recorded_hash(model, tuple(sorted(recorded.items()))) == recipe_hash


@cache
def _recorded_hash(model: Model, recorded: tuple[tuple[str, str], ...]) -> str:
    """The hash of today's code with the parameters on record."""
    return _digest(_Collector(model).collect(), dict(recorded))


@cache
def _frozen_hash(model: Model, past: ModuleType) -> str:
    """The hash of a frozen recipe, by the parameters on record: another process or library may show others."""
    frozen, recorded = past_model(model, past), vars(past).get(RECORDED)
    if recorded is None:
        return recipe_of(frozen).hash
    return _digest(_Collector(frozen).collect(), dict(sorted(recorded.items())))


def frozen_text(model: Model, source: str, parameters: dict[str, str]) -> str:
    """The file that keeps a recipe on record."""
    said = f'"""Superseded recipe of {model.name}, still in force somewhere. Written by `make freeze`."""'
    return f"{said}\n\n{source}\n{RECORDED} = {pformat(parameters, width=100)}\n"


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Where a superseded recipe's code stands: ``module`` holds what an artifact names of the fleet's ``package``.

    ``missing``: why it is not there, and the fix; empty where it is.
    """

    package: str
    module: str = ""
    missing: str = ""

    def is_own(self, name: str) -> bool:
        """Whether a type or module is the fleet's."""
        return name.startswith(f"{self.package}.")

    def renamed(self, name: str) -> str:
        """A type's name, taken from the frozen module if it is the fleet's."""
        return f"{self.module}.{name.rpartition('.')[2]}" if self.is_own(name) else name


def frozen_of(model: Model, recipe_hash: str, recorded: Mapping[str, str] | None = None) -> Frozen | None:
    """Where to take the functions and classes of the fleet from that a version of this recipe has in its artifact.

    None where that is today's tree. Where the tree has lost them it says so, and nothing is raised:
    most artifacts name none. ``recorded`` is that of `model_of`.
    """
    if _is_todays(model, recipe_hash, recorded):
        return None
    package = fleet_package(model)
    try:
        return Frozen(package=package, module=code_of(model, recipe_hash, recorded).examples.__module__)
    except RecipeMissing as error:
        return Frozen(package=package, missing=str(error))


def deployed_model(package: str, name: str) -> Model | None:
    """The spec of a model in a fleet's package as it is deployed here; None where there is none."""
    try:
        path = importlib.import_module(package).__path__
    except ModuleNotFoundError:
        return None
    modules = [info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_")]
    specs = [vars(importlib.import_module(f"{package}.{module}")).values() for module in modules]
    found = (spec for values in specs for spec in values if isinstance(spec, Model) and spec.name == name)
    return next(found, None)


def past_model(model: Model, past: ModuleType) -> Model:
    """The model with the functions of a frozen module in place of today's."""
    fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
    return Model(**{**fields, **{root: getattr(past, root) for root in ROOTS}})


def _past_module(model: Model, recipe_hash: str) -> ModuleType:
    name = f"{fleet_package(model)}._past.r_{recipe_hash[:16]}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise RecipeMissing(
            f"Model {model.name} was edited while a version of recipe {recipe_hash[:16]} is still in force, and the tree "
            f"has no {name.replace('.', '/')}.py. Run `make freeze` and deploy the file. Where nobody edited it, a library "
            "has changed, or its estimator's parameters hold the order of a set: `make check-models` tells."
        ) from error


def fleet_package(model: Model) -> str:
    """The package that holds the model's file, such as ``models.shop``."""
    return model.examples.__module__.split("._past")[0].rpartition(".")[0]


class _Collector:
    """Follows names from a model's functions through the modules of its fleet, and others of the deployed tree.

    A module of another package that is used as ``common.clean`` becomes a namespace of what is used of it.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.package = fleet_package(model)
        self.found: dict[str, ast.stmt] = {}
        self.namespaces: dict[str, tuple[str, set[str]]] = {}
        self.trees: dict[str, dict[str, ast.stmt]] = {}

    def collect(self) -> list[ast.stmt]:
        """Every statement of the recipe, imports first, each after what it uses."""
        known = -1
        while known < self._used_of_namespaces():  # once more, with all that is used of each namespace
            known, self.found = self._used_of_namespaces(), {}
            for root in ROOTS:
                function = getattr(self.model, root)
                self._add(function.__name__, function.__module__, alias=root)
        imports = [node for node in self.found.values() if isinstance(node, ast.Import | ast.ImportFrom)]
        return imports + [node for node in self.found.values() if node not in imports]

    def _add(self, name: str, module: str, alias: str | None = None) -> None:
        node = self._definitions(module).get(name)
        if node is None:
            if alias is not None or not hasattr(builtins, name):
                self._refuse(f"{name} is not defined at the top level of {module}", "Define it there, by name.")
            return
        if isinstance(node, ast.ImportFrom) and self._is_followed_by_name(node, name, module):
            original = next(item.name for item in node.names if (item.asname or item.name) == name)
            if original != name:
                self._refuse(f"{original} is imported as {name}", "Import functions of the fleet by their own name.")
            self._add(name, str(node.module), alias)
            return
        if self._imports_fleet(node):
            self._refuse(f"{name} is imported as a module or relatively", f"Write from {self.package}.… import …, by name.")
        self._refuse_hidden_imports(name, node)
        self._keep(name, node, alias)
        for used in _names_used(node):
            if used != name and self._is_of_module(used, module):
                self._add_used(used, module, node)
        self.found[name] = self.found.pop(name)  # after what it uses: frozen, it may need that when it is defined

    def _add_used(self, used: str, module: str, user: ast.stmt) -> None:
        target = self._module_named(used, module)
        if target is None:
            self._add_once(used, module)
        else:
            self._add_namespace(used, target, _attributes_used(used, user))

    def _add_namespace(self, name: str, target: str, attributes: set[str]) -> None:
        """What is used of a module under its name: ``name = SimpleNamespace(clean=clean)``."""
        if not attributes or self.namespaces.setdefault(name, (target, set()))[0] != target:
            self._refuse(f"module {target} is used as {name}", f"Write from {target} import …, by name.")
        known = self.namespaces[name][1]
        if not attributes <= known:
            self.found.pop(name, None)
        known |= attributes
        for attribute in sorted(known):
            self._add_once(attribute, target)
        fields = ", ".join(f"{attribute}={attribute}" for attribute in sorted(known))
        statement = ast.parse(f"{name} = SimpleNamespace({fields})").body[0]
        self.found["SimpleNamespace"] = NAMESPACE
        self._keep(name, statement, None)

    def _is_followed_by_name(self, node: ast.ImportFrom, name: str, module: str) -> bool:
        if self._in_fleet(node.module):
            return True
        is_followed = self._is_followed(node.module) and not self._imports_fleet(node)
        return is_followed and self._module_named(name, module) is None

    def _used_of_namespaces(self) -> int:
        return sum(len(attributes) for _, attributes in self.namespaces.values())

    def _module_named(self, name: str, module: str) -> str | None:
        """The module of the deployed tree, outside of the fleet, that a name of a module stands for."""
        node, bound = self._definitions(module).get(name), vars(sys.modules[module]).get(name)
        if not isinstance(node, ast.Import | ast.ImportFrom) or not isinstance(bound, ModuleType):
            return None
        is_followed = self._is_followed(bound.__name__) and not self._imports_fleet(node)
        if is_followed and isinstance(node, ast.Import) and node.names[0].asname is None and "." in node.names[0].name:
            whole = node.names[0].name
            self._refuse(f"{whole} is imported as a module", f"Write from {whole} import …, by name.")
        return bound.__name__ if is_followed else None

    def _is_of_module(self, name: str, module: str) -> bool:
        if name in self._definitions(module):
            return True
        if name in vars(sys.modules[module]) and not name.startswith("__"):
            self._refuse(f"{name} is not defined by a plain statement at the top level of {module}", "Write one: name = value.")
        return False

    def _add_once(self, name: str, module: str) -> None:
        node = self._definitions(module).get(name)
        if name not in self.found or node is None or ast.dump(self.found[name]) != ast.dump(node):
            self._add(name, module)

    def _keep(self, name: str, node: ast.stmt, alias: str | None) -> None:
        if alias is not None and name != alias:
            self._refuse(f"{alias}={name}", f"Name the function {alias}, so that a frozen recipe can stand alone.")
        if name in self.found and ast.dump(self.found[name]) != ast.dump(node):
            self._refuse(f"two different things are called {name}", "Rename one.")
        self.found[name] = node

    def _definitions(self, module: str) -> dict[str, ast.stmt]:
        if module not in self.trees:
            tree = ast.parse(inspect.getsource(sys.modules.get(module) or importlib.import_module(module)))
            self.trees[module] = dict(_top_level(tree))
        return self.trees[module]

    def _refuse_hidden_imports(self, name: str, node: ast.stmt) -> None:
        for part in ast.walk(node):
            if self._imports_fleet(part):
                self._refuse(f"{name} imports from {self.package} inside its body", "Import it at the top of the file.")
            if part is not node and any(self._is_followed(module) for module in _modules_imported(part)):
                self._refuse(f"{name} imports a module of the tree inside its body", "Import it at the top of the file.")

    def _imports_fleet(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(self._in_fleet(item.name) for item in node.names)
        if isinstance(node, ast.ImportFrom):
            modules = (node.module, *(f"{node.module}.{item.name}" for item in node.names))
            return node.level > 0 or any(map(self._in_fleet, modules))
        return False

    def _in_fleet(self, module: str | None) -> bool:
        return module is not None and (module == self.package or module.startswith(f"{self.package}."))

    def _is_followed(self, module: str | None) -> bool:
        return module is not None and (self._in_fleet(module) or is_deployed(module.partition(".")[0]))

    def _refuse(self, what: str, fix: str) -> None:
        raise SpecError([Fault(where=self.model.where, what=f"the recipe cannot be read: {what}", fix=fix)])


@cache
def is_deployed(package: str) -> bool:
    """Whether a package is part of the deployed tree: no library that is installed, and not Perennial itself."""
    if package in ("", __package__) or package in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(package)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(package)
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location else [*(spec.submodule_search_locations or ())]
    return bool(places) and not any(INSTALLED & set(PurePath(str(place)).parts) for place in places)


def _modules_imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [item.name for item in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def _top_level(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for item in node.names:
                yield (item.asname or item.name).split(".")[0], _one_import(node, item)


def _one_import(node: ast.Import | ast.ImportFrom, item: ast.alias) -> ast.stmt:
    if isinstance(node, ast.Import):
        return ast.Import(names=[item])
    return ast.ImportFrom(module=node.module, names=[item], level=node.level)


def _names_used(node: ast.stmt) -> list[str]:
    """Names a statement reads from its module: arguments and variables of its own are not among them.

    What is loaded and is nowhere an argument or a variable is taken as it stands, so that recorded hashes hold. A name that
    is one in some inner function, and in another place the module's, is told by Python's own rules.
    """
    parts = list(ast.walk(node))
    names = [part for part in parts if isinstance(part, ast.Name)]
    own = {part.arg for part in parts if isinstance(part, ast.arg)}
    if isinstance(node, ast.FunctionDef):
        own |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    loaded = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    return sorted(loaded - own | _globals_read(node))


def _globals_read(node: ast.stmt) -> set[str]:
    """What a statement and the functions inside it look up in their module, by Python's rules of scope."""
    waiting, found = [symtable.symtable(ast.unparse(node), "recipe", "exec")], set()
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        looks_in_module = table.get_type() in ("module", "class")
        read = (symbol for symbol in table.get_symbols() if symbol.is_referenced())
        found |= {symbol.get_name() for symbol in read if looks_in_module or symbol.is_global()}
    return found


def _attributes_used(name: str, node: ast.stmt) -> set[str]:
    """What a statement uses of a module by its name; nothing where it uses the module as a whole, too."""
    parts = list(ast.walk(node))
    owners = [part for part in parts if isinstance(part, ast.Attribute)]
    used = [part.attr for part in owners if isinstance(part.value, ast.Name) and part.value.id == name]
    mentions = sum(isinstance(part, ast.Name) and part.id == name for part in parts)
    return set(used) if len(used) == mentions else set()


def _without_docstrings(statement: ast.stmt) -> ast.stmt:
    copy = ast.parse(ast.unparse(statement)).body[0]
    for node in ast.walk(copy):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return copy


def _module_text(statements: list[ast.stmt]) -> str:
    return "\n\n".join(ast.unparse(ast.fix_missing_locations(statement)) for statement in statements) + "\n"
