# SPDX-License-Identifier: MIT
"""What several test folders, bench/ and `make demo` share: the lossy link, leak counts, the conformance check."""
