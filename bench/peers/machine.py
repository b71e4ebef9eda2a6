# SPDX-License-Identifier: MIT
"""The machine and the versions behind a set of figures: figures without them mean nothing."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

from peers import rivals


def describe():
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),  # other work on the cores: read the figures with care
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "go": _output("go", "env", "GOVERSION"),
        "kcp-go": rivals.kcp_go_version(),
        "kcpsock": _output("git", "describe", "--always", "--dirty"),
    }


def sentence(machine):
    return (
        f"{machine['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, "
        f"load {machine['load_before']}; {machine['python']}, {machine['go']}, "
        f"kcp-go {machine['kcp-go']}, kcpsock {machine['kcpsock']}"
    )


def _cpu_model():
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or "unknown"


def _output(*command):
    try:
        done = subprocess.run(command, cwd=rivals.ROOT, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
