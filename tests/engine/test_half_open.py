# SPDX-License-Identifier: MIT
"""Strangers who begin more than a listener keeps in mind: of whom it keeps nothing, and who is served all the same."""

import pytest

from tests.support.waiting import PATIENCE_S, eventually

from .test_bad_input import ACK, PUSH
from .test_reflection import BEFORE_FIRST, CONV, NOP, SYN, challenge_of, frame, segment, strangers

__all__ = ["strangers"]  # a fixture

MOST = 5
FRAMINGS = pytest.mark.parametrize("framing,first", [("smux", SYN), ("raw", b"x")], ids=["smux", "raw"])


def openers(first, count):
    return [segment(PUSH, 0, first, conv=CONV + number) for number in range(count)]


@FRAMINGS
def test_half_open_none_is_kept_before_a_cookie_is_answered(peers, strangers, framing, first):
    server, client = peers(), peers()
    server.profile(framing=framing, max_half_open=0)
    client.profile(framing=framing)
    (stranger,) = strangers(1)
    stranger.settimeout(PATIENCE_S)
    port = server.listen()
    held = server.counts()["MemoryBytes"]
    for packet in openers(first, 50):
        stranger.sendto(packet, ("127.0.0.1", port))
        challenge_of(stranger)
    now = server.counts()
    assert now["CookiesSent"] == 50
    assert now["PassiveOpens"] == now["Sessions"] == now["BacklogDrops"] == 0
    assert now["MemoryBytes"] == held

    client.connect(port)
    server.start("accept")
    client.start_send("client", 1, 1000, shut=False)
    server.finish()
    server.receive("conn", 1000)
    client.sent("client")
    now = server.counts()
    assert now["PassiveOpens"] == now["Streams"] == 1


@FRAMINGS
def test_half_open_as_many_as_the_profile_says(peers, strangers, framing, first):
    server = peers()
    server.profile(framing=framing, max_half_open=MOST)
    (stranger,) = strangers(1)
    stranger.settimeout(PATIENCE_S)
    address = "127.0.0.1", server.listen()
    for packet in openers(first, 4 * MOST):
        stranger.sendto(packet, address)
    eventually(lambda: server.counts()["CookiesSent"] == 3 * MOST)
    now = server.counts()
    assert now["Sessions"] == now["PassiveOpens"] == MOST
    assert now["Streams"] == 0


def test_half_open_a_cookie_is_for_its_address_and_conversation(peers, strangers):
    server = peers()
    server.profile(max_half_open=0)
    address = "127.0.0.1", server.listen()
    stranger, other = strangers(2)
    stranger.settimeout(PATIENCE_S)
    stranger.sendto(segment(PUSH, 0, SYN), address)
    cookie = challenge_of(stranger)
    answer = segment(ACK, BEFORE_FIRST, ts=cookie)
    other.sendto(answer, address)
    stranger.sendto(segment(ACK, BEFORE_FIRST, ts=cookie, conv=CONV + 1), address)
    stranger.sendto(segment(ACK, BEFORE_FIRST, ts=cookie ^ 1), address)
    eventually(lambda: server.counts()["InErrs"] == 3)
    assert server.counts()["Sessions"] == 0
    stranger.sendto(answer, address)
    assert challenge_of(stranger) != cookie  # the session's own: a cookie could be a recording
    assert server.counts()["Sessions"] == 1


@pytest.mark.parametrize(
    "frames",
    [
        SYN + frame(1, 1) + frame(1, 1),
        SYN + 12 * NOP + frame(1, 1) + frame(1, 1) + frame(1, 0),
        SYN + frame(1, 0),
    ],
    ids=["reset", "padded", "farewell"],
)
def test_half_open_not_who_opens_and_resets(peers, strangers, frames):
    server, client = peers(), peers()
    (stranger,) = strangers(1)
    stranger.settimeout(PATIENCE_S)
    port = server.listen()
    for number in range(50):
        stranger.sendto(segment(PUSH, 0, frames, conv=CONV + number), ("127.0.0.1", port))
        refusal = stranger.recv(65536)
        assert len(refusal) <= 24 + len(frames)
    now = server.counts()
    assert now["PassiveOpens"] == now["Sessions"] == 0
    client.connect(port)
    server.accept()
    assert server.counts()["Streams"] == 1
