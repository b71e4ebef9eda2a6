# SPDX-License-Identifier: MIT
"""What bench/link.py makes of a run, and small runs of each kind. How fast anything is, no test asserts."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import tunlink

BENCH = Path(__file__).resolve().parents[2] / "bench"
MB = 1_000_000
NS_PER_S = 1_000_000_000


@pytest.fixture
def run(bench):
    """run(rival, ...): a short run on a fast link; the rival by its name, and the scene by what differs."""
    link_run, link_rivals, scenes = bench("link_run"), bench("peers.link_rivals"), bench("scenarios.link")

    def one(rival, face="RelayFace", **scene):
        if isinstance(rival, str):
            rival = next(known for known in link_rivals.ALL if known.name == rival)
        scene = {"link": scenes.Link(50, 10, 256), "bytes": MB, **scene}
        return link_run.run(rival, scenes.Scene("short", must=scenes.Must(), **scene), getattr(link_run, face), 1, True)

    return one


def transfer(seconds, delivered=MB, start_ns=0):
    return {"bytes": delivered, "seconds": seconds, "start_ns": start_ns, "end_ns": start_ns + int(seconds * NS_PER_S)}


def counted(up, down=0):
    return {"up": {"received_ip_bytes": up}, "down": {"received_ip_bytes": down}}


def requests(latencies, start_ns=0):
    return {"latency_ms": latencies, "start_ns": start_ns, "every_ns": NS_PER_S // 50, "bytes": 2200 * len(latencies)}


def test_a_transfers_figures(bench):
    found = {"transfer": transfer(2.0), "requests": None, "link": counted(1_100_000, 999_999)}
    assert bench("link_run").figures(found) == {"mbit": 4.0, "cost": 1.1}  # ACKs are not in it


def test_requests_figures(bench):
    found = {"transfer": None, "requests": requests([*range(98, 0, -1), None, 99]), "link": counted(100_000, 230_000)}
    assert bench("link_run").figures(found) == {"cost": 1.5, "p50_ms": 50, "p99_ms": 99}
    found["requests"]["latency_ms"][0] = None  # two of a hundred never had an answer
    assert bench("link_run").figures(found)["p99_ms"] == math.inf


def test_requests_beside_a_transfer_count_while_it_runs(bench):
    counted_latencies = bench("link_run").counted_latencies
    beside = requests(list(range(100)), start_ns=5 * NS_PER_S)
    assert counted_latencies(beside, transfer(1.0, start_ns=4 * NS_PER_S)) == [0]
    assert counted_latencies(beside, transfer(1.5, start_ns=4 * NS_PER_S)) == list(range(26))
    assert counted_latencies(beside, transfer(9.0, start_ns=6 * NS_PER_S)) == list(range(50, 100))


def test_a_curve_is_of_the_transfer_alone(bench):
    curve = bench("link_run").curve
    # 10 ms each: 12,500 bytes in, half of them out, one packet lost, the queue one KiB longer.
    rows = [[12_500 * i, 6_250 * i, i, 2 * i, 1024 * i] for i in range(1000)]
    samples = {"from_ns": 7 * NS_PER_S, "every_ns": NS_PER_S // 100, "up": rows, "down": rows[::-1]}
    found = curve(samples, transfer(1.0, start_ns=9 * NS_PER_S))
    assert found["seconds"][:2] == [0.01, 0.02]
    assert found["seconds"][-1] == pytest.approx(1.01)
    assert set(found["in_mbit"]) == {10.0}
    assert set(found["out_mbit"]) == {5.0}
    assert (found["lost"][-1], found["queue_dropped"][-1]) == (101, 202)
    assert found["queue_kib"][0] == 201
    whole = curve(samples, transfer(7.5, start_ns=8 * NS_PER_S))
    assert 300 < len(whole["seconds"]) <= 400
    assert set(whole["in_mbit"]) == {10.0}


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ({"mbit": 19.0, "cost": 1.05, "p50_ms": 35.0, "p99_ms": 45.0}, []),
        ({"mbit": 18.9, "cost": 1.05, "p50_ms": 35.0, "p99_ms": 45.0}, ["mbit"]),
        ({"mbit": 99.0, "cost": 1.06, "p50_ms": 35.1, "p99_ms": math.inf}, ["cost", "p50_ms", "p99_ms"]),
        ({}, None),
    ],
)
def test_what_is_missed(bench, figures, missed):
    must = {"mbit": 19.0, "cost": 1.05, "p50_ms": 35.0, "p99_ms": 45.0}
    assert bench("link").missed(must, figures) == missed


def test_scenes_by_name_and_by_first_word(bench):
    link = bench("link")
    assert [scene.name for scene in link.pick("orbit,base,again far")] == [
        "base 0%", "base 1%", "base 5%", "base 10%", "orbit", "again far",
    ]  # fmt: skip
    assert len({scene.name for scene in link.pick(None)}) == len(link.pick(None)) > 15
    with pytest.raises(SystemExit, match="moon: allowed are base 0%"):
        link.pick("base,moon")


def test_without_tun_the_kernels_tcp_is_left_out(bench):
    link_rivals = bench("peers.link_rivals")
    chosen = [rival for rival in link_rivals.ALL if rival.name in ("kcpsock", "TCP cubic")]
    here, left_out = link_rivals.sort_out(chosen, has_tun=False)
    assert [rival.name for rival in here] == ["kcpsock"]
    assert left_out == {"TCP cubic": "the kernel's TCP needs the TUN face"}


def test_a_congestion_control_that_the_kernel_lacks_is_left_out(bench):
    link_rivals = bench("peers.link_rivals")
    here, left_out = link_rivals.sort_out([link_rivals._tcp("carrier-pigeon")], has_tun=True)
    assert here == []
    assert "carrier-pigeon" in left_out["TCP carrier-pigeon"]


def test_whole_by_the_relay(tmp_path):
    arguments = ["--quick", "--face=relay", "--scenes=base 0%", "--rivals=kcpsock,TCP bbr", f"--out={tmp_path}"]
    done = subprocess.run(
        [sys.executable, str(BENCH / "link.py"), *arguments], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "left out: TCP bbr: the kernel's TCP needs the TUN face" in done.stdout
    report = json.loads((tmp_path / "link-base-0.json").read_text(encoding="utf-8"))
    (scene,) = report["link_scenes"]
    (sample,) = scene["rivals"]["kcpsock"]["runs"]
    assert sample["transfer"]["bytes"] == 10 * MB
    assert sample["link"]["up"]["sent_bytes"] > 10 * MB
    assert max(sample["curve"]["queue_kib"]) <= scene["link"]["queue_kib"]
    assert report["machine"]["kernel"]
    assert report["left_out"].keys() == {"TCP bbr"}


def test_a_transfer_and_requests_beside_it(run, bench, monkeypatch):
    monkeypatch.setattr(bench("scenarios.link"), "REQUESTS_AFTER_S", 0.0)
    found = run("kcpsock", bytes=8 * MB, link=bench("scenarios.link").Link(20, 10, 256), requests=True)
    assert found["transfer"]["bytes"] == 8 * MB
    assert len(found["requests"]["latency_ms"]) > 0
    assert None not in found["requests"]["latency_ms"]


def test_a_transfer_that_takes_too_long_is_cut(run, bench, monkeypatch):
    monkeypatch.setattr(bench("link_run"), "QUICK_LIMIT_S", 3.0)  # in less a machine that stands still sends nothing
    found = run("kcpsock", bytes=100 * MB, link=bench("scenarios.link").Link(10, 10, 256))
    assert 0 < found["transfer"]["bytes"] < 10 * MB
    assert 3.0 <= found["transfer"]["seconds"]


def test_the_second_of_two_transfers_is_counted(run):
    once, twice = run("kcpsock", bytes=4 * MB), run("kcpsock", bytes=4 * MB, times=2)
    assert twice["transfer"]["bytes"] == once["transfer"]["bytes"] == 4 * MB
    assert twice["link"]["up"]["sent_bytes"] < 2 * 4 * MB


def test_a_rate_that_drops(run, bench, monkeypatch):
    monkeypatch.setattr(bench("scenarios.link"), "THEN_AFTER_S", 0.1)
    found = run("kcpsock", bytes=4 * MB, then_mbit=4)
    assert found["transfer"]["seconds"] > 2  # 4 MB at 4 Mbit/s take 8 s


@pytest.mark.parametrize("name", ["kcp-go", "hysteria bbr", "hysteria brutal"])
@pytest.mark.timeout(900)  # its first build takes a while
def test_through_a_tunnel(run, bench, require_peer, name):
    link_rivals = bench("peers.link_rivals")
    rival = next(known for known in link_rivals.ALL if known.name == name)
    _, left_out = link_rivals.sort_out([rival], has_tun=False)
    require_peer(
        name, not left_out, f"{left_out.get(name)}; install Go, and let `go build` reach its module proxy once"
    )
    found = run(rival, times=2)
    assert found["transfer"]["bytes"] == MB
    assert found["link"]["up"]["received_ip_bytes"] > MB


def test_kernel_tcp_by_tun(run, bench, require_peer):
    require_peer("a link of TUN devices", tunlink.is_possible(), tunlink.HOW_TO_GET)
    found = run(bench("peers.link_rivals")._tcp("reno"), face="TunFace")
    assert found["transfer"]["bytes"] == MB
    # 1,448 bytes of each packet's 1,500 are the application's.
    assert found["link"]["up"]["received_ip_bytes"] >= MB * 1500 // 1448


def test_what_fails_is_left_out_after_two_failures(bench, capsys):
    link, link_rivals, rivals = bench("link"), bench("peers.link_rivals"), bench("peers.rivals")
    broken = link_rivals.LinkRival("broken", rivals.Rival("broken", (sys.executable, "-c", "raise SystemExit('gone')")))
    (scene,) = link.pick("home")
    options = type("Options", (), {"rounds": 3, "quick": True})
    samples = link.run_rounds([broken], [scene], link.FACES["relay"], options)
    failures = samples["home"]["broken"]["failures"]
    assert len(failures) == link.MAX_FAILURES == 2
    assert "gone" in failures[0]
    assert "home: broken server" in capsys.readouterr().err
    summary = link.summarize(scene, samples["home"], True)
    report = {"rounds": 3, "left_out": {"x": "not here"}, "link_scenes": [summary]}
    lines = list(bench("link_table").table(report))
    assert any(line.startswith("home") and "2 failed" in line and "no kcpsock" in line for line in lines)
    assert "left out: x: not here" in lines


def test_the_plot_of_a_scene(bench):
    """Curves over time of who ran, and bars of the medians with what is asked for."""
    curve = {"seconds": [0.1, 0.2], "out_mbit": [1, 2], "queue_kib": [3, 4], "lost": [0, 1], "queue_dropped": [0, 0]}
    long = {**curve, "seconds": [0.1, 100.0]}
    ran = {"runs": [{"curve": curve, "figures": {"mbit": 5.0}}], "figures": {"mbit": 5.0}}
    slow = {"runs": [{"curve": long, "figures": {"mbit": 0.1}}], "figures": {"mbit": 0.1}}
    scene = {"name": "s", "must": {"mbit": 9}, "rivals": {"kcpsock": ran, "kcp-go": ran, "TCP cubic": slow}}
    scene["rivals"]["TCP bbr"] = {"runs": [], "figures": {}}
    *curves, bars = bench("plot_link").panels({"link_scenes": [scene]})
    assert [name for name, _ in curves[0].lines] == ["kcpsock", "kcp-go", "TCP cubic"]
    assert [len(points) for _, points in curves[0].lines] == [2, 2, 1]  # the slow one's end would leave no room
    assert bars[1:] == ([("kcpsock", 5.0, [5.0]), ("kcp-go", 5.0, [5.0]), ("TCP cubic", 0.1, [0.1])], [9, 0, 0])
