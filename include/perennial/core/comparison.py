"""Challenger against champion: paired losses on the same rows, a bound on the relative gain, a verdict."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm, t

from perennial.core.metrics import Floats, Metric
from perennial.spec import Gate

Decision = Literal["promote", "keep", "inconclusive"]
RESAMPLES = 2000
LEAST_GAIN = -1e6  # where the champion makes no error at all; finite, so that bounds can be computed and stored


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate's value, the bound it was held to, and whether it passed."""

    gate: str
    value: float
    bound: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict before it is recorded: decision, every gate, the reason in one sentence, and the scores."""

    decision: Decision
    reason: str
    gates: tuple[GateResult, ...]
    scores: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Relative gain of the challenger (positive: better) with one-sided bounds at the gate's confidence, and its rows."""

    estimate: float
    lower: float
    upper: float
    rows: int

    def rows_to_tell(self, margin: float) -> float:
        """How many rows would show "not inferior", if the true gain were the estimate, or none where that is negative."""
        return rows_in_reach(self.rows, self.estimate, self.lower, max(self.estimate, 0.0), margin)


def relative_gain(
    challenger: Floats, champion: Floats, clusters: np.ndarray, metric: Metric, confidence: float, seed: int
) -> Gain:
    """Paired cluster bootstrap of ``1 - score(challenger) / score(champion)``.

    ``challenger`` and ``champion`` are losses of shape (n_rows,), ``clusters`` labels of shape (n_rows,). Whole clusters
    are drawn with replacement (Davison and Hinkley 1997, section 3.8); the percentile interval is widened around the
    estimate by ``sqrt(g / (g - 1))`` and the ratio of Student's to the normal quantile: the plain one is too narrow for
    few clusters g.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    sums = np.column_stack([np.bincount(codes, weights=losses) for losses in (challenger, champion)])
    groups = len(sums)
    weights = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
    estimate = _gain(sums.sum(axis=0), len(codes), metric)
    drawn = _gain((weights @ sums).T, (weights @ np.bincount(codes)), metric)
    widen = np.sqrt(groups / (groups - 1)) * t.ppf(confidence, groups - 1) / norm.ppf(confidence)
    lower, upper = (estimate + widen * (np.quantile(drawn, share) - estimate) for share in (1 - confidence, confidence))
    return Gain(estimate=float(estimate), lower=float(lower), upper=float(upper), rows=len(codes))


def _gain(totals: np.ndarray, rows: np.ndarray | int, metric: Metric) -> np.ndarray:
    challenger, champion = metric.score(totals[0] / rows), metric.score(totals[1] / rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = 1 - challenger / champion
    return np.maximum(np.where(champion == 0, np.where(challenger == 0, 0.0, LEAST_GAIN), gain), LEAST_GAIN)


def rows_in_reach(rows: int, estimate: float, lower: float, upper: float, margin: float) -> float:
    """How many rows bring a promotion within reach after an inconclusive verdict on ``rows`` rows.

    Even if the true relative gain were ``upper``, the most that verdict allows, the half-width of the bound, which
    shrinks with the root of the rows, must come below ``upper + margin``. Infinite where no number of rows would do.
    """
    if upper + margin <= 0:
        return float("inf")
    return float(np.ceil(rows * ((estimate - lower) / (upper + margin)) ** 2))


def too_few(rows: int, clusters: int, gate: Gate) -> Judgement:
    """The verdict where even the longest span holds too few rows or clusters."""
    noun = f"{gate.cluster}s with rows" if gate.cluster in ("day", "hour") else f"values of {gate.cluster}"
    missing = [
        f"{least - there} more {what}"
        for what, there, least in (("rows", rows, gate.min_rows), (noun, clusters, gate.min_clusters))
        if there < least
    ]
    counts = tuple(
        GateResult(gate=name, value=there, bound=least, passed=there >= least)
        for name, there, least in (("rows", rows, gate.min_rows), ("clusters", clusters, gate.min_clusters))
    )
    reason = f"Too few rows to judge on: needs {' and '.join(missing)}."
    return Judgement(decision="inconclusive", reason=reason, gates=counts, scores={})


def too_few_to_train(rows: int, gate: Gate) -> Judgement:
    """The verdict where the training window holds too few examples."""
    result = GateResult(gate="train_rows", value=rows, bound=gate.min_train_rows, passed=False)
    reason = f"Too few rows to train on: {rows} of {gate.min_train_rows}, needs {gate.min_train_rows - rows} more."
    return Judgement(decision="inconclusive", reason=reason, gates=(result,), scores={})


def one_class(target: Floats, metric: Metric, purpose: str) -> Judgement | None:
    """The verdict where all rows are of one class; None where both are there, or the metric knows none.

    ``purpose``: what there is nothing to learn for, such as ``train on``.
    """
    if not metric.probabilities or len(np.unique(target)) != 1:
        return None
    result = GateResult(gate="classes", value=1, bound=2, passed=False)
    reason = f"Only one class to {purpose}: the target of all {len(target):,} rows is {target[0]:g}. Both are needed."
    return Judgement(decision="inconclusive", reason=reason, gates=(result,), scores={})


def judge(
    *,
    challenger: Floats,
    champion: Floats | None,
    baseline: Floats,
    clusters: np.ndarray,
    metric: Metric,
    gate: Gate,
    seed: int,
) -> Judgement:
    """The verdict from per-row losses of shape (n_rows,); ``champion`` is None for a cell that never had one.

    The rows may be fewer than the span's: those of which the champion's recipe makes an example, too.
    """
    days = len(np.unique(clusters))
    if len(clusters) < gate.min_rows or days < gate.min_clusters:
        return too_few(len(clusters), days, gate)
    scores = {"challenger": float(metric.score(challenger.mean())), "baseline": float(metric.score(baseline.mean()))}
    floor = GateResult(gate="floor", value=scores["challenger"], bound=gate.floor, passed=scores["challenger"] <= gate.floor)
    over_naive = relative_gain(challenger, baseline, clusters, metric, gate.confidence, seed)
    naive = GateResult(gate="baseline", value=over_naive.lower, bound=0.0, passed=over_naive.lower > 0)
    if champion is None:
        return _verdict((floor, naive), scores, metric, None, gate)
    scores["champion"] = float(metric.score(champion.mean()))
    gain = relative_gain(challenger, champion, clusters, metric, gate.confidence, seed)
    scores |= {"gain": gain.estimate, "gain_lower": gain.lower, "gain_upper": gain.upper}
    inferiority = GateResult(gate="non_inferiority", value=gain.lower, bound=-gate.margin, passed=gain.lower > -gate.margin)
    return _verdict((floor, naive, inferiority), scores, metric, gain, gate)


def _verdict(
    gates: tuple[GateResult, ...], scores: dict[str, float], metric: Metric, gain: Gain | None, gate: Gate
) -> Judgement:
    decision, reason = _decide({result.gate: result for result in gates}, scores, metric, gain, gate)
    return Judgement(decision=decision, reason=reason, gates=gates, scores=scores)


def _decide(
    gates: dict[str, GateResult], scores: dict[str, float], metric: Metric, gain: Gain | None, gate: Gate
) -> tuple[Decision, str]:
    own = f"{metric.name} {scores['challenger']:.4g}"
    if not gates["floor"].passed:
        return "keep", f"Below the floor: {own}, allowed {gate.floor:.4g}."
    if not gates["baseline"].passed:
        return "keep", f"Not shown better than the naive baseline: {own} against {scores['baseline']:.4g}."
    if gain is None:
        return "promote", f"First model: {own}, naive baseline {scores['baseline']:.4g}, floor {gate.floor:.4g}."
    bounds = f"gain {gain.estimate:+.2%}, {gate.confidence:.0%} bounds {gain.lower:+.2%} and {gain.upper:+.2%}"
    if gates["non_inferiority"].passed:
        return "promote", f"Not inferior within {gate.margin:.1%}: {bounds}."
    if gain.upper < 0:
        return "keep", f"Worse than the champion: {bounds}."
    needed = gain.rows_to_tell(gate.margin)
    return "inconclusive", (
        f"Cannot tell within {gate.margin:.1%}: {bounds}. About {needed:,.0f} rows would tell; there were {gain.rows:,}."
    )
