# SPDX-License-Identifier: MIT
"""What bench/grow.py computes: exponents, bounds, the figures of a transfer. How fast anything is, no test asserts."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


NS = (100, 300, 1000, 3000, 10000)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_slope_is_the_exponent(bench, exponent):
    growth = bench("growth")
    assert growth.slope([(n, 7e-5 * n**exponent) for n in NS]) == pytest.approx(exponent)


def test_slope_through_noise(bench):
    growth = bench("growth")
    dice = random.Random(3)
    print("seed 3")
    points = [(n, 0.002 * n * dice.uniform(0.95, 1.05)) for n in NS]
    assert growth.slope(points) == pytest.approx(1.0, abs=0.05)


def test_a_fixed_cost_is_not_growth(bench):
    growth = bench("growth")
    judged = growth.judge([(n, 20.0 + 0.001 * n) for n in NS], 1.1)
    assert judged["met"]
    assert judged["slope"] < judged["slope_of_largest"] < 1


def test_a_fixed_cost_does_not_hide_a_square(bench):
    growth = bench("growth")
    judged = growth.judge([(n, 20.0 + 1e-5 * n * n) for n in NS], 1.1)
    assert judged["slope"] < 1.1 < judged["slope_of_largest"] < 2
    assert not judged["met"]


def test_order_of_points_is_no_matter(bench):
    growth = bench("growth")
    points = [(n, n**1.3 + 50) for n in NS]
    assert growth.judge(points[::-1], 1.1) == growth.judge(points, 1.1)


@pytest.mark.parametrize(
    "points", [[], [(100, 1.0)], [(100, 1.0), (100, 2.0)], [(0, 1.0), (1, 1.0)], [(1, 0.0), (2, 1.0)]]
)
def test_no_slope_without_two_points_above_zero(bench, points):
    growth = bench("growth")
    with pytest.raises(ValueError):
        growth.slope(points)


def run_of(delivered, *, received, lost=0, kernel_dropped=0):
    """A run's counts, all packets full: 1,400 bytes."""
    up = {"received": received, "received_bytes": 1400 * received, "lost": lost, "kernel_dropped": kernel_dropped}
    end = {"bytes": delivered, "seconds": 2.0, "cpu_s": 0.25}
    return {"server": end, "client": end, "link": {"up": up, "down": {"received_bytes": delivered // 100}}}


def test_figures_of_a_transfer(bench):
    grow, figures = bench("scenarios.grow"), bench("link_figures").FIGURES
    transfer = grow.Transfer("kcpsock", 1024, 0.1, 1376 * 9000)
    run = run_of(1376 * 9000, received=10_000, lost=1000)  # each lost packet was sent again, and no other
    found = {name: figure.of(transfer, run) for name, figure in figures.items()}
    assert transfer.bound_mb_s == pytest.approx(1024 * 1376 / 0.05 / 1e6)
    assert found["rate"] == pytest.approx(1376 * 9000 / 2 / 1e6)
    assert found["efficiency"] == pytest.approx(found["rate"] / transfer.bound_mb_s)
    assert found["cpu"] == pytest.approx(0.5e9 / (1376 * 9000))
    assert found["wire"] == pytest.approx(1400 / 1376 / 0.9)
    assert found["wire_excess"] == pytest.approx(0, abs=1e-9)
    assert found["acks"] == pytest.approx(0.01, rel=1e-3)
    assert found["again"] == pytest.approx(1)
    assert found["overrun"] == 0


def test_figures_with_fec(bench):
    grow, figures = bench("scenarios.grow"), bench("link_figures").FIGURES
    transfer = grow.Transfer("kcpsock", 1024, 0.1, 1368 * 10_000, "10,3")
    assert transfer.mss_bytes == 1368
    run = run_of(1368 * 10_000, received=13_000, lost=1300)  # all was rebuilt
    assert figures["again"].of(transfer, run) == 0
    assert figures["wire_excess"].of(transfer, run) == pytest.approx(0, abs=1e-9)


def test_no_loss_no_repeats_per_loss(bench):
    grow, figures = bench("scenarios.grow"), bench("link_figures").FIGURES
    transfer = grow.Transfer("kcp-go", 1024, 0.0, 1376 * 100)
    run = run_of(1376 * 100, received=100)
    assert math.isnan(figures["again"].of(transfer, run))
    assert bench("grow").spread([math.nan]) is None


def test_sweeps_share_transfers(bench):
    grow = bench("scenarios.grow")
    loss, overhead = (next(s for s in grow.SWEEPS if s.name == name) for name in ("loss", "overhead"))
    for quick in (False, True):
        shared = {loss.transfer(line, x, quick) for line in loss.lines for x in loss.values(quick)}
        asked = {overhead.transfer(line, x, quick) for line in overhead.lines for x in overhead.values(quick)}
        assert asked <= shared


def test_each_sweep_has_its_file_and_its_verdicts(bench, tmp_path):
    sweeps = [{"name": name, "lines": []} for name in ("window", "cost")]
    found = [{"sweep": "cost", "value": 1.0}]
    written = list(bench("grow").write({"machine": {}, "sweeps": sweeps, "verdicts": found}, tmp_path / "new"))
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in written]
    assert [path.name for path in written] == ["grow-window.json", "grow-cost.json"]
    assert [report["sweeps"] for report in reports] == [[sweep] for sweep in sweeps]
    assert [report["verdicts"] for report in reports] == [[], found]


def test_a_sweep_runs_and_reports(go_program, tmp_path):
    command = [sys.executable, str(BENCH / "grow.py"), "--quick", "--only=cost", "--max-mb=1", f"--out={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "grow-cost.json").read_text(encoding="utf-8"))
    (sweep,) = report["sweeps"]
    for line in sweep["lines"]:
        for point in line["points"]:
            assert point["runs"][0]["server"]["bytes"] == point["bytes"] <= 1_000_000
            assert point["figures"]["cpu"]["median"] > 0
            assert point["runs"][0]["link"]["up"]["lost"] > 0
    assert [verdict["ceiling"] for verdict in report["verdicts"]] == [2.0]
