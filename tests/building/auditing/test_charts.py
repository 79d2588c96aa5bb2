"""Plots are SVG that holds every count, and nothing that a class could smuggle in."""

import re
from xml.etree import ElementTree

from locvlm.building.auditing.charts import binned, columns, heat_map


def heights(svg):
    return [float(rect.get("height")) for rect in ElementTree.fromstring(svg).iter("rect")]


def test_columns_are_as_tall_as_their_counts():
    tall = heights(columns({"a": 10, "b": 5, "c": 0}, label="letters"))
    assert tall[0] == 2 * tall[1]
    assert tall[2] == 0


def test_every_column_says_its_count_and_many_names_are_thinned():
    svg = columns({f"n{k}": 1000 + k for k in range(40)}, label="numbers")
    root = ElementTree.fromstring(svg)
    assert [title.text for title in root.iter("title")][-1] == "n39: 1,039"
    labels = [text.text for text in root.iter("text")]
    assert labels == [*(f"n{k}" for k in range(0, 40, 4)), "1,039"]


def test_names_are_escaped():
    svg = columns({"<script>alert(1)</script>": 1, 'a"b': 2}, label='"><script>')
    ElementTree.fromstring(svg)
    assert "<script" not in svg


def test_nothing_is_said_to_be_nothing():
    assert "Nothing to count: letters" in columns({}, label="letters")
    assert heights(columns({"a": 0}, label="zero")) == [0]


def test_a_heat_map_is_darkest_where_most_is():
    svg = heat_map([[0, 1], [2, 4]], label="cells")
    opacity = [float(found) for found in re.findall(r'fill-opacity="([^"]+)"', svg)]
    assert opacity == [0.04, 0.265, 0.49, 0.94]
    assert heat_map([[0, 0], [0, 0]], label="none").count('fill-opacity="0.040"') == 4


def test_whole_numbers_are_binned_with_what_is_above_in_one_column():
    assert binned({2: 5, 4: 1}, most=10) == {"2": 5, "3": 0, "4": 1}
    assert binned({1: 1, 2: 2, 3: 3, 50: 4}, most=2) == {"1": 1, "2": 2, "3 on": 7}
    assert binned({}, most=3) == {}
