import numpy as np
import pytest

from locvlm.building.auditing.boxes import box_statistics, quantiles_of


def test_statistics_of_three_boxes_by_hand():
    found = box_statistics(
        np.array(
            [
                [0, 0, 20, 40, 100, 80],  # 800 px: small; 0.1 of the image; centre (0.1, 0.25)
                [0, 0, 50, 40, 100, 80],  # 2,000 px: medium; 0.25 of it; centre (0.25, 0.25)
                [0, 0, 400, 300, 400, 300],  # all of it: large; centre (0.5, 0.5)
            ],
            dtype=float,
        )
    )
    assert found["num_objects"] == 3
    assert found["size_classes"] == {"small": 1, "medium": 1, "large": 1}
    assert found["quantiles"]["area"]["50%"] == 0.25
    assert found["quantiles"]["area"]["max"] == 1
    assert found["quantiles"]["width"]["mean"] == pytest.approx(470 / 3)
    assert found["quantiles"]["aspect"]["50%"] == 1.25  # 20/40, 50/40, 400/300
    sides = found["side_histogram"]  # of 0.316, 0.5 and 1, in bins of 0.05
    assert [k for k, count in enumerate(sides) if count] == [6, 10, 19]
    centres = {(y, x) for y, row in enumerate(found["centres"]) for x, count in enumerate(row) if count}
    assert centres == {(3, 1), (3, 3), (6, 6)}  # of 12 x 12


def test_boxes_over_the_border_stay_in_the_histograms():
    found = box_statistics(
        np.array([[-100, -100, -10, -10, 100, 100], [90, 90, 400, 400, 100, 100]], dtype=float)
    )
    assert sum(found["side_histogram"]) == sum(map(sum, found["centres"])) == 2


def test_no_boxes_have_no_statistics():
    assert box_statistics(np.zeros((0, 6))) == {"num_objects": 0}


def test_quantiles_come_with_mean_and_maximum():
    assert quantiles_of(np.arange(101)) == {
        **{"5%": 5, "25%": 25, "50%": 50, "75%": 75, "95%": 95},
        **{"mean": 50, "max": 100},
    }
