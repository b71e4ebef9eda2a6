# SPDX-License-Identifier: MIT
"""HTTP libraries over KCP: one module for each library, and one extra (`pip install kcpsock[requests]`).

- `kcpsock.adapters.requests`: KCPAdapter, for session.mount()
- `kcpsock.adapters.urllib3`: KCPPoolManager, and the pools and connections that it makes
- `kcpsock.adapters.httpx`: KCPTransport, for httpx.Client(transport=)
- `kcpsock.adapters.httpcore`: KCPBackend, the network backend below it

In all of them `profile` is how the connections behave, and `endpoint` the KCP address to dial whatever the URL's host.
"""
