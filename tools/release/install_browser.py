"""Install Chromium for the browser tests if it is missing and can be had (Debian or Ubuntu, as root or with sudo)."""

import os
import shutil
import subprocess

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """The path of an installed Chromium."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def main() -> None:
    if find() or not shutil.which("apt-get"):
        return
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    may = root or shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
    if not may:
        print("No Chromium, and no right to install it: the browser tests will say so.")
        return
    print("Installing Chromium …", flush=True)
    prefix = [] if root else ["sudo", "-n"]
    quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "check": False}
    subprocess.run([*prefix, "apt-get", "update", "-qq"], **quiet)
    subprocess.run([*prefix, "apt-get", "install", "-y", "-qq", "chromium"], **quiet)


if __name__ == "__main__":
    main()
