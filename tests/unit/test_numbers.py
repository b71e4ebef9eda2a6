# SPDX-License-Identifier: MIT
"""What C counts, under its names in KCPInfo and stats()."""

import dataclasses
import pydoc

import pytest

import kcpsock
from kcpsock import _numbers
from kcpsock._native import ffi, lib

FOR_TCP_INFO = {"srtt_us", "resent", "lost_pkts", "silent_ms", "unsent_ms", "waiting", "backlog"}


def test_info_has_all_that_c_counts_in_a_connection():
    numbers = _numbers._numbers(lib.ks_info_numbers)
    names = [field.name for field in dataclasses.fields(kcpsock.KCPInfo)]
    assert sorted(names) == sorted(number.member for number in numbers)
    others = {"role", "names", *FOR_TCP_INFO}
    assert {*names, *others} == {name for name in dir(ffi.new("ks_info *")) if not name.startswith("_")}
    assert names[0] == "conv" and names[12:16] == ["out_segs", "in_segs", "retrans_segs", "fast_retrans_segs"]


def test_stats_names_are_all_of_c():
    numbers = _numbers._numbers(lib.ks_stats_numbers)
    members = {name for name in dir(ffi.new("ks_stats *")) if not name.startswith("_")}
    assert {number.member for number in numbers} == members
    assert [number.name for number in numbers] == list(kcpsock.stats())
    assert len({number.name for number in numbers}) == len(numbers)
    assert kcpsock.stats()["FECShardMin"] == 0


def test_loss_is_a_share_of_what_was_sent():
    numbers = {field.name: 0 for field in dataclasses.fields(kcpsock.KCPInfo)}
    info = kcpsock.KCPInfo(**numbers)
    assert info.loss == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.out_segs = 1
    assert kcpsock.KCPInfo(**{**numbers, "out_segs": 200, "retrans_segs": 50}).loss == 0.25


@pytest.mark.parametrize("what,listed", [(kcpsock.KCPInfo, lib.ks_info_numbers), (kcpsock.stats, lib.ks_stats_numbers)])
def test_help_says_what_each_number_means_in_its_unit(what, listed):
    text = pydoc.plain(pydoc.render_doc(what))
    for number in _numbers._numbers(listed):
        assert f"{number.name}: {number.meaning}" in text
        for ending, unit in {"_ms": "ms", "_pkts": "packets", "_bytes": "bytes", "_segs": "segments"}.items():
            assert not number.member.endswith(ending) or unit in number.meaning
