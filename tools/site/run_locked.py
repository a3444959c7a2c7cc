"""Run a command while nobody else holds a lock: ``run_locked.py LOCKFILE COMMAND …``.

Two builds in one folder wait for each other. The system lets go of the lock when its holder ends, however it ends.
"""

import fcntl
import subprocess
import sys
from pathlib import Path


def main(lock: Path, command: list[str]) -> int:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another build works in this folder: waiting until it is done ({lock}) …", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]) if sys.argv[2:] else __doc__)
