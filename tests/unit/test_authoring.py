"""What `make check-models` refuses beyond the specs' own faults."""

import pytest
from trees import FLEET, MODEL, SOURCE

from perennial import authoring
from perennial.errors import PerennialError, SpecError


@pytest.fixture
def checked(tree, monkeypatch):
    """Checks the tree; returns the faults."""

    def check():
        monkeypatch.delenv("PERENNIAL_DATABASE_URL", raising=False)
        monkeypatch.setattr(authoring, "load_catalog", tree.catalog)
        try:
            authoring.check_models()
        except SpecError as error:
            return str(error).splitlines()
        return []

    return check


STOP_WORDS = """WORDS = {"gull", "heron", "stork", "crane"}


def estimator():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(stop_words=WORDS), Ridge())"""


def of_words(words):
    """The toy model with an estimator that has such stop words."""
    start, end = MODEL.index("def estimator"), MODEL.index("\n\n\nweight = Model")
    return MODEL[:start] + STOP_WORDS.replace("stop_words=WORDS", f"stop_words={words}") + MODEL[end:]


def test_a_list_in_the_order_of_a_set_is_a_fault_that_names_parameter_and_fix(tree, checked):
    tree.model(of_words("list(WORDS)"))
    (fault,) = checked()
    assert "estimator() gives tfidfvectorizer__stop_words another value in every process" in fault
    assert fault.endswith("Write sorted(…) where a list or text is made of the set.")


@pytest.mark.parametrize("words", ["WORDS", "frozenset(WORDS)", "sorted(WORDS)"])
def test_a_set_and_a_sorted_list_are_no_fault(tree, checked, words):
    tree.model(of_words(words))
    assert checked() == []


def test_recipes_that_cannot_be_read_in_another_process_are_said_so(tree, monkeypatch):
    model = tree.weight()
    monkeypatch.setattr(authoring.sys, "path", [])
    with pytest.raises(PerennialError, match=r"(?s)cannot be read in a process of their own: .*ModuleNotFoundError"):
        authoring._parameters_of(authoring._started_by_seed([model]))


PICKING = """def estimator():
    from operator import itemgetter

    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(itemgetter(["length"])), Ridge())"""


def with_estimator(text):
    start, end = MODEL.index("def estimator"), MODEL.index("\n\n\nweight = Model")
    return MODEL[:start] + text + MODEL[end:]


def test_a_type_that_nobody_trusts_is_a_fault_before_anything_is_published(tree, checked):
    path = tree.model(with_estimator(PICKING))
    (fault,) = checked()
    assert fault.startswith(f"{path}:")
    assert "The artifact needs types that are not trusted: operator.itemgetter. " in fault
    assert fault.endswith('that is trusted=("operator.itemgetter",). See docs/types.md.')


def test_a_type_that_nobody_can_make_trusted_is_a_fault(tree, checked):
    tree.model(MODEL.replace('metric="rmse",', 'metric="rmse", trusted=("subprocess.Popen", "collections.deque"),'))
    (fault,) = checked()
    assert "trusted names subprocess.Popen, which cannot be: it is of Python's own library" in fault


def test_a_recipe_that_fails_on_made_up_rows_is_no_fault_and_is_said_so(tree, monkeypatch):
    tree.model(MODEL.replace("    known = rows", '    rows["lenght"]\n    known = rows'))
    monkeypatch.delenv("PERENNIAL_DATABASE_URL", raising=False)
    monkeypatch.setattr(authoring, "load_catalog", tree.catalog)
    said = authoring.check_models().splitlines()
    assert said[0].startswith("1 models of 1 fleets, 1 sources: no fault.")
    assert said[1].startswith("weight was not fitted on made-up rows: KeyError: 'lenght' in examples, ")
    assert said[1].endswith("Whether its fit can be published, `make try` tells.")


def test_addresses_that_apprise_can_read_are_no_fault(tree, checked):
    tree.model(MODEL.replace('Owner("keepers")', 'Owner("keepers", alerts=("mailto://keepers@example.com",))'))
    assert checked() == []


def test_an_address_that_apprise_cannot_read_is_named_by_line_and_number_and_not_shown(tree, checked):
    alerts = '("mailto://keepers@example.com", "slack://hunter2")'
    path = tree.model(MODEL.replace('Owner("keepers")', f'Owner("keepers", alerts={alerts})'))
    line = MODEL.splitlines().index("weight = Model(") + 1
    assert checked() == [
        f"{path}:{line}: Apprise cannot read alert address 2 of owner keepers. "
        "Write e.g. mailto://team@example.com; https://appriseit.com/services lists all forms."
    ]


def test_the_addresses_of_fleets_and_sources_are_read_too(tree, checked):
    tree.write("models/zoo/__init__.py", FLEET.replace('Owner("keepers")', 'Owner("keepers", alerts=("mailto://",))'))
    tree.write("sources/sightings.py", SOURCE.replace('Owner("rangers")', 'Owner("rangers", alerts=("rangers",))'))
    assert [fault.partition(" of ")[2].partition(".")[0] for fault in checked()] == ["owner rangers", "owner keepers"]


def test_expectations_that_cannot_be_used_are_a_fault_of_their_source(tree, checked):
    path = tree.write("sources/sightings.py", SOURCE.replace("ExpectColumnValuesToNotBeNull", "ExpectColumnValuesToBeUnique"))
    (fault,) = checked()
    assert fault.startswith(f"{path}:")
    assert (
        "expectations() cannot be used: SourceMismatch: Source sightings: ExpectColumnValuesToBeUnique is not row-wise" in fault
    )


EXPECTED = SOURCE[SOURCE.index("    return [") : SOURCE.index("sightings = Source(")]


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        ("[]", "Source sightings has no expectations. An empty suite lets everything in: add some, or bound a column"),
        ("None", "expectations() returned NoneType, not a list of expectations"),
        ("['weight > 0']", "expectations() returned other things than expectations: str"),
        ("[1 / 0]", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_expectations_return_is_looked_at_with_its_file_and_line(tree, checked, returned, what):
    text = SOURCE.replace(EXPECTED, f"    return {returned}\n\n\n")
    path = tree.write("sources/sightings.py", text)
    line = text.splitlines().index("def expectations():") + 1
    (fault,) = checked()
    assert fault.startswith(f"{path}:{line}: expectations() cannot be used: ")
    assert fault.endswith(f"{what}. Correct expectations().")


def test_each_expectation_about_a_column_that_is_not_declared_is_a_fault(tree, checked):
    text = SOURCE.replace('column="weight"', 'column="wieght"')
    path = tree.write("sources/sightings.py", text)
    line = text.splitlines().index("def expectations():") + 1
    asked = ("expect_column_values_to_not_be_null", "expect_column_values_to_be_between")
    fix = "Declare the column, or correct expectations()."
    assert checked() == [f"{path}:{line}: {name} looks at wieght, which columns does not declare. {fix}" for name in asked]


def test_bounds_of_columns_are_expectations_too(tree, checked):
    bounded = 'Column("weight", "float64", min_value=0)'
    text = SOURCE.replace("    expectations=expectations,\n", "").replace('Column("weight", "float64")', bounded)
    tree.write("sources/sightings.py", text)
    assert checked() == []


def test_a_severity_that_does_not_exist_is_a_fault_of_its_source(tree, checked):
    tree.write("sources/sightings.py", SOURCE.replace("mostly=0.9", 'severity="drop it"'))
    assert any("expectations() cannot be used: ValidationError" in line for line in checked())
