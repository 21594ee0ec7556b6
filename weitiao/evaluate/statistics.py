"""Intervals and paired tests for numbers measured on test rows. Every interval is a 95 % one.

Shares of rows (accuracy, invalid rate) have Wilson's interval, which stays sensible near 0 and 1 and on few rows. Everything
else is resampled over rows with ``scipy.stats.bootstrap``. Left out on purpose: the normal approximation (wrong near 0 and 1),
and McNemar's chi-squared approximation (the exact test costs nothing).

References: Wilson (1927); Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13; McNemar (1947).
"""

from collections.abc import Callable
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, permutation_test
from scipy.stats import bootstrap as scipy_bootstrap

from weitiao.records import Estimate

Rows = NDArray[np.intp]
"""Indices of the rows drawn, with repetition: shape [n]."""

CONFIDENCE = 0.95
_INDICES_IN_MEMORY = 4_000_000  # 32 MB of row numbers at a time, however many rows the test set has


class McNemar(TypedDict):
    """Rows that only a / only b got right, and the exact two-sided p-value that this split is chance."""

    a_only: int
    b_only: int
    p_value: float


def wilson(successes: int, n: int) -> Estimate:
    """The share ``successes / n`` with Wilson's score interval.

    Raises ``ValueError`` unless 0 ≤ successes ≤ n and n ≥ 1: no rows have no share.
    """
    if n < 1:
        raise ValueError(f"a share needs at least one row, got n={n}")
    interval = binomtest(successes, n).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def bootstrap_many(
    statistic: Callable[[Rows], NDArray[np.float64]],
    n: int,
    seed: int,
    resamples: int = 2000,
    method: Literal["percentile", "basic"] = "percentile",
) -> tuple[Estimate, ...]:
    """Several statistics of the same rows, each with its bootstrap interval, from one shared set of resamples.

    ``statistic`` maps the rows drawn, [n], to the values, [number of statistics]; it must be finite on every resample.

    Percentile rather than BCa: BCa's bias correction is the normal quantile of the share of resamples below the value, and its
    acceleration divides by the spread of the jackknife. Where resamples do not vary or all fall on one side (all rows right, one
    row), these are infinite or 0/0 and the limits NaN. The percentile limits are then simply the value.

    ``basic`` mirrors the percentiles about the value (2·value − percentile). It is for a statistic that resampling pushes one
    way, as repeated rows do the calibration error: its percentiles lie above it, and the truth lies below. Either way the
    interval is widened to contain the value.

    Raises ``ValueError`` when ``n`` < 1 or a value or limit is not finite.
    """
    if n < 1:
        raise ValueError(f"an interval needs at least one row, got n={n}")
    rows = np.arange(n)
    values = statistic(rows)
    lows, highs = values, values
    if n > 1:  # scipy refuses one row; its resamples are all that row anyway
        result = scipy_bootstrap(
            (rows,),
            lambda drawn, axis: np.moveaxis(np.apply_along_axis(statistic, axis, drawn), -1, 0),
            n_resamples=resamples,
            batch=max(1, _INDICES_IN_MEMORY // n),
            vectorized=True,
            axis=-1,
            confidence_level=CONFIDENCE,
            method=method,
            random_state=np.random.default_rng(seed),
        )
        lows, highs = np.asarray(result.confidence_interval.low), np.asarray(result.confidence_interval.high)
    if not np.isfinite([values, lows, highs]).all():
        raise ValueError(f"the statistic is not finite on every resample: value {values}, low {lows}, high {highs}")
    return tuple(
        Estimate(float(value), float(min(low, value)), float(max(high, value)), n)
        for value, low, high in zip(values, lows, highs, strict=True)
    )


def bootstrap(
    statistic: Callable[[Rows], float],
    n: int,
    seed: int,
    resamples: int = 2000,
    method: Literal["percentile", "basic"] = "percentile",
) -> Estimate:
    """One statistic of ``n`` rows with its bootstrap interval; ``statistic`` maps the rows drawn, [n], to a number.

    See :func:`bootstrap_many` for the methods and what is raised.
    """
    return bootstrap_many(lambda rows: np.array([statistic(rows)]), n, seed, resamples, method)[0]


def _paired(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same rows on both sides, got shapes {a.shape} and {b.shape}")
    return a, b


def mcnemar(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test: of the rows that exactly one side got right, is the split a fair coin's?

    ``correct_a`` and ``correct_b``, [n], say of the same rows whether each side is right. Without a discordant row p is 1.
    """
    a, b = _paired(correct_a, correct_b)
    a_only, b_only = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    p_value = float(binomtest(a_only, a_only + b_only, 0.5).pvalue) if a_only + b_only else 1.0
    return {"a_only": a_only, "b_only": b_only, "p_value": p_value}


def sign_flip(differences: NDArray[np.float64], seed: int, resamples: int = 9999) -> float:
    """Two-sided p-value of paired differences, [n], if each could as well have had the other sign (Fisher's permutation test).

    Exact where there are no more sign patterns than ``resamples``; 1 where no row differs.
    """
    differing = differences[differences != 0]
    if not len(differing):
        return 1.0
    result = permutation_test(
        (differing,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _INDICES_IN_MEMORY // len(differing)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def paired_difference(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], seed: int) -> Estimate:
    """Accuracy of a minus accuracy of b on the same rows, [n], with a paired bootstrap interval.

    Both sides are resampled together, so that rows that are hard for both do not widen the interval.
    """
    a, b = _paired(correct_a, correct_b)
    difference = a.astype(np.float64) - b.astype(np.float64)
    return bootstrap(lambda rows: float(difference[rows].mean()), len(difference), seed)
