"""Charts: round ticks, honest downsampling, a smoothing that can be checked by hand."""

import math
import re
from xml.etree import ElementTree

import pytest

from weitiao.report.axes import Axis, linear_axis, log_axis, log_ticks, nice_ticks
from weitiao.report.folder import Reading
from weitiao.report.plots import (
    CalibrationBin,
    Series,
    Whisker,
    calibration_chart,
    downsample,
    histogram,
    line_chart,
    smooth,
    whisker_chart,
)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 600, [0, 200, 400, 600]),
        (0.12, 0.88, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3, 7, [-5, -2.5, 0, 2.5, 5, 7.5]),
        (2, 2, [1.8, 1.9, 2.0, 2.1, 2.2]),
        (2, 2 + 1e-9, [1.8, 1.9, 2.0, 2.1, 2.2]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_logarithmic_ticks() -> None:
    assert log_ticks(0.02, 9) == pytest.approx([0.01, 0.1, 1, 10])
    assert log_ticks(1.5, 8) == pytest.approx([1, 2, 5, 10])


def test_labels_share_one_number_of_decimals_and_one_power_of_ten() -> None:
    assert linear_axis([0, 1], 0, 1).labels == ("0.00", "0.25", "0.50", "0.75", "1.00")
    axis = linear_axis([0, 5e-5], 0, 1)
    assert axis.labels == ("0", "2", "4", "6")
    assert axis.unit == " (×10⁻⁵)"
    assert log_axis([1e-5, 1e-2], 0, 1).labels == ("10⁻⁵", "10⁻⁴", "0.001", "0.01")
    assert Axis((-1.0, 0.0, 1.0), 0, 1).labels == ("−1", "0", "1")


def test_downsampling_keeps_every_peak_and_the_order() -> None:
    points = [(float(i), 0.0) for i in range(10_000)]
    points[1234], points[7777] = (1234.0, 9.0), (7777.0, -9.0)
    kept = downsample(points, 2000)
    assert len(kept) <= 2000
    assert (1234.0, 9.0) in kept
    assert (7777.0, -9.0) in kept
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert downsample(points[:2000], 2000) == points[:2000]


def test_downsampling_keeps_a_bucket_without_a_finite_value() -> None:
    kept = downsample([(float(i), math.nan if i < 50 else 1.0) for i in range(100)], 10)
    assert math.isnan(kept[0][1])
    assert kept[-1][1] == 1.0


def test_smoothing_by_hand() -> None:
    # span 3: weight 1/2. Values 4, 0, NaN, 2 → 2/0.5 = 4; 1/0.75 = 4/3; 1.5/0.875 = 12/7.
    assert smooth([(1, 4.0), (2, 0.0), (3, math.nan), (4, 2.0)], 3) == [
        (1, 4.0),
        (2, pytest.approx(4 / 3)),
        (4, pytest.approx(12 / 7)),
    ]


def test_a_line_breaks_where_the_value_is_not_finite() -> None:
    chart = line_chart("t", [Series("s", "train", [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0)])], "y", best_x=1)
    assert chart is not None
    assert re.findall(r' d="([^"]+)"', chart)[0].count("M") == 2
    assert line_chart("t", [Series("s", "train", [(0, math.nan)])], "y") is None
    assert line_chart("t", [], "y") is None
    for points in ([(0, 1.0)], [(5, 0.0)], [(1, 1e-9), (2, 1e9)], [(i, 10.0**-i) for i in range(9)], [(1, -1e300), (2, 1e300)]):
        chart = line_chart("t", [Series("s", "train", points)], "y")
        assert chart is not None
        ElementTree.fromstring(chart)


def test_titles_are_escaped() -> None:
    nasty = "<b>\"&'"
    whisker = whisker_chart(
        nasty, [Whisker(nasty, "after", Reading(0.5, 0.4, 0.6, 10)), Whisker("no interval", "before", Reading(0.5))], nasty
    )
    assert whisker is not None
    root = ElementTree.fromstring(whisker)
    assert root.attrib["aria-label"] == nasty
    assert nasty in [element.text for element in root]


def test_charts_without_data_are_absent() -> None:
    assert whisker_chart("t", [], "x") is None
    assert calibration_chart("t", [CalibrationBin(0.5, 0.5, 0)]) is None
    assert histogram("t", [0, 1], [], "x") is None
    assert histogram("t", [0, 1], [1, 2], "x") is None


def test_a_limit_far_from_the_data_does_not_squeeze_them() -> None:
    near, far = histogram("t", [0, 100], [5], "x", 120), histogram("t", [0, 100], [5], "x", 32_768)
    assert near is not None
    assert 'class="limit limit"' in near
    assert far is not None
    assert 'class="limit limit"' not in far
    assert "32,768" in far


def test_values_that_differ_by_rounding_alone_have_an_axis() -> None:
    """One step's value and its smoothed self: 1 ulp apart."""
    value = -6.430000000000001
    axis = linear_axis([value, math.nextafter(value, 0)], 0, 100)
    assert axis.ticks[0] < value < axis.ticks[-1]
    assert 0 < axis(value) < 100
