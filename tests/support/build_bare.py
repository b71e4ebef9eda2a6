# SPDX-License-Identifier: MIT
"""Builds tests/support/_bare, from anywhere: python tests/support/build_bare.py"""

import os
from pathlib import Path

from setuptools import setup

os.chdir(Path(__file__).resolve().parents[2])
setup(
    name="kcpsock-tests",
    packages=["tests.support"],
    cffi_modules=["cffi_build/build.py:bare"],
    script_args=["-q", "build_ext", "--inplace", "--build-temp=build/bare"],
)
