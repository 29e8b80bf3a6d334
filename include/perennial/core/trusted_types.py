"""Which types an artifact may name: the project's reviewed list, beside those that skops trusts.

What a type on this list can be made to do, by whoever writes a file, decides whether it may stand
here: skops looks names up and then constructs the type (`cls.__new__` and `__setstate__`), calls it
with arguments of the file (containers, arrays, keys of dictionaries and objects that are restored
by their constructor), or hands it to an estimator that calls it when it predicts. So a class may
stand here whose constructor and state are data, and a function that does nothing but compute.

Numbers inside are not looked at: trees, boosters and neighbour indices follow indices of the file
without checking bounds. A file that says where to look is believed because it is signed.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """Types of one kind: where they stand, what they are called, and why they may be named."""

    reason: str
    module: str
    names: tuple[str, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """Full names."""
        return tuple(f"{self.module}.{name}" for name in self.names)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _family(reason: str, module: str, names: str) -> Family:
    return Family(reason=reason, module=module, names=_words(names))


DISTANCES = _words(
    "BrayCurtis Canberra Chebyshev Dice Euclidean Hamming Haversine Jaccard Mahalanobis Manhattan "
    "Minkowski RogersTanimoto RussellRao SEuclidean SokalMichener SokalSneath"
)
FAMILIES = (
    _family(
        "nodes of trees: arrays, checked by nothing but the signature",
        "sklearn.tree._tree",
        "Tree",
    ),
    _family(
        "the same of histogram-based boosting",
        "sklearn.ensemble._hist_gradient_boosting.predictor",
        "TreePredictor",
    ),
    _family(
        "nodes of bisecting k-means: numbers and two children",
        "sklearn.cluster._bisect_k_means",
        "_BisectingTree",
    ),
    _family(
        "losses: formulas over arrays, with parameters that are numbers",
        "sklearn._loss.loss",
        "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss "
        "HalfPoissonLoss HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss "
        "PinballLoss",
    ),
    _family(
        "kernels: formulas over arrays; what they are made of are numbers and further kernels",
        "sklearn.gaussian_process.kernels",
        "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern "
        "PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel",
    ),
    _family(
        "one class of a Gaussian process classifier: arrays and a kernel",
        "sklearn.gaussian_process._gpc",
        "_BinaryGaussianProcessClassifierLaplace",
    ),
    _family(
        "indices of nearest neighbours: arrays and a distance",
        "sklearn.neighbors._kd_tree",
        "KDTree KDTree32 KDTree64",
    ),
    _family(
        "the same as balls",
        "sklearn.neighbors._ball_tree",
        "BallTree BallTree32 BallTree64",
    ),
    _family(
        "distances: formulas over two rows; not PyFunc, which calls whatever function it holds",
        "sklearn.metrics._dist_metrics",
        " ".join(f"{name}Distance32 {name}Distance64" for name in DISTANCES),
    ),
    _family(
        "how rows are split: numbers, flags and a random state; they are asked in a fit alone",
        "sklearn.model_selection._split",
        "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut "
        "LeavePOut PredefinedSplit RepeatedKFold RepeatedStratifiedKFold ShuffleSplit "
        "StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit",
    ),
    _family(
        "how a search scores: a metric's function, which is looked up by itself, and its arguments",
        "sklearn.metrics._scorer",
        "_CurveScorer _MultimetricScorer _PassthroughScorer _Scorer",
    ),
    _family(
        "metrics of classes: functions of arrays",
        "sklearn.metrics._classification",
        "accuracy_score balanced_accuracy_score brier_score_loss cohen_kappa_score d2_brier_score "
        "d2_log_loss_score f1_score fbeta_score hamming_loss hinge_loss jaccard_score log_loss "
        "matthews_corrcoef precision_score recall_score zero_one_loss",
    ),
    _family(
        "the ratios of likelihoods that scikit-learn's scorers of that name call: the same",
        "sklearn.metrics._scorer",
        "negative_likelihood_ratio positive_likelihood_ratio",
    ),
    _family(
        "metrics of rankings: functions of arrays",
        "sklearn.metrics._ranking",
        "average_precision_score dcg_score label_ranking_average_precision_score "
        "label_ranking_loss ndcg_score roc_auc_score top_k_accuracy_score",
    ),
    _family(
        "metrics of numbers: functions of arrays",
        "sklearn.metrics._regression",
        "d2_absolute_error_score d2_pinball_score d2_tweedie_score explained_variance_score "
        "max_error mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance "
        "mean_pinball_loss mean_poisson_deviance mean_squared_error mean_squared_log_error "
        "mean_tweedie_deviance median_absolute_error r2_score root_mean_squared_error "
        "root_mean_squared_log_error",
    ),
    _family(
        "metrics of clusters: functions of arrays",
        "sklearn.metrics.cluster._supervised",
        "adjusted_mutual_info_score adjusted_rand_score completeness_score fowlkes_mallows_score "
        "homogeneity_score mutual_info_score normalized_mutual_info_score rand_score "
        "v_measure_score",
    ),
    _family(
        "tests by which features are selected: functions of arrays",
        "sklearn.feature_selection._univariate_selection",
        "chi2 f_classif f_oneway f_regression r_regression",
    ),
    _family(
        "the same, by mutual information",
        "sklearn.feature_selection._mutual_info",
        "mutual_info_classif mutual_info_regression",
    ),
    _family(
        "kernels that approximations and support vectors take as functions of arrays",
        "sklearn.metrics.pairwise",
        "additive_chi2_kernel chi2_kernel cosine_similarity laplacian_kernel linear_kernel "
        "polynomial_kernel rbf_kernel sigmoid_kernel",
    ),
    _family(
        "one run of k-means: a function of arrays, called in a fit alone",
        "sklearn.cluster._kmeans",
        "_kmeans_single_elkan _kmeans_single_lloyd",
    ),
    _family(
        "optimisers of neural networks: numbers and arrays, asked in a fit alone",
        "sklearn.neural_network._stochastic_optimizers",
        "AdamOptimizer SGDOptimizer",
    ),
    _family(
        "calibrated classifiers: estimators and two numbers each",
        "sklearn.calibration",
        "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    ),
    _family(
        "what stands for a class that a fit has not seen: a number",
        "sklearn.multiclass",
        "_ConstantPredictor",
    ),
    _family(
        "one step of an imputation: columns by their number, and an estimator",
        "sklearn.impute._iterative",
        "_ImputerTriplet",
    ),
    _family(
        "how boosting over categories reads the other columns: a function of arrays",
        "sklearn.utils.validation",
        "check_array",
    ),
    _family(
        "a function with some arguments: the function itself has to be trusted, too",
        "functools",
        "partial",
    ),
    _family(
        "which columns a transformer takes: a pattern and types by name",
        "sklearn.compose._column_transformer",
        "make_column_selector",
    ),
    _family(
        "a dictionary whose keys are attributes; its state is ignored",
        "sklearn.utils._bunch",
        "Bunch",
    ),
    _family(
        "which arguments an estimator asks for: texts and flags",
        "sklearn.utils._metadata_requests",
        "MetadataRequest MethodMetadataRequest",
    ),
    _family(
        "splines: arrays",
        "scipy.interpolate._bsplines",
        "BSpline",
    ),
    _family(
        "how a spline makes an array of its knots: a function of arrays",
        "scipy._lib.array_api_compat.numpy._aliases",
        "asarray",
    ),
    *(
        _family(
            "sparse matrices: skops reads them as arrays, without pickled objects",
            f"scipy.sparse._{form}",
            f"{form}_array {form}_matrix",
        )
        for form in ("bsr", "coo", "csc", "csr", "dia")
    ),
    _family(
        "types of arrays, by name",
        "numpy",
        "dtype",
    ),
    _family(
        "how features are pooled, bounded and filled: functions of arrays",
        "numpy",
        "clip max mean median min nan_to_num sum",
    ),
    _family(
        "containers of Python that its literals do not cover: elements",
        "builtins",
        "frozenset range",
    ),
    _family(
        "the same, with counts and in order",
        "collections",
        "Counter OrderedDict",
    ),
    _family(
        "moments and spans: numbers",
        "datetime",
        "date datetime time timedelta timezone",
    ),
    _family(
        "exact numbers: digits",
        "decimal",
        "Decimal",
    ),
    _family(
        "time zones: a name, looked up in the machine's own data of time zones",
        "zoneinfo",
        "ZoneInfo",
    ),
    _family(
        "experimental estimators, which skops lists only where they were enabled before it was imported",
        "sklearn.impute._iterative",
        "IterativeImputer",
    ),
    _family(
        "the same",
        "sklearn.model_selection._search_successive_halving",
        "HalvingGridSearchCV HalvingRandomSearchCV",
    ),
    _family(
        "LightGBM's estimators: parameters, and a booster",
        "lightgbm.sklearn",
        "LGBMClassifier LGBMModel LGBMRanker LGBMRegressor",
    ),
    _family(
        "LightGBM's booster: a text that its library parses; it could read a model's file",
        "lightgbm.basic",
        "Booster",
    ),
    _family(
        "XGBoost's estimators: parameters, and a booster",
        "xgboost.sklearn",
        "XGBClassifier XGBModel XGBRFClassifier XGBRFRegressor XGBRanker XGBRegressor",
    ),
    _family(
        "XGBoost's booster: the same with bytes",
        "xgboost.core",
        "Booster",
    ),
)
TRUSTED = frozenset(name for family in FAMILIES for name in family.types)

SCIPY_RUNS_TEXTS = "scipy runs a text of its state as code; search over lists of values"
# What no spec and no manifest can make trusted, by the beginning of its name.
REFUSED = {
    "scipy.stats._continuous_distns.": SCIPY_RUNS_TEXTS,
    "scipy.stats._discrete_distns.": SCIPY_RUNS_TEXTS,
    "scipy.stats._distn_infrastructure.": SCIPY_RUNS_TEXTS,
    "operator.methodcaller": "it calls whatever method it is told",
    "joblib.": "it unpickles files, and runs what they say",
    "numpy.load": "it unpickles files, and runs what they say",
    "numpy.lib.": "it reads and writes files, and unpickles them",
    "pandas.io.": "it reads and writes files, and unpickles them",
    "pandas.core.computation.": "it runs texts as code",
    "sklearn.datasets.": "it reads files of the machine and of the network",
}
FROM_PYTHON = "it is of Python's own library, and can do more than compute"
HARMLESS_MODULES = _words(
    "array calendar cmath collections datetime decimal fractions functools ipaddress math numbers "
    "operator random re statistics string uuid zoneinfo"
)
HARMLESS_BUILTINS = _words(
    "abs all any bool bytearray bytes complex dict divmod enumerate float frozenset hash int len "
    "list max min pow range reversed round set slice sorted str sum tuple zip"
)

# Public estimators of scikit-learn that cannot be stored, and what to do instead.
UNSUPPORTED = {
    "Birch": "its tree refers to itself in circles, which skops does not store; take MiniBatchKMeans",
}


def refusal(name: str) -> str:
    """Why no spec can make a type trusted; empty where one can."""
    module, _, own = name.rpartition(".")
    package = module.partition(".")[0]
    if "<" in own:
        return "it has no name that it could be looked up by; write a function at the top of the file"
    if module == "builtins":
        return "" if own in HARMLESS_BUILTINS else FROM_PYTHON
    if package in sys.stdlib_module_names and package not in HARMLESS_MODULES:
        return FROM_PYTHON
    return next((why for start, why in REFUSED.items() if name.startswith(start)), "")


def believed(names: Iterable[str]) -> frozenset[str]:
    """The project's list and the further ``names``, but for those that nobody can trust."""
    return TRUSTED | {name for name in names if not refusal(name)}


def missing_from(needed: Iterable[str], trusted: Iterable[str]) -> list[str]:
    """Which needed types neither the project's list nor ``trusted`` names."""
    return sorted(set(needed) - believed(trusted))
