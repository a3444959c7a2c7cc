"""Install Chromium, and poppler for the tests of the PDF, if they are missing and can be had (Debian or Ubuntu)."""

import os
import shutil
import subprocess

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """The path of an installed Chromium."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def main() -> None:
    packages = ["chromium"] * (not find()) + ["poppler-utils"] * (not shutil.which("pdftotext"))
    if not packages or not shutil.which("apt-get"):
        return
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    may = root or shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
    if not may:
        print(f"No {' and no '.join(packages)}, and no right to install: the tests will say so.")
        return
    print(f"Installing {' and '.join(packages)} …", flush=True)
    prefix = [] if root else ["sudo", "-n"]
    quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "check": False}
    subprocess.run([*prefix, "apt-get", "update", "-qq"], **quiet)
    subprocess.run([*prefix, "apt-get", "install", "-y", "-qq", *packages], **quiet)


if __name__ == "__main__":
    main()
