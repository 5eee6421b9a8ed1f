"""Print the path of user-mode-linux as another Debian release has it, made to run on this machine: `uml.py SUITE`.

bullseye has Linux 5.10, trixie 6.12. A kernel for a newer C library gets that library beside it. Give the path to guest.py in
CAPSULE_UML_KERNEL. Needs patchelf. Nothing is installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

import debian


def kernel(suite):
    """The path of the kernel, which is fetched once."""
    place = debian.CACHE / f"uml-{suite}"
    path, libraries = place / "usr/bin/linux.uml", place / "usr/lib/x86_64-linux-gnu"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        debian.Suite(suite, "amd64").unpack(place, ["user-mode-linux"], alone=True)
        if subprocess.run([path, "--version"], capture_output=True).returncode:
            debian.Suite(suite, "amd64").unpack(place, ["libc6"], alone=True)
            loader = libraries / "ld-linux-x86-64.so.2"
            subprocess.run(["patchelf", "--set-interpreter", loader, "--set-rpath", libraries, path], check=True)
        (place / "complete").touch()
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite")
    try:
        print(kernel(parser.parse_args().suite))
    except debian.DebianError as error:
        sys.exit(f"uml.py: {error}")


if __name__ == "__main__":
    main()
