from math import prod

from metal4conv.mil.program import Dimension
from metal4conv.verify.sizes import choose_sizes

BIG = 10**9


def area(sizes):
    return prod(sizes.values())


def codes(findings):
    return [finding.code for finding in findings]


def test_fixed_sizes_give_three_cases():
    assert choose_sizes({}, lambda sizes: 10, 100) == ([{}, {}, {}], [])


def test_fewer_cases_when_three_are_too_much():
    sizes, findings = choose_sizes({}, lambda sizes: 40, 100)
    assert sizes == [{}, {}]
    assert "2 of 3" in findings[0].message


def test_one_case_stays_above_the_limit():
    sizes, findings = choose_sizes({}, lambda sizes: 400, 100)
    assert sizes == [{}]
    assert (findings[0].severity, findings[0].code) == ("warning", "golden-over-limit")


def test_dimensions_vary_together():
    dimensions = {"h": Dimension(8, 64, 16, step=8), "w": Dimension(1, 100, 50)}
    assert choose_sizes(dimensions, area, BIG)[0] == [
        {"h": 8, "w": 1},
        {"h": 16, "w": 50},
        {"h": 64, "w": 100},
    ]


def test_unbounded_is_twice_the_default():
    sizes, findings = choose_sizes({"n": Dimension(1, None, 24, step=8)}, area, BIG)
    assert [row["n"] for row in sizes] == [1, 24, 48]
    assert "48" in findings[0].message


def test_largest_is_capped_in_steps():
    sizes, findings = choose_sizes({"h": Dimension(8, 2**20, 16, step=8)}, area, 1000)
    assert sizes[:2] == [{"h": 8}, {"h": 16}]
    assert sizes[2]["h"] % 8 == 0
    assert sum(map(area, sizes)) <= 1000
    assert codes(findings) == ["golden-capped"]
    assert f"h {2**20} → {sizes[2]['h']}" in findings[0].message


def test_default_is_capped_too():
    dimensions = {"h": Dimension(64, 2160, 720, step=8), "w": Dimension(64, 3840, 1280, step=8)}
    limit = 400_000
    sizes, findings = choose_sizes(dimensions, area, limit)
    assert codes(findings) == ["golden-capped", "golden-capped"]
    assert "default" in findings[0].message
    assert sum(map(area, sizes)) <= limit
    assert sum(map(area, sizes)) >= limit // 2
    assert all(dimensions[name].allows(size) for row in sizes for name, size in row.items())


def test_every_enumerated_value_has_a_case():
    dimensions = {
        "h": Dimension(4, 16, 4, values=(4, 8, 12, 16)),
        "w": Dimension(1, 4, 1, values=(1, 2, 3, 4)),
        "n": Dimension(1, 9, 5),
    }
    sizes, _ = choose_sizes(dimensions, area, BIG)
    assert {row["h"] for row in sizes} == {4, 8, 12, 16}
    assert sizes[3:] == [{"h": 8, "w": 2, "n": 5}, {"h": 12, "w": 3, "n": 5}]


def test_enumerated_values_that_do_not_fit_are_named():
    dimensions = {"h": Dimension(4, 100, 4, values=(4, 8, 100))}
    sizes, findings = choose_sizes(dimensions, area, 50)
    assert sizes == [{"h": 4}, {"h": 4}, {"h": 8}]
    assert codes(findings) == ["golden-capped", "golden-skipped"]
    assert "h=100" in findings[1].message
