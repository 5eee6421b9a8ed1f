"""Install a package in one sandbox with network, and use it in another without.

    python examples/install_package.py [PACKAGE [CODE]]

An installation runs code of the package and needs the network; the code that uses it needs neither. So they get two sandboxes:
the first may write to one directory and nothing else, the second may read it.
"""

from __future__ import annotations

import os
import sys
import tempfile

import capsule_run

# pip's own settings, such as PIP_INDEX_URL for a mirror; nothing else of this environment reaches the sandbox.
SETTINGS = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def install(package: str, folder: str) -> None:
    """Install a package and what it needs into the folder."""
    command = ["python", "-m", "pip", "install", "--quiet", "--target", folder, package]
    links = [path for path in [SETTINGS.get("PIP_FIND_LINKS", "")] if path.startswith("/")]
    capsule_run.run(
        command,
        network=True,
        writable=[folder],
        readonly=links,
        env={**SETTINGS, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"},
        memory="1G",
        timeout_ms=300_000,
    ).check()


def use(code: str, folder: str) -> str:
    """Run code that can import what the folder has, without a network."""
    result = capsule_run.run(["python", "-c", code], readonly=[folder], env={"PYTHONPATH": folder}, memory="1G")
    return result.check().stdout


def main() -> None:
    package, code = (*sys.argv[1:], *("six", "import six; print('six', six.__version__)")[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as folder:
        install(package, os.path.realpath(folder))
        print(use(code, os.path.realpath(folder)), end="")


if __name__ == "__main__":
    main()
