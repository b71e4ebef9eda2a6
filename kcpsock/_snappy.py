# SPDX-License-Identifier: MIT
"""Snappy, for `Profile(compress=True)`: an optional part, the extra "snappy" (PyPI's cramjam)."""

from __future__ import annotations


def require() -> None:
    """Raises ImportError, saying what to install, when the codec is not here."""
    try:
        import cramjam

        cramjam.snappy.compress_raw_into  # noqa: B018  (a cramjam built without snappy lacks it)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "compress=True needs the snappy codec of the package cramjam: pip install kcpsock[snappy]"
        ) from error
