# SPDX-License-Identifier: MIT
"""A transfer through a bad link: the project's own relay (tests/support/lossylink*.c) between client and server.

The relay is one thread of its own process. It delays and drops by seeded chance, and it counts what entered it and what
left: the same instrument for whoever sends. Its CPU is nobody's.
"""

from peers import process
from tests.support import lossylink

SLOTS = 1 << 17  # packets under way, each direction: more than any window here
BUFFER_BYTES = 64 << 20  # a whole window may come in one burst, and the kernel counts 2.3 KB for a packet
LINK = "tests/support/lossylink*.c: a relay on loopback, one process, seeded loss of single packets, order kept"


def transfer(rival, arguments, *, rtt_ms, loss, seed, timeout):
    """One run. -> {"server": result, "client": result, "link": its counts when all had arrived}. Raises PeerFailed."""
    with process.Peer(rival, "server", arguments, timeout) as server:
        target = ("127.0.0.1", server.word("port"))
        settings = {"delay_ms": rtt_ms / 2, "loss": loss, "slots": SLOTS, "buffer_bytes": BUFFER_BYTES}
        with lossylink.LossyLink(target, seed=seed, **settings) as link:
            address = f"--addr=127.0.0.1:{link.address[1]}"
            with process.Peer(rival, "client", [address, *arguments], timeout) as client:
                got = server.result(beside=client)
                counts = link.stats()
                client.tell()
                return {"server": got, "client": client.result(), "link": counts}
