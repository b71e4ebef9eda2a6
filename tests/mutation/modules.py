# SPDX-License-Identifier: MIT
"""Which tests concern which module of kcpsock, the quickest and likeliest first: a change is tried on these alone."""


def _unit(*names):
    return [f"tests/unit/test_{name}.py" for name in names]


def _socket(*names):
    return [f"tests/socket/test_{name}.py" for name in names]


# In order of risk: so they are tried.
TESTS = {
    "_states": _unit("states") + _socket("connect", "stream", "reset", "bad_input"),
    "_profile": _unit("profile", "keys", "kcptun", "connections", "face") + _socket("options"),
    "_options": _socket("options", "names", "reset", "descriptors") + ["tests/monkey/test_routed.py"],
    "_life": _socket(
        "names", "connect", "rebind", "descriptors", "options", "bad_input", "engines", "hosts", "first_use_and_exit"
    ),
    "_connections": _unit("connections", "face")
    + _socket("names", "options", "connect", "reset", "signals", "send_now", "unread", "rebind", "engines")
    + _socket("first_use_and_exit", "process"),
    "_engines": _socket("first_use_and_exit", "process", "engines", "packets", "fork"),
    "_numbers": _unit("numbers", "face") + _socket("descriptors", "engines"),
    "_socket": _socket(
        "stream", "connect", "names", "options", "timeouts", "descriptors", "reset", "poll", "greenlets", "signals"
    )
    + _socket("tls", "bad_input")
    + _unit("oob")
    + _socket("unread", "sending", "process"),
    "_functions": _unit("face") + _socket("names", "connect", "descriptors", "greenlets", "bad_input"),
    "_wait": _socket("timeouts", "greenlets", "names", "connect", "stream", "poll", "signals", "bad_input"),
    "_errors": _unit("errors") + _socket("connect", "timeouts"),
    "_fork": _socket("fork"),
    "_crypt": _unit("crypt", "profile"),
    "_fec": _unit("fec", "gf256"),
    "_kcptun": _unit("kcptun"),
    "_oob": _unit("oob") + _socket("first_use_and_exit"),
    "_routed": ["tests/monkey"],
    "_snappy": _unit("snappy", "profile") + _socket("packets"),
    "_tls": _unit("tls") + _socket("tls", "process"),
    "_arguments": _socket("bad_input", "first_use_and_exit"),
    "__init__": _unit("face"),
}
