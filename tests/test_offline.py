"""The network is cut, in either way, and the machine's own addresses work."""

import os
import subprocess
import sys
from pathlib import Path

import offline
import pytest

CALLS = """
import socket
server = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(server.getsockname()):
    print("inside")
for reach in (lambda: socket.create_connection(("192.0.2.1", 80), 3), lambda: socket.getaddrinfo("example.org", 80)):
    try:
        reach()
    except OSError as error:
        print("cut", error)
raise SystemExit(3)
"""


@pytest.mark.parametrize("way", ["a network of its own", "Python's sockets only"])
def test_nothing_outside_is_reached(way: str, tmp_path: Path) -> None:
    if way == "a network of its own" and not offline.can_unshare():
        pytest.skip("this system allows no network of its own")
    path = os.environ["PATH"] if way == "a network of its own" else str(tmp_path)  # where there is no `unshare`
    command = [sys.executable, offline.__file__, sys.executable, "-c", CALLS]
    run = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    said, inside, *cuts = run.stdout.splitlines()
    assert way in said
    assert inside == "inside"
    assert len(cuts) == 2 and all(line.startswith("cut ") for line in cuts)
    assert way == "a network of its own" or all("the network is cut" in line for line in cuts)
    assert run.returncode == 3  # the command's own
