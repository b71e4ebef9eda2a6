# SPDX-License-Identifier: MIT
"""A sender against a reader that waits: what both may hold, by the windows, and that nothing is lost.

Memory is counted above that of the idle process. Of data under way it may hold, beside what the kernel's buffers hold:

- at the sender one send window of packets, sent or not;
- at the reader one receive window in KCP, and for its application the buffer of a session (smux), or what one read of
  the application left over (raw);
- some fixed parts: rings, FEC groups, spare blocks.
"""

from tests.engine.peer import digest
from tests.support.waiting import a_moment, eventually

KIB, MIB = 1 << 10, 1 << 20
WINDOW_PKTS = 1024  # both; what windows that are "auto" begin with, and stay at for who never reads
SLAB_BYTES = 1600  # a packet of 1,500 bytes with what is noted about it
BUFFER_BYTES = {"smux": 4 * MIB, "raw": 64 * KIB}
FIXED_BYTES = MIB
SPARE_BYTES = MIB  # 64 chunks that a pool keeps for a moment, where more was under way than waits now
KERNEL_BYTES = MIB  # the two pairs between applications and engines: their sizes are the system's default
PROGRAM_BYTES = 16 * MIB  # the test program itself: its blocks, threads, and what Python and malloc keep
PROBES_SEGS = 16  # a second's; a window probe and its answer come after 0.5 s at the earliest
LOOKS = 50  # for half a second: a thread of a busy machine may have to wait for its core
SEED = 20261125


def hold_and_release(peers, size, framing="smux", **profile):
    """One transfer of `size` bytes whose reader begins when the sender has come to a stop."""
    profile = {"sndwnd": WINDOW_PKTS, "rcvwnd": WINDOW_PKTS, **profile}
    window_bytes = WINDOW_PKTS * SLAB_BYTES
    most = {"sender": window_bytes + FIXED_BYTES, "reader": window_bytes + BUFFER_BYTES[framing] + FIXED_BYTES}
    if profile["sndwnd"] == "auto":
        most["sender"] += SPARE_BYTES
    both = {"reader": peers(), "sender": peers()}
    reader, sender = both.values()
    idle = {}
    for name, peer in both.items():
        peer.profile(framing=framing, **profile)
        peer.digest(SEED, 1)  # loads the hash's library
        idle[name] = peer.idle()
    sender.connect(reader.listen())
    sender.start_send("client", SEED, size, framing == "smux")
    reader.accept()
    looks = []

    def is_held():
        looks.append(sender.counts()["BytesSent"])
        at_rest = looks[-1] > 0 and len(looks) >= LOOKS and len(set(looks[-LOOKS:])) == 1
        return at_rest and sender.info("client")["in_flight_pkts"] == 0

    eventually(is_held, lambda: f"{sender.info('client')}")
    assert sender.is_sending("client")
    held = {name: peer.counts() for name, peer in both.items()}
    for name in both:
        bytes_held = {what: held[name][what] - idle[name][what] for what in ("MemoryBytes", "rss_bytes")}
        print(f"{name} holds {bytes_held}, at most {most[name]} of MemoryBytes")
        assert bytes_held["MemoryBytes"] <= most[name]
        assert bytes_held["rss_bytes"] <= most[name] + PROGRAM_BYTES
    assert looks[-1] <= most["sender"] + most["reader"] + KERNEL_BYTES

    a_moment(1)
    for name, peer in both.items():
        now = peer.counts()
        rise = {what: now[what] - held[name][what] for what in ("OutSegs", "RetransSegs", "RepeatSegs")}
        print(f"{name} while it is held: {rise}")
        assert rise["RetransSegs"] == rise["RepeatSegs"] == 0
        assert rise["OutSegs"] <= PROBES_SEGS
        assert now["MemoryBytes"] - idle[name]["MemoryBytes"] <= most[name]

    reader.start("receive", "conn", None if framing == "smux" else size)
    sender.sent("client")
    assert reader.finish() == [size, digest(SEED, size)]
    for name, peer in both.items():
        now = peer.counts()
        peak_bytes = now["rss_peak_bytes"] - idle[name]["rss_bytes"]
        print(f"{name} held {peak_bytes} at most; {now['RetransSegs']} of {now['OutSegs']} segments sent again")
        if profile["rcvwnd"] == WINDOW_PKTS:  # else it has grown by now
            assert peak_bytes <= most[name] + PROGRAM_BYTES
        assert now["BytesSent"] + now["BytesReceived"] == size
    sender.close()
    reader.close()
    if framing == "smux":  # raw KCP has no farewell, and stays for ten seconds
        for name, peer in both.items():
            peer.freed(idle[name])
