"""Intervals and paired tests: numbers worked by hand, coverage by simulation, degenerate samples."""

import math
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from weitiao.evaluate.metrics import classification
from weitiao.evaluate.statistics import Rows, bootstrap, bootstrap_many, mcnemar, paired_difference, wilson

Method = Literal["percentile", "basic"]
METHODS: tuple[Method, ...] = ("percentile", "basic")


def mean_of(data: NDArray[np.float64]) -> Callable[[Rows], float]:
    return lambda rows: float(data[rows].mean())


def test_wilson_of_8_out_of_10() -> None:
    # z = 1.959964, z² = 3.841459, p = 0.8, n = 10:
    # centre = (p + z²/2n) / (1 + z²/n) = (0.8 + 0.1920729) / 1.3841459 = 0.7167401
    # half   = z √(p(1−p)/n + z²/4n²) / (1 + z²/n) = 1.959964 · √(0.016 + 0.00960365) / 1.3841459 = 0.2265763
    estimate = wilson(8, 10)
    assert (estimate.value, estimate.n) == (0.8, 10)
    assert estimate.low == pytest.approx(0.490162, abs=1e-6)
    assert estimate.high == pytest.approx(0.943318, abs=1e-6)


@pytest.mark.parametrize("n", [1, 5, 702])
def test_wilson_at_the_ends(n: int) -> None:
    # p = 0: centre = half, so low = 0 and high = z²/(n + z²); p = 1 is its mirror image
    reach = 3.8414588 / (n + 3.8414588)
    none, all_ = wilson(0, n), wilson(n, n)
    assert [none.value, none.low, none.high] == pytest.approx([0.0, 0.0, reach], abs=1e-6)
    assert [all_.value, all_.low, all_.high] == pytest.approx([1.0, 1 - reach, 1.0], abs=1e-6)
    assert none.low >= 0.0
    assert all_.high <= 1.0


def test_no_rows_have_no_estimate() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="at least one row"):
        bootstrap(lambda rows: 0.0 * len(rows), 0, seed=0)


def test_bootstrap_of_a_share_is_the_binomial_distribution() -> None:
    # 80 ones in 100 rows: the resampled sum is Binomial(100, 0.8) exactly, with 2.5 % and 97.5 % quantiles 72 and 88. With 2,000
    # resamples a quantile's share has standard error √(0.025·0.975/2000) = 0.0035, less than the share of one row there (0.009 to
    # 0.014), so that it moves by at most one row.
    data = np.array([1.0] * 80 + [0.0] * 20)
    assert [binom.ppf(share, 100, 0.8) for share in (0.025, 0.975)] == [72, 88]
    estimate = bootstrap(mean_of(data), 100, seed=0)
    assert estimate.value == 0.8
    assert estimate.low == pytest.approx(0.72, abs=0.0101)
    assert estimate.high == pytest.approx(0.88, abs=0.0101)


def test_bootstrap_covers_the_truth_in_95_percent_of_samples() -> None:
    # 200 samples of 100 normal numbers. The percentile interval of a mean is about Student's with z for t and n for n−1: its
    # coverage is P(|t₉₉| < 1.96 √(99/100)) = 0.946. Binomial(200, 0.946) lies in [177, 198] with probability > 0.998.
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        data = rng.normal(3.0, 1.0, size=100)
        estimate = bootstrap(mean_of(data), 100, seed, resamples=500)
        covered += estimate.low <= 3.0 <= estimate.high
    assert binom.cdf(198, 200, 0.946) - binom.cdf(176, 200, 0.946) > 0.998
    assert 177 <= covered <= 198


def test_basic_mirrors_the_percentiles() -> None:
    data = np.random.default_rng(0).exponential(size=50)
    percentile = bootstrap(mean_of(data), 50, seed=7)
    basic = bootstrap(mean_of(data), 50, seed=7, method="basic")
    assert basic.low == pytest.approx(2 * percentile.value - percentile.high, abs=1e-12)
    assert basic.high == pytest.approx(2 * percentile.value - percentile.low, abs=1e-12)


def test_the_seed_decides() -> None:
    data = np.random.default_rng(0).normal(size=50)
    first, again, other = (bootstrap(mean_of(data), 50, seed) for seed in (3, 3, 4))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_many_statistics_share_their_resamples() -> None:
    data = np.random.default_rng(0).normal(size=50)
    both = bootstrap_many(lambda rows: np.array([data[rows].mean(), data[rows].max()]), 50, seed=3)
    assert both[0] == bootstrap(mean_of(data), 50, seed=3)
    assert both[1] == bootstrap(lambda rows: float(data[rows].max()), 50, seed=3)


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize("method", METHODS)
def test_rows_that_do_not_vary_give_the_value(n: int, method: Method) -> None:
    estimate = bootstrap(mean_of(np.full(n, 0.25)), n, seed=0, method=method)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.25, 0.25, 0.25, n)


def test_a_statistic_that_resampling_pushes_up_stays_in_its_interval() -> None:
    # The share of repeated rows is 0 in the sample and about 1/e = 0.37 in every resample.
    for method in METHODS:
        estimate = bootstrap(lambda rows: 1 - len(np.unique(rows)) / 50, 50, seed=0, method=method)
        assert estimate.low <= estimate.value <= estimate.high


def test_a_statistic_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        bootstrap(lambda rows: math.nan * len(rows), 1, seed=0)


def test_macro_f1_of_702_rows_is_fast() -> None:
    rng = np.random.default_rng(0)
    labels = list("abcdef")
    gold, predicted = (list(rng.choice(labels, size=702)) for _ in range(2))
    start = time.perf_counter()
    classification(gold, predicted, labels, None, seed=0)  # all five averages: 0.06 s measured on one core
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("a_only", "b_only", "p_value"),
    [
        (1, 8, 0.0390625),  # 2 (C(9,0) + C(9,1)) / 2⁹ = 20/512
        (8, 1, 0.0390625),
        (0, 5, 0.0625),  # 2/2⁵
        (3, 3, 1.0),
        (0, 0, 1.0),  # nothing to tell them apart
    ],
)
def test_mcnemar(a_only: int, b_only: int, p_value: float) -> None:
    a = np.array([True] * a_only + [False] * b_only + [True] * 4 + [False] * 3)
    b = np.array([False] * a_only + [True] * b_only + [True] * 4 + [False] * 3)
    assert mcnemar(a, b) == {"a_only": a_only, "b_only": b_only, "p_value": pytest.approx(p_value, abs=1e-12)}


def test_paired_difference_is_narrower_than_two_separate_intervals() -> None:
    # 100 rows, both right on 70, a alone on 10, b alone on 2: difference 0.08. Per row it is +1 ten times and −1 twice, so its
    # variance is 0.12 − 0.08² = 0.1136 and its standard error √0.001136 = 0.0337: about 0.08 ± 0.066. Unpaired it would be
    # ± 1.96 √((0.8·0.2 + 0.72·0.28)/100) = 0.118.
    a = np.array([True] * 80 + [False] * 20)
    b = np.array([True] * 70 + [False] * 10 + [True] * 2 + [False] * 18)
    estimate = paired_difference(a, b, seed=0)
    assert estimate.value == pytest.approx(0.08, abs=1e-12)
    assert estimate.n == 100
    assert estimate.low == pytest.approx(0.014, abs=0.0151)  # the sum is a whole number of rows: within one row and a half
    assert estimate.high == pytest.approx(0.146, abs=0.0151)


def test_paired_difference_of_equals_is_nothing() -> None:
    a = np.array([True, False, True])
    estimate = paired_difference(a, a, seed=0)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_paired_sides_must_have_the_same_rows() -> None:
    with pytest.raises(ValueError, match="same rows"):
        mcnemar(np.array([True]), np.array([True, False]))
    with pytest.raises(ValueError, match="same rows"):
        paired_difference(np.array([True]), np.array([True, False]), seed=0)
