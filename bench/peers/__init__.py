# SPDX-License-Identifier: MIT
"""The programs at both ends, and what starts them. bench/ takes the Go peer and the bad link from tests/support."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))  # after bench/, whose names come first
