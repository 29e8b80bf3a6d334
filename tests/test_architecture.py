"""The rules of the house (docs and STYLE), read off the syntax trees."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PERENNIAL, PLUGINS, DAGS = ROOT / "include/perennial", ROOT / "plugins", ROOT / "dags"
QUERIES = PERENNIAL / "shell/queries"
HEAVY = ("pandas", "sklearn", "great_expectations", "skops", "boto3", "psycopg2", "pyarrow")
OUTSIDE = {
    "boto3", "botocore", "http", "multiprocessing", "os", "pathlib", "psycopg2", "requests", "shutil", "signal", "socket",
    "sqlalchemy", "subprocess", "tempfile", "time", "urllib",
}  # fmt: skip
CATCH_ALL = {
    "catalog.py:_load_fleets": "a fleet that cannot be imported must not hide the others",
    "catalog.py:_load_sources": "a source that cannot be imported must not hide the others",
    "catalog.py:_import_models": "a model that cannot be imported must not hide the others",
    "catalog.py:_faults_of": "a spec whose values are of a wrong type must not hide the others",
    "failures.py:_said": "an error that cannot say what it is about is still an error's",
    "authoring.py:_recipe_faults": "estimator() is the user's code: all faults are reported at once",
    "core/artifacts.py:decode_estimator": "whatever skops says of bytes it cannot read, they are refused",
    "steps/small_fits.py:small_fit": "a recipe is the user's code, and its rows are made up: all others are tried",
    "shell/forks.py:_descriptor": "each library has an error of its own for what is closed",
    "shell/forks.py:_do_and_end": "whatever its work raises, a fork ends, and does nothing of what its original would do",
    "steps/land_files.py:_parsed": "whatever a file does to its reader, the others land",
    "authoring.py:_suite_faults": "expectations() is the user's code: all faults are reported at once",
    "steps/document.py:_documented": "a page that cannot be made changes no decision, and is tried again",
    "steps/validate.py:_conclude_safely": "a validation that cannot run counts as failed, for its batch only",
    "steps/validate.py:_judge": "a suite that crashes counts as failed, for the batches it crashes on",
    "steps/validate.py:_validate_turn": "a batch that cannot be read counts as failed, and the others go on",
    "steps/validate.py:_decide_all": "a suite that cannot be built counts as failed",
    "steps/material.py:_examples_of_champion": "whatever a champion's own recipe raises, the cell fails with whose code it is",
    "steps/cell.py:_predicted": "whatever a champion's own code raises, it cannot predict: the challenger is judged alone",
    "steps/rebuild.py:_fitted_again": "whatever a recipe raises with another library, its champion is not rebuilt, and says so",
    "steps/source_report.py:report": "whatever happens to a message, a run's result is its own",
    "steps/tell.py:tell": "whatever happens to a message, a run's result is its own",
    "steps/tell.py:tell_of_losses": "whatever happens to a message, a run's result is its own",
    "steps/train.py:_isolated": "the one place where a cell's error is kept from the others",
    "shell/child.py:_answer": "the process answers with its error instead of dying of it",
    "steps/verifier.py:_answer": "the process answers with its error instead of dying of it",
}
BY_HAND = {"hold": "a person's act, not a step's: whatever people hold cells with is to call it"}
LIMITS = {"dag file": 60, "function": 40}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def name_of(file: Path) -> str:
    return file.relative_to(PERENNIAL if file.is_relative_to(PERENNIAL) else ROOT).as_posix()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), filename=str(file))


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, ``from a import b`` as ``a`` and ``a.b``."""
    found = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            found |= {str(node.module), *(f"{node.module}.{item.name}" for item in node.names)}
    return found


def roots(file: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(file)}


def functions(file: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of a file with its qualified name."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield f"{prefix}{child.name}", child
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)

    return walk(tree_of(file), "")


def calls(file: Path, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def test_the_domain_never_imports_airflow_nor_the_plugin():
    outward = {"airflow", "perennial_airflow", "embedded", "worlds", "models", "sources"}
    assert {name_of(file): roots(file) & outward for file in files(PERENNIAL) if roots(file) & outward} == {}


def test_code_says_perennial_and_never_include_perennial():
    folders = (PERENNIAL, PLUGINS, DAGS, ROOT / "include/models", ROOT / "include/sources")
    assert [file for folder in folders for file in files(folder) if "include" in roots(file)] == []


def test_core_and_shell_do_not_import_each_other():
    for room, other in (("core", "shell"), ("shell", "core")):
        strangers = {module for file in files(PERENNIAL / room) for module in imports(file)}
        assert not {module for module in strangers if module.startswith((f"perennial.{other}", "perennial.steps"))}


def test_the_core_talks_to_nothing_outside_memory():
    assert {name_of(file): roots(file) & OUTSIDE for file in files(PERENNIAL / "core") if roots(file) & OUTSIDE} == {}


def test_only_steps_client_and_authoring_join_core_and_shell():
    rooms = ("core", "shell", "steps")
    ground = [file for file in files(PERENNIAL) if file.relative_to(PERENNIAL).parts[0] not in rooms]
    inward = {
        file.name
        for file in ground
        if any(module.startswith(tuple(f"perennial.{room}" for room in rooms)) for module in imports(file))
    }
    assert inward == {"client.py", "authoring.py", "resources.py"}  # resources: only the type of the store


def test_only_the_border_knows_the_shell_on_airflows_side():
    knowing = {file.name for file in files(PLUGINS) if any(m.startswith("perennial.shell") for m in imports(file))}
    assert knowing <= {"border.py"}


@pytest.mark.parametrize("packages", ["", "'toy_models', 'toy_sources'"], ids=["the deployed specs", "the specs of the tests"])
def test_reading_the_specs_imports_nothing_heavy(packages):
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT / 'include'), str(ROOT / 'tests/specs')]}\n"
        f"from perennial.catalog import load_catalog\n"
        f"assert load_catalog({packages}).all_faults() == (), load_catalog({packages}).all_faults()\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")


def test_nothing_pickles():
    picklers = {"pickle", "cPickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}
    everything = [*files(PERENNIAL), *files(PLUGINS), *files(DAGS)]
    assert {str(file): imports(file) & picklers for file in everything if imports(file) & picklers} == {}


def test_nothing_is_evaluated_or_given_to_a_shell():
    for file in (*files(PERENNIAL), *files(PLUGINS), *files(DAGS)):
        assert not list(calls(file, {"eval", "exec", "compile", "__import__"})), file
        assert "shell=True" not in file.read_text()


@pytest.mark.parametrize("file", files(DAGS), ids=lambda file: file.name)
def test_a_dag_file_is_one_page_with_a_docstring_for_the_operator(file):
    assert len(file.read_text().splitlines()) <= LIMITS["dag file"]
    assert len((ast.get_docstring(tree_of(file)) or "").splitlines()) >= 3


@pytest.mark.parametrize("file", files(DAGS), ids=lambda file: file.name)
def test_a_dag_file_is_wiring_without_task_bodies_or_decisions(file):
    forbidden = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If | ast.IfExp | ast.While | ast.Try
    assert not [node.lineno for node in ast.walk(tree_of(file)) if isinstance(node, forbidden)]


@pytest.mark.parametrize("file", [*files(DAGS), *files(PLUGINS)], ids=lambda file: file.name)
def test_parsing_asks_neither_variables_nor_connections(file):
    top = [node for node in tree_of(file).body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    asked = [ast.unparse(node) for node in top if re.search(r"\b(Variable|Connection)\.get\b|connect\(", ast.unparse(node))]
    assert asked == []


def test_errors_are_caught_whole_only_where_the_list_says_why():
    found = set()
    for file in (*files(PERENNIAL), *files(PLUGINS), *files(DAGS)):
        for name, function in functions(file):
            handlers = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)]
            if any(_catches_all(handler) for handler in handlers):
                found.add(f"{name_of(file)}:{name}")
    assert found == set(CATCH_ALL)


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = "BaseException" if handler.type is None else ast.unparse(handler.type)
    raises_again = ast.unparse(handler.body[-1]) == "raise"
    return re.search(r"\b(Base)?Exception\b", caught) is not None and not raises_again


def test_every_query_is_defined_once():
    names = [name for file in QUERIES.glob("*.sql") for name in re.findall(r"^-- (\w+): ", file.read_text(), re.MULTILINE)]
    assert sorted(names) == sorted(set(names))


def test_every_query_says_what_it_is_for():
    for file in QUERIES.glob("*.sql"):
        comments = [line for line in file.read_text().splitlines() if line.startswith("--")]
        assert [line for line in comments if not re.fullmatch(r"-- \w+: \S.*", line)] == []


def test_every_query_that_is_used_exists_and_every_query_is_used():
    from perennial.shell.database import queries

    callers = [*files(PERENNIAL), *files(ROOT / "include/embedded"), *files(PLUGINS)]
    used = {
        text
        for file in callers
        for call in calls(file, {"fetch", "fetch_one", "run", "copy_into", "_ask", "ask"})
        for text in [node.value for node in call.args if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    }
    own = {name for name in used if re.fullmatch(r"[a-z_]+", name)}
    assert own == set(queries()) - set(BY_HAND)


def test_queries_are_named_where_they_are_used():
    for file in files(PERENNIAL / "steps"):
        for call in calls(file, {"fetch", "fetch_one"}):
            assert isinstance(call.args[1], ast.Constant), f"{name_of(file)}:{call.lineno}"


def test_sql_stands_in_sql_files():
    statement = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|LISTEN|NOTIFY)\s+[\w*(]", re.ASCII)
    # migrations' own table; SQL composed from a source's spec, and from the name of a table that has none yet
    allowed = {"shell/database.py", "shell/postgres_source.py", "shell/looks.py"}
    found = {
        name_of(file)
        for file in (*files(PERENNIAL), *files(PLUGINS), *files(DAGS))
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.match(node.value)
    }
    assert found <= allowed


def test_no_statement_is_put_together_from_strings():
    for file in (*files(PERENNIAL), *files(PLUGINS)):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("execute"):
                assert not isinstance(node.args[0], ast.JoinedStr | ast.BinOp), f"{name_of(file)}:{node.lineno}"


@pytest.mark.parametrize("file", [*files(PERENNIAL), *files(PLUGINS)], ids=name_of)
def test_what_is_public_has_a_docstring(file):
    module = tree_of(file)
    assert ast.get_docstring(module) or not module.body
    public = [
        node
        for scope in (module, *(node for node in module.body if isinstance(node, ast.ClassDef)))
        for node in scope.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    inherited = {name for base in ("Store",) for name in _methods(base)}
    assert [f"{node.name}:{node.lineno}" for node in public if not ast.get_docstring(node) and node.name not in inherited] == []


def _methods(protocol: str) -> list[str]:
    store = tree_of(PERENNIAL / "shell/store.py")
    (found,) = [node for node in store.body if isinstance(node, ast.ClassDef) and node.name == protocol]
    return [node.name for node in found.body if isinstance(node, ast.FunctionDef)]


def test_a_function_fits_on_a_screen():
    long = {}
    for file in (*files(ROOT / "include"), *files(PLUGINS), *files(DAGS)):
        for name, function in functions(file):
            nested = sum(_lines(child) for child in ast.walk(function) if child is not function and _is_function(child))
            lines = _lines(function) - nested
            if lines > LIMITS["function"]:
                long[f"{name_of(file)}:{name}"] = lines
    assert long == {}


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef)


def _lines(function: ast.AST) -> int:
    """Lines of a function without its docstring."""
    assert isinstance(function, ast.FunctionDef)
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return _span(function) - (_span(first) if documented else 0)


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_nothing_is_left_to_do_later():
    later = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
    listing = ["git", "ls-files", "-co", "--exclude-standard"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / line for line in tracked.stdout.splitlines() if (ROOT / line).is_file()]
    texts = [path for path in paths if path.suffix in {".py", ".sql", ".md", ".yaml", ".toml", ".sh", ".in", ""}]
    assert [str(path) for path in texts if later.search(path.read_text(errors="replace"))] == []


def test_modules_of_the_tests_can_be_imported_in_one_process():
    packaged = {file.parent for file in (ROOT / "tests").rglob("__init__.py")}
    modules = [file for file in files(ROOT / "tests") if file.parent not in packaged and file.stem != "conftest"]
    names = Counter(file.stem for file in modules)
    assert [name for name, number in names.items() if number > 1] == []
    assert [name_of(file) for file in files(ROOT / "tests") if "conftest" in imports(file)] == []


def test_the_plugin_package_is_not_loaded_as_a_plugin_of_its_own():
    assert "perennial_airflow/" in (PLUGINS / ".airflowignore").read_text().splitlines()
    assert not [file for file in PLUGINS.glob("*.py") if "AirflowPlugin" not in file.read_text()]


def test_the_image_sets_its_libraries_up_as_make_run_does():
    from embedded.components import LIBRARIES

    said = dict(re.findall(r"(\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    assert {name: said.get(name) for name in LIBRARIES} == LIBRARIES
