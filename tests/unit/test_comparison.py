"""Verdicts: the bound on the gain against references, and what each gate decides."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from perennial.core.comparison import judge, one_class, relative_gain, rows_in_reach, too_few, too_few_to_train
from perennial.core.metrics import METRICS
from perennial.spec import Gate

GATE = Gate(floor=2.0, margin=0.05, min_rows=100, min_clusters=5, min_train_rows=50)
RMSE, MAE = METRICS["rmse"], METRICS["mae"]


def losses(gain=0.0, *, clusters=20, rows=30, spread=0.3, seed=0):
    """Losses of a challenger and a champion that share half of their noise; clusters have effects of their own."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(clusters), rows)
    effect = random.gamma(1 / spread**2, spread**2, clusters)[labels]
    shared, own, other = random.exponential(1.0, (3, clusters * rows))
    return (1 - gain) * effect * (shared + own) / 2, effect * (shared + other) / 2, labels


def verdict(challenger, champion, labels, *, gate=GATE, baseline=3.0, metric=MAE):
    return judge(
        challenger=challenger, champion=champion, baseline=np.full(len(labels), baseline), clusters=labels,
        metric=metric, gate=gate, seed=0,
    )  # fmt: skip


# sqrt(g / (g - 1)), times the 95 % quantile of Student's t with g - 1 degrees of freedom over the normal one: from tables.
WIDER = {5: 1.1180 * 2.1318 / 1.6449, 10: 1.0541 * 1.8331 / 1.6449, 20: 1.0260 * 1.7291 / 1.6449}


@pytest.mark.parametrize("metric", [RMSE, MAE])
@pytest.mark.parametrize("clusters", WIDER)
def test_the_bounds_are_those_of_scipys_bootstrap_over_cluster_sums_widened_for_few_clusters(clusters, metric):
    challenger, champion, labels = losses(0.02, clusters=clusters)
    gains = [relative_gain(challenger, champion, labels, metric, 0.95, seed=seed) for seed in range(10)]
    estimate, lower, upper = (np.mean([getattr(gain, part) for gain in gains]) for part in ("estimate", "lower", "upper"))
    sums = [np.bincount(labels, weights=part) for part in (challenger, champion)]

    def statistic(ours, theirs, axis):
        return 1 - metric.score(ours.sum(axis)) / metric.score(theirs.sum(axis))

    reference = stats.bootstrap(
        sums, statistic, paired=True, vectorized=True, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=1
    ).confidence_interval
    widened = [estimate + WIDER[clusters] * (bound - estimate) for bound in reference]
    assert estimate == pytest.approx(statistic(*sums, axis=0))
    assert [lower, upper] == pytest.approx(widened, abs=0.02 * (widened[1] - widened[0]))


def test_the_bounds_are_those_of_the_normal_approximation_for_many_clusters():
    challenger, champion, labels = losses(0.02, clusters=400, rows=5)
    gain = relative_gain(challenger, champion, labels, MAE, 0.95, seed=0)
    sums = [np.bincount(labels, weights=part) for part in (challenger, champion)]
    residual = sums[0] - (1 - gain.estimate) * sums[1]
    error = 1.645 * residual.std(ddof=1) / np.sqrt(400) / sums[1].mean()
    assert [gain.lower, gain.upper] == pytest.approx([gain.estimate - error, gain.estimate + error], abs=0.1 * error)


@pytest.mark.parametrize(("clusters", "seldom"), [(10, 0.07), (30, 0.08)])
def test_the_lower_bound_lies_above_the_truth_about_as_seldom_as_promised(clusters, seldom):
    above = [
        relative_gain(*losses(0.02, clusters=clusters, rows=10, seed=seed), MAE, 0.95, seed=0).lower > 0.02
        for seed in range(400)
    ]
    assert 0.03 < np.mean(above) < seldom


def test_rows_of_one_cluster_are_no_independent_evidence():
    challenger, champion, labels = losses(rows=30)
    by_cluster = relative_gain(challenger, champion, labels, MAE, 0.95, seed=0)
    copies = relative_gain(*(np.tile(part, 50) for part in (challenger, champion, labels)), MAE, 0.95, seed=0)
    assert (copies.lower, copies.upper) == pytest.approx((by_cluster.lower, by_cluster.upper))


def test_the_same_seed_gives_the_same_bounds():
    once, again = (relative_gain(*losses(), RMSE, 0.95, seed=3) for _ in range(2))
    assert once == again != relative_gain(*losses(), RMSE, 0.95, seed=4)


def test_the_order_of_the_rows_does_not_matter():
    order = np.random.default_rng(0).permutation(600)
    shuffled = relative_gain(*(part[order] for part in losses()), RMSE, 0.95, seed=0)
    assert asdict(shuffled) == pytest.approx(asdict(relative_gain(*losses(), RMSE, 0.95, seed=0)))


def test_identical_losses_are_a_gain_of_zero_and_promoted():
    _, champion, labels = losses()
    made = verdict(champion, champion, labels)
    assert made.decision == "promote"
    assert (made.scores["gain"], made.scores["gain_lower"], made.scores["gain_upper"]) == (0, 0, 0)


def test_a_clearly_better_challenger_is_promoted():
    made = verdict(*losses(0.3))
    assert made.decision == "promote"
    assert made.reason.startswith("Not inferior within 5.0%: gain +")


def test_a_clearly_worse_challenger_is_not_kept_secret():
    made = verdict(*losses(-0.3))
    assert made.decision == "keep"
    assert made.reason.startswith("Worse than the champion: gain -")


def test_a_bound_that_straddles_the_margin_is_inconclusive():
    made = verdict(*losses(0.0, clusters=6, rows=20, spread=1.0), gate=Gate(floor=9, margin=0.0, min_rows=100, min_clusters=5))
    assert made.decision == "inconclusive"
    assert made.scores["gain_lower"] < 0 < made.scores["gain_upper"]


def test_worse_within_the_margin_but_perhaps_beyond_it_keeps_the_champion():
    _, champion, labels = losses()
    worse = champion * np.where(labels % 2 == 0, 1.0, 1.09)
    made = verdict(worse, champion, labels)
    assert made.scores["gain_lower"] < -GATE.margin < made.scores["gain_upper"] < 0
    assert (made.decision, made.reason.partition(":")[0]) == ("keep", "Worse than the champion")


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_a_bound_at_the_margin_itself_is_not_within_it(margin):
    _, _, labels = losses()
    champion = np.ones(len(labels))
    at = verdict((1 + margin) * champion, champion, labels, gate=replace(GATE, margin=margin))
    assert (at.scores["gain_lower"], at.gates[2].passed) == (-margin, False)
    assert at.decision != "promote"
    assert verdict(np.nextafter(1 + margin, 0) * champion, champion, labels, gate=replace(GATE, margin=margin)).gates[2].passed


def test_a_score_at_the_floor_itself_passes_and_one_like_the_baselines_does_not():
    _, _, labels = losses()
    even = np.ones(len(labels))
    assert verdict(even, None, labels, gate=replace(GATE, floor=1.0)).decision == "promote"
    assert verdict(even, None, labels, gate=replace(GATE, floor=0.999)).decision == "keep"
    assert verdict(even, None, labels, baseline=1.0).decision == "keep"


def test_within_the_margin_a_slightly_worse_challenger_is_promoted():
    _, champion, labels = losses()
    assert verdict(champion * 1.04, champion, labels).decision == "promote"
    assert verdict(champion * 1.06, champion, labels).decision == "keep"


def test_nobody_passes_the_floor_by_beating_the_champion():
    made = verdict(*losses(0.3), gate=Gate(floor=0.1))
    assert (made.decision, made.reason) == ("keep", f"Below the floor: mae {made.scores['challenger']:.4g}, allowed 0.1.")


@pytest.mark.parametrize("baseline", [0.2, 0.66])
def test_a_challenger_must_be_shown_better_than_the_naive_baseline(baseline):
    made = verdict(*losses(0.3), baseline=baseline)
    assert made.decision == "keep"
    assert f"better than the naive baseline: mae 0.6544 against {baseline}" in made.reason


def test_a_first_model_is_promoted_by_floor_and_baseline_alone():
    challenger, _, labels = losses()
    made = verdict(challenger, None, labels)
    assert made.decision == "promote"
    assert [gate.gate for gate in made.gates] == ["floor", "baseline"]
    assert verdict(challenger, None, labels, baseline=0.1).decision == "keep"


def test_every_gate_is_recorded_with_value_and_bound():
    made = verdict(*losses(-0.3))
    assert {gate.gate: gate.passed for gate in made.gates} == {"floor": True, "baseline": True, "non_inferiority": False}
    assert [gate.bound for gate in made.gates] == [2.0, 0.0, -0.05]
    assert made.gates[2].value == made.scores["gain_lower"]


def test_a_champion_without_error_is_replaced_only_by_one_without_error():
    _, champion, labels = losses()
    none, some = np.zeros_like(champion), np.full_like(champion, 0.1)
    both = verdict(none, none, labels)
    assert (both.decision, both.scores["gain"], both.scores["gain_lower"]) == ("promote", 0.0, 0.0)
    made = verdict(some, none, labels)
    assert made.decision == "keep"
    json.dumps(made.scores, allow_nan=False)


def test_a_champion_without_error_on_most_days_leaves_finite_bounds():
    _, champion, labels = losses(clusters=5)
    gain = relative_gain(champion, np.where(labels == 0, champion, 0.0), labels, RMSE, 0.95, seed=0)
    assert np.isfinite([gain.lower, gain.upper]).all()
    assert gain.lower <= gain.estimate <= gain.upper


@pytest.mark.parametrize(("clusters", "rows"), [(1, 600), (4, 100), (20, 3)])
def test_fewer_rows_than_the_gate_asks_for_are_not_judged_on(clusters, rows):
    made = verdict(*losses(0.3, clusters=clusters, rows=rows))
    assert made.decision == "inconclusive"
    assert "Too few rows to judge on" in made.reason


def test_as_many_rows_as_the_gate_asks_for_are_judged_on():
    assert verdict(*losses(0.3, clusters=5, rows=20)).decision == "promote"


def test_too_few_tells_which_of_the_two_there_are_enough_of():
    enough = int("1000")
    made = too_few(enough, 4, replace(GATE, min_rows=1000))
    assert [(gate.gate, gate.passed) for gate in made.gates] == [("rows", True), ("clusters", False)]
    assert too_few(1, 5, GATE).gates[1].passed


def test_too_few_says_how_many_are_missing():
    assert too_few(40, 5, GATE).reason == "Too few rows to judge on: needs 60 more rows."
    made = too_few(93, 3, GATE)
    assert made.decision == "inconclusive"
    assert made.reason == "Too few rows to judge on: needs 7 more rows and 2 more days with rows."
    assert [(gate.gate, gate.value, gate.bound, gate.passed) for gate in made.gates] == [
        ("rows", 93, 100, False), ("clusters", 3, 5, False)
    ]  # fmt: skip


def test_too_few_names_only_what_is_missing():
    assert too_few(500, 4, GATE).reason == "Too few rows to judge on: needs 1 more days with rows."


def test_too_few_to_train_says_how_many_are_missing():
    made = too_few_to_train(20, GATE)
    assert (made.decision, made.reason) == ("inconclusive", "Too few rows to train on: 20 of 50, needs 30 more.")


def test_too_few_names_the_cluster():
    assert too_few(500, 4, replace(GATE, cluster="hour")).reason.endswith("needs 1 more hours with rows.")
    assert too_few(500, 4, replace(GATE, cluster="customer")).reason.endswith("needs 1 more values of customer.")


def test_a_promotion_is_in_reach_with_about_the_same_rows_where_the_challenger_looked_as_good():
    assert rows_in_reach(400, 0.0, -0.1, 0.1, margin=0.0) == 400
    assert rows_in_reach(400, 0.05, -0.05, 0.15, margin=0.0) == 178


def test_a_challenger_that_looked_worse_needs_many_more_rows():
    assert rows_in_reach(400, -0.05, -0.15, 0.05, margin=0.0) == 1600
    assert rows_in_reach(400, -0.09, -0.19, 0.01, margin=0.01) == 10000
    assert rows_in_reach(400, -0.1, -0.2, 0.0, margin=0.0) == np.inf


def test_with_the_rows_in_reach_the_bound_just_meets_the_margin():
    rows = rows_in_reach(400, -0.02, -0.12, 0.08, margin=0.01)
    assert 0.08 - 0.1 * np.sqrt(400 / rows) == pytest.approx(-0.01, abs=1e-3)


@pytest.mark.parametrize(
    ("target", "metric", "is_one"),
    [([1.0, 1.0], "log_loss", True), ([0.0], "brier", True), ([0.0, 1.0], "log_loss", False), ([2.0, 2.0], "rmse", False)],
)
def test_one_class_is_too_little_for_a_metric_of_classes(target, metric, is_one):
    found = one_class(np.array(target), METRICS[metric], "train on")
    assert (found is not None) == is_one
    if found:
        (classes,) = found.gates
        assert (found.decision, classes.value, classes.bound, classes.passed) == ("inconclusive", 1, 2, False)
