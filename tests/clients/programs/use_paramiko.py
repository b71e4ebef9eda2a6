# SPDX-License-Identifier: MIT
"""use_paramiko.py HOST PORT: logs in over SSH and has a command run, by paramiko."""

import sys
import warnings

warnings.filterwarnings("ignore", module="paramiko|cryptography")
import paramiko  # noqa: E402

ADDRESS = sys.argv[1], int(sys.argv[2])
OPTIONS = {"timeout": 30, "look_for_keys": False, "allow_agent": False}

with paramiko.SSHClient() as client:
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(*ADDRESS, "ada", "secret", **OPTIONS)
    stdin, stdout, stderr = client.exec_command("wc -c", timeout=30)
    stdin.write(b"x" * 1_000_000)
    stdin.channel.shutdown_write()
    print(stdout.read().decode(), stdout.channel.recv_exit_status())
    for stream in (stdin, stdout, stderr):
        stream.close()
with paramiko.SSHClient() as client:
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    try:
        client.connect(*ADDRESS, "ada", "guess", **OPTIONS)
    except paramiko.AuthenticationException as error:
        print(error)
