"""Run a command that reaches nothing but its own machine: ``offline.py COMMAND …``.

Linux gives it a network of its own, in which there is only the loopback device. Where that is not allowed, and on other
systems, sockets of Python refuse to connect to any other host. The first line says which of the two it was.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

UNSHARE = ["unshare", "--map-root-user", "--net"]
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
    fcntl.ioctl(device, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""
GUARD = """
import socket


def guarded(method):
    def connect(self, address):
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(101, f"the network is cut: {address[0]}")
        return method(self, address)

    return connect


def getaddrinfo(host, *rest, _original=socket.getaddrinfo, **options):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        raise socket.gaierror(-3, f"the network is cut: {host}")
    return _original(host, *rest, **options)


socket.socket.connect, socket.socket.connect_ex = guarded(socket.socket.connect), guarded(socket.socket.connect_ex)
socket.getaddrinfo = getaddrinfo
"""


def can_unshare() -> bool:
    if shutil.which(UNSHARE[0]) is None:
        return False
    probe = [*UNSHARE, sys.executable, "-c", LOOPBACK_UP, "true"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def main(command: list[str]) -> int:
    if can_unshare():
        print("The network is cut: a network of its own, with the loopback device alone.", flush=True)
        return subprocess.run([*UNSHARE, sys.executable, "-c", LOOPBACK_UP, *command]).returncode
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(GUARD)
        print("The network is cut for Python's sockets only: this system allows no network of its own.", flush=True)
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        return subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)
