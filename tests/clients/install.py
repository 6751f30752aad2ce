"""Install the agents of versions.txt into .cache/clients/, each in a folder of its own that its version names.

What is there already is kept, so that this takes no time and no network the second time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
CACHE = os.path.join(os.path.dirname(os.path.dirname(HERE)), ".cache", "clients")


def wanted() -> dict[str, tuple[str, str]]:
    """Package -> (npm or pip, version)."""
    with open(os.path.join(HERE, "versions.txt"), encoding="utf-8") as file:
        lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
    return {package: (source, version) for source, package, version in lines}


def folder(package: str) -> str:
    """Where the programs of a package are."""
    source, version = wanted()[package]
    place = os.path.join(CACHE, f"{package.strip('@').replace('/', '-')}-{version}")
    return os.path.join(place, "node_modules", ".bin") if source == "npm" else os.path.join(place, "bin")


def install(package: str) -> None:
    source, version = wanted()[package]
    place = os.path.dirname(folder(package)) if source == "pip" else os.path.dirname(os.path.dirname(folder(package)))
    if os.path.exists(os.path.join(place, ".complete")):
        return
    print(f"installing {package} {version} into {place}", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
    if source == "npm":
        subprocess.run(["npm", "install", "--silent", "--prefix", place, f"{package}@{version}"], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([os.path.join(place, "bin", "pip"), "install", "-q", f"{package}=={version}"], check=True)
    with open(os.path.join(place, ".complete"), "w"):
        pass


if __name__ == "__main__":
    for each in sys.argv[1:] or wanted():
        install(each)
