# SPDX-License-Identifier: MIT
"""What no other thread may be in the middle of when the process forks.

A forked child has one thread, the one that forked; a lock that another held stays locked in it for ever. kcpsock's own
locks are made anew in the child where what they guard is forgotten there, or is right at any moment. That doesn't help
where foreign locks are held as well: those of Python's import, of OpenSSL, which the child needs too. Such work is done
`with held:`, and fork() waits for its end.

tests/socket/test_fork.py has the list of all locks.
"""

from __future__ import annotations

import os

from gevent.monkey import get_original

# An RLock: a thread that forks in the middle, in a signal handler, goes on in the child.
held = get_original("_thread", "RLock")()

os.register_at_fork(before=held.acquire, after_in_parent=held.release, after_in_child=held.release)
