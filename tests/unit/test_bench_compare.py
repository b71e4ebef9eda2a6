# SPDX-License-Identifier: MIT
"""bench/compare.py: which way a ratio counts, what is judged against what, and how connections are shared out."""

import dataclasses

import pytest


def rate(bench, **goals):
    return bench("scenarios").Metric("rate", "MB/s", "server", "rate", higher_is_better=True, **goals)


def latency(bench, **goals):
    return bench("scenarios").Metric("p99", "us", "client", "p99_us", higher_is_better=False, **goals)


def found(metric, **medians):
    """What summarize() makes of one figure: the rivals' medians."""
    names = {"kcp_go": "kcp-go", "kcp_go_1": "kcp-go GOMAXPROCS=1"}
    return {names.get(k, k): {"figures": {metric.name: {"median": v}}} for k, v in medians.items()}


@pytest.mark.parametrize(
    ("ratio", "said"), [(2.99, "MISSED"), (3.0, "met"), (4.99, "met"), (5.0, "aim met"), (50.0, "aim met")]
)
def test_a_rate_has_to_reach_floor_and_aim(bench, ratio, said):
    assert rate(bench, floor=3.0, aim=5.0).verdict(ratio) == said


@pytest.mark.parametrize(("ratio", "said"), [(1.11, "MISSED"), (1.1, "met"), (0.81, "met"), (0.8, "aim met")])
def test_a_latency_has_to_stay_below_floor_and_aim(bench, ratio, said):
    assert latency(bench, floor=1.1, aim=0.8).verdict(ratio) == said


def test_what_has_no_goal_or_no_yardstick_is_not_judged(bench):
    assert rate(bench).verdict(9.0) == ""
    assert rate(bench, floor=3.0).verdict(None) == ""
    assert rate(bench).limit_verdict(1.0) == ""


def test_a_ratio_is_ours_over_theirs_whichever_way_is_better(bench):
    assert rate(bench).ratio(6.0, 2.0) == 3.0
    assert latency(bench).ratio(6.0, 2.0) == 3.0
    assert latency(bench).ratio(0, 0) is None


def test_limits_are_of_the_figure_itself_and_zero_is_one(bench):
    assert latency(bench, limit=50).limit_verdict(50) == "met"
    assert latency(bench, limit=50).limit_verdict(51) == "MISSED"
    assert latency(bench, limit=0).limit_verdict(0) == "met"
    assert latency(bench, limit=0).limit_verdict(1) == "MISSED"
    assert rate(bench, limit=50).limit_verdict(49) == "MISSED"


def test_the_yardstick_is_the_better_kcp_go_of_each_figure(bench):
    judge = bench("compare").judge
    metric = rate(bench, floor=3.0, aim=5.0)
    said = judge(metric, found(metric, kcpsock=600, kcp_go=100, kcp_go_1=150, TCP=2400))
    assert (said["of"], said["ratio"], said["verdict"]) == ("kcp-go GOMAXPROCS=1", 4.0, "met")
    assert said["others"] == {"TCP": 0.25}
    metric = latency(bench, floor=1.1, aim=0.8)
    said = judge(metric, found(metric, kcpsock=90, kcp_go=100, kcp_go_1=150))
    assert (said["of"], said["ratio"], said["verdict"]) == ("kcp-go", 0.9, "met")


def test_without_kcp_go_or_without_us_there_is_no_ratio(bench):
    judge = bench("compare").judge
    metric = rate(bench, floor=3.0)
    assert judge(metric, found(metric, kcpsock=600, TCP=2400))["ratio"] is None
    assert judge(metric, found(metric, kcp_go=600))["ours"] is None
    assert judge(metric, {})["verdict"] == ""


def test_every_row_of_the_table_has_floor_and_aim_on_the_same_side(bench):
    rows = [metric for scenario in bench("scenarios").load() for metric in scenario.metrics]
    judged = [metric for metric in rows if metric.floor]
    assert judged
    for metric in judged:
        assert metric.reaches(metric.aim, metric.floor), metric
    names = [scenario.name for scenario in bench("scenarios").load()]
    assert len(set(names)) == len(names) and not any("," in name for name in names)


def test_quick_changes_only_what_it_names(bench):
    for scenario in bench("scenarios").load():
        for full, quick in zip(scenario.arguments(False), scenario.arguments(True)):
            full, quick = (dict(flag.split("=") for flag in flags) for flags in (full, quick))
            assert {f"--{name}" for name in scenario.quick} >= {name for name in full if full[name] != quick[name]}


def test_connections_are_shared_out_within_the_limit_of_descriptors(bench):
    many = bench("many")
    for wanted, limit in ((5000, 20000), (10000, 20000), (50000, 20000), (50000, 1 << 20), (10, 1024)):
        connections = many.allowed(wanted, limit)
        assert connections <= wanted and many.SERVER_DESCRIPTORS * connections < limit
        shares = many.share_out(connections, limit)
        assert sum(shares) == connections
        assert max(shares) - min(shares) <= 1
        assert max(shares) * many.CLIENT_DESCRIPTORS < limit


def test_the_table_says_what_was_reached(bench):
    metric = rate(bench, floor=3.0, aim=5.0)
    rivals = {**found(metric, kcpsock=600, kcp_go=100, TCP=2400, aiokcp=2)}
    for rival in rivals.values():
        rival["runs"] = [{"server": {}}]
    report = {
        "absent": ["kcp"],
        "scenarios": [
            {
                "name": "sink",
                "metrics": [dataclasses.asdict(metric)],
                "rivals": rivals,
                "verdicts": {"rate": bench("compare").judge(metric, rivals)},
            }
        ],
    }
    _, _, row, guest, absent = bench("compare_table").table(report)
    assert row.split() == ["sink", "rate", "MB/s", "600", "100", "6.00", "3.0", "5.0", "0.25", "aim", "met"]
    assert guest.split() == ["sink", "the", "package", "aiokcp", "600", "2", "300.00"]
    assert absent.startswith("kcp: not installed")
