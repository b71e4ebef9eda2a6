# SPDX-License-Identifier: MIT
# The metadata stand in pyproject.toml; what the extension is built from, in cffi_build/build.py.
from setuptools import setup

setup(cffi_modules=["cffi_build/build.py:product"])
