"""Which types an artifact may name: scikit-learn's estimators need no line in a spec, and what could run code is refused."""

import importlib
import os
from functools import partial

import lightgbm
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xgboost
from sklearn import metrics, model_selection
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.decomposition import SparseCoder
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    StackingRegressor,
    VotingRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import SelectFromModel, SelectKBest, mutual_info_regression
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor, kernels
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, SGDRegressor, TweedieRegressor
from sklearn.metrics import DistanceMetric
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import VALID_METRICS, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    OneHotEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVR
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances
from sklearn.utils.estimator_checks import _enforce_estimator_tags_X, _enforce_estimator_tags_y

from perennial.core.artifacts import decode_estimator, encode_estimator, needed_types
from perennial.core.trusted_types import (
    FAMILIES,
    TRUSTED,
    UNSUPPORTED,
    believed,
    missing_from,
    refusal,
)
from perennial.errors import ArtifactError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 5))
NUMBERS = X.sum(axis=1) + RANDOM.normal(size=60)
CLASSES = (X[:, 0] > 0).astype(int)
TEXTS = ["a heron stood", "two gulls flew", "a stork", "gulls and herons"] * 5
DICTS = [{"length": 1.0, "colour": "red"}, {"length": 2.0, "colour": "blue"}] * 5
OUTPUTS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")
INPUTS = {
    "CountVectorizer": (TEXTS,),
    "TfidfVectorizer": (TEXTS,),
    "HashingVectorizer": (TEXTS,),
    "DictVectorizer": (DICTS,),
    "FeatureHasher": (DICTS,),
    "LabelBinarizer": (CLASSES,),
    "LabelEncoder": (CLASSES,),
    "MultiLabelBinarizer": ([[1, 2], [2], [1, 3]],),
    "PatchExtractor": (RANDOM.random((2, 20, 20)),),
}
INSTANCES = {
    "FrozenEstimator": [FrozenEstimator(Ridge().fit(X, NUMBERS))],
    "SparseCoder": [SparseCoder(np.eye(5))],
}


def instances():
    """Every public estimator, as scikit-learn itself tries it."""
    for name, kind in all_estimators():
        made = INSTANCES.get(name) or _construct_instances(kind)
        yield from (pytest.param(each, id=f"{name}-{number}") for number, each in enumerate(made))


def fitted(estimator):
    """The estimator fitted on what it takes, and that."""
    estimator = clone(estimator)
    name = type(estimator).__name__
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    if name in INPUTS:
        return estimator.fit(*INPUTS[name]), INPUTS[name][0]
    features = _enforce_estimator_tags_X(estimator, X.copy())
    return estimator.fit(features, _enforce_estimator_tags_y(estimator, CLASSES.copy())), features


def dense(values):
    return values.toarray() if hasattr(values, "toarray") else np.asarray(values)


def is_numeric(value):
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def outputs(estimator, features):
    """What it says of the features; what it has learned, where it says nothing of features."""
    said = {each: dense(getattr(estimator, each)(features)) for each in OUTPUTS if hasattr(estimator, each)}
    return said or {name: value for name, value in vars(estimator).items() if is_numeric(value)}


def check_kept(estimator, features):
    """Stored and read back by the project's list alone, it says the same."""
    read = decode_estimator(encode_estimator(estimator), trusted=())
    before, after = outputs(estimator, features), outputs(read, features)
    assert before
    assert before.keys() == after.keys()
    for each, values in before.items():
        np.testing.assert_allclose(values, after[each], rtol=1e-10, atol=1e-13, err_msg=each)


@pytest.mark.parametrize("estimator", instances())
def test_every_public_estimator_is_kept_without_a_line_in_the_spec(estimator):
    estimator, features = fitted(estimator)
    if type(estimator).__name__ in UNSUPPORTED:
        with pytest.raises(ArtifactError, match=f"cannot be stored: .*{type(estimator).__name__}"):
            encode_estimator(estimator)
        return
    check_kept(estimator, features)


FRAME = pd.DataFrame({"length": X[:, 0], "width": X[:, 1], "colour": np.where(X[:, 2] > 0, "red", "blue")})
HALVES = [("ridge", Ridge()), ("neighbours", KNeighborsRegressor())]
SELECTED = ColumnTransformer(
    [("numbers", SplineTransformer(), make_column_selector(dtype_include="number")), ("colour", OneHotEncoder(), ["colour"])]
)


@pytest.mark.parametrize(
    "estimator",
    [
        KNeighborsRegressor(),
        GaussianProcessRegressor(),
        StackingRegressor(HALVES, final_estimator=HistGradientBoostingRegressor(max_iter=5), cv=model_selection.KFold(3)),
        VotingRegressor(HALVES),
        make_pipeline(StandardScaler(), MLPRegressor(max_iter=20)),
        MLPRegressor(max_iter=20, solver="sgd", early_stopping=True),
        make_pipeline(SplineTransformer(), Ridge()),
        make_pipeline(FunctionTransformer(np.abs), Ridge()),
        make_pipeline(SelectKBest(mutual_info_regression, k=2), Ridge()),
        SGDRegressor(loss="huber"),
        make_pipeline(FunctionTransformer(partial(np.clip, a_min=0, a_max=1)), Ridge()),
        TransformedTargetRegressor(Ridge(), func=np.arcsinh, inverse_func=np.sinh),
        make_pipeline(MaxAbsScaler(), PolynomialFeatures(), SelectFromModel(Lasso(0.01)), Ridge()),
        SVR(kernel=metrics.pairwise.laplacian_kernel),
        make_pipeline(StandardScaler().set_output(transform="pandas"), Ridge()),
    ],
    ids=lambda estimator: str(estimator).split("(")[0],
)
def test_what_recipes_are_made_of_is_kept(estimator):
    check_kept(estimator.fit(X, NUMBERS), X)


def test_a_loss_of_insurance_is_kept():
    check_kept(TweedieRegressor(power=1.5).fit(X, np.abs(NUMBERS)), X)


def test_what_fills_in_missing_values_is_kept():
    lacking = np.where(X > 1, np.nan, X)
    for imputer in (IterativeImputer(random_state=0), KNNImputer(), SimpleImputer(add_indicator=True)):
        check_kept(make_pipeline(imputer, Ridge()).fit(lacking, NUMBERS), lacking)


def test_classes_that_a_fit_has_not_seen_are_kept():
    check_kept(OneVsRestClassifier(LogisticRegression()).fit(X, np.stack([CLASSES, np.zeros(60, int)], axis=1)), X)


def test_columns_chosen_by_their_type_are_kept():
    check_kept(make_pipeline(SELECTED, Ridge()).fit(FRAME, NUMBERS), FRAME)


@pytest.mark.parametrize(
    "kernel",
    [
        kernels.RBF() + kernels.WhiteKernel(),
        kernels.ConstantKernel() * kernels.Matern(),
        kernels.DotProduct() ** 2,
        kernels.RationalQuadratic(),
        kernels.ExpSineSquared() + kernels.WhiteKernel(10.0),
        kernels.PairwiseKernel(metric="laplacian"),
        kernels.CompoundKernel([kernels.RBF(), kernels.Matern()]).kernels[0],
    ],
    ids=str,
)
def test_every_kernel_of_a_gaussian_process_is_kept(kernel):
    check_kept(GaussianProcessRegressor(kernel, optimizer=None, alpha=0.1).fit(X, NUMBERS), X)


DISTANCE_NAMES = sorted({*VALID_METRICS["kd_tree"], *VALID_METRICS["ball_tree"]} - {"pyfunc", "precomputed"})
DISTANCES = {
    "haversine": {},
    "mahalanobis": {"VI": np.eye(2)},
    "seuclidean": {"V": np.ones(2)},
    "minkowski": {"p": 3},
}


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree"])
@pytest.mark.parametrize(
    "metric",
    DISTANCE_NAMES,
)
def test_every_distance_of_neighbours_is_kept(metric, algorithm):
    if metric not in VALID_METRICS[algorithm]:
        algorithm = "auto"
    estimator = KNeighborsRegressor(algorithm=algorithm, metric=metric, metric_params=DISTANCES.get(metric))
    points = (np.abs(X[:, :2]) > 0.5) if metric in ("dice", "jaccard", "rogerstanimoto", "russellrao") else np.abs(X[:, :2]) / 4
    check_kept(estimator.fit(points, NUMBERS), points)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_are_those_of_the_numbers_precision(dtype):
    for metric in ("euclidean", "manhattan"):
        name = type(DistanceMetric.get_metric(metric, dtype=dtype))
        assert f"{name.__module__}.{name.__name__}" in TRUSTED


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "quantile"])
def test_every_loss_of_gradient_boosting_is_kept(loss):
    check_kept(GradientBoostingRegressor(loss=loss, n_estimators=5).fit(X, NUMBERS), X)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "gamma", "poisson", "quantile"])
def test_every_loss_of_histogram_boosting_is_kept(loss):
    estimator = HistGradientBoostingRegressor(loss=loss, max_iter=5, quantile=0.7 if loss == "quantile" else None)
    check_kept(estimator.fit(X, np.abs(NUMBERS) + 1), X)


def test_histogram_boosting_over_categories_is_kept():
    frame = FRAME.assign(colour=FRAME["colour"].astype("category"))
    check_kept(HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=5).fit(frame, NUMBERS), frame)


@pytest.mark.parametrize("loss", ["log_loss", "exponential"])
def test_every_loss_of_classifying_boosting_is_kept(loss):
    check_kept(GradientBoostingClassifier(loss=loss, n_estimators=5).fit(X, CLASSES), X)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_every_way_to_calibrate_is_kept(method):
    check_kept(CalibratedClassifierCV(LogisticRegression(), method=method, cv=3).fit(X, CLASSES), X)


SPLITTERS = [
    model_selection.KFold(3),
    model_selection.RepeatedKFold(n_splits=2, n_repeats=2),
    model_selection.ShuffleSplit(2, random_state=0),
    model_selection.TimeSeriesSplit(3),
    model_selection.LeavePOut(1),
    model_selection.LeaveOneOut(),
    model_selection.PredefinedSplit(np.arange(60) % 3),
]


@pytest.mark.parametrize("splitter", SPLITTERS, ids=lambda each: type(each).__name__)
def test_a_search_is_kept_with_every_way_to_split(splitter):
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=splitter, scoring="neg_root_mean_squared_error")
    check_kept(search.fit(X, NUMBERS), X)


@pytest.mark.parametrize(
    "splitter",
    [
        model_selection.StratifiedKFold(3),
        model_selection.StratifiedShuffleSplit(2, random_state=0),
        model_selection.RepeatedStratifiedKFold(n_splits=2, n_repeats=2),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_search_of_classes_is_kept_with_every_way_to_split(splitter):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=splitter, scoring="neg_brier_score")
    check_kept(search.fit(X, CLASSES), X)


@pytest.mark.parametrize("name", metrics.get_scorer_names())
def test_every_scorer_that_has_a_name_is_kept(name):
    scorer = metrics.get_scorer(name)
    assert missing_from(needed_types(encode_estimator(scorer)), ()) == []
    assert str(decode_estimator(encode_estimator(scorer), ())) == str(scorer)


def test_a_search_over_lists_of_values_is_kept():
    search = RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, n_iter=2, scoring=["r2", "neg_max_error"], refit="r2")
    check_kept(search.fit(X, NUMBERS), X)


BOOSTED = [
    lightgbm.LGBMRegressor(n_estimators=5, verbose=-1),
    lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, objective="quantile", boosting_type="dart"),
    lightgbm.LGBMClassifier(n_estimators=5, verbose=-1),
    xgboost.XGBRegressor(n_estimators=5, enable_categorical=True),
    xgboost.XGBRFRegressor(n_estimators=5, enable_categorical=True),
    xgboost.XGBRegressor(n_estimators=5, enable_categorical=True, booster="dart"),
    xgboost.XGBClassifier(n_estimators=5, enable_categorical=True),
    xgboost.XGBRFClassifier(n_estimators=5, enable_categorical=True),
]


@pytest.mark.parametrize("estimator", BOOSTED, ids=lambda each: type(each).__name__)
def test_boosters_of_other_libraries_are_kept_over_categories_and_missing_values(estimator):
    frame = FRAME.assign(colour=FRAME["colour"].astype("category"), length=FRAME["length"].where(FRAME["length"] < 1))
    target = CLASSES if hasattr(estimator, "predict_proba") else NUMBERS
    check_kept(estimator.fit(frame, target), frame)


@pytest.mark.parametrize(
    "estimator",
    [lightgbm.LGBMRanker(n_estimators=5, verbose=-1), xgboost.XGBRanker(n_estimators=5)],
    ids=lambda each: type(each).__name__,
)
def test_rankers_of_other_libraries_are_kept(estimator):
    check_kept(estimator.fit(X, CLASSES, group=[30, 30]), X)


def test_boosters_that_have_stopped_early_are_kept():
    stop = lightgbm.early_stopping(2, verbose=False)
    light = lightgbm.LGBMRegressor(n_estimators=50, verbose=-1).fit(X, NUMBERS, eval_set=[(X, NUMBERS)], callbacks=[stop])
    check_kept(light, X)
    check_kept(xgboost.XGBRegressor(early_stopping_rounds=2).fit(X, NUMBERS, eval_set=[(X, NUMBERS)], verbose=False), X)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.types[0])
def test_every_type_of_the_list_exists_and_says_why_it_stands_there(family):
    for name in family.types:
        module, _, own = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), own)), name
        assert refusal(name) == ""
    assert family.reason


def test_no_type_stands_on_the_list_twice():
    assert len(TRUSTED) == sum(len(family.types) for family in FAMILIES)


def test_what_scipy_would_run_as_code_when_it_is_loaded_is_refused_whoever_trusts_it(tmp_path):
    """A distribution's state holds a text that scipy executes: trusted, such a file would run whatever it says."""
    from skops import io

    distribution = scipy.stats.loguniform(0.1, 1.0)
    mark = tmp_path / "run"
    distribution.dist._parse_arg_template = f"import os; os.mkdir({str(mark)!r})\n" + distribution.dist._parse_arg_template
    search = RandomizedSearchCV(Ridge(), {"alpha": distribution}, n_iter=2)
    data = encode_estimator(search)
    types = needed_types(data)
    with pytest.raises(ArtifactError, match=r"scipy\.stats\..* cannot be: scipy runs a text of its state as code"):
        decode_estimator(data, trusted=types)
    assert not mark.exists()
    io.loads(data, trusted=types)
    assert mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        "posix.system",
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.getattr",
        "importlib.import_module",
        "types.FunctionType",
        "operator.methodcaller",
        "joblib.numpy_pickle.load",
        "pandas.io.pickle.read_pickle",
        "models.shop.price.<lambda>",
    ],
)
def test_what_can_do_more_than_compute_cannot_be_trusted(name):
    assert refusal(name)
    assert name not in believed([name])


@pytest.mark.parametrize(
    "name",
    ["operator.itemgetter", "builtins.len", "models.shop.price.Twice", "collections.deque"],
)
def test_what_a_team_may_review_can_be_trusted(name):
    assert refusal(name) == ""
    assert name in believed([name])
    assert name not in TRUSTED


def test_a_command_is_not_run_even_where_a_spec_trusts_it(tmp_path):
    data = encode_estimator(FunctionTransformer(partial(os.system, f"touch {tmp_path}/run")))
    with pytest.raises(ArtifactError, match=r"posix\.system cannot be: it is of Python's own library"):
        decode_estimator(data, trusted=("functools.partial", "posix.system"))
    assert not (tmp_path / "run").exists()
