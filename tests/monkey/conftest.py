# SPDX-License-Identifier: MIT
"""Certificates in files, for programs in other processes."""

from typing import NamedTuple

import pytest


class Certificates(NamedTuple):
    server: str  # key and certificate of "localhost"
    authority: str


@pytest.fixture(scope="session")
def certificates(authority, ca_file, tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    return Certificates(str(directory / "server.pem"), ca_file)
