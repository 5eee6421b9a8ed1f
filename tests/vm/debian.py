"""Unpack Debian's packages of any suite and architecture into a directory. Nothing is installed, and no file of /etc is read
or written but the address of the mirror and the keys.

    debian.py [--suite SUITE] [--arch ARCH] [--alone] DIRECTORY PACKAGE...

With what the packages depend on, or --alone without. Downloads are kept in CAPSULE_CI_CACHE (default ~/.cache/capsule-ci).
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

CACHE = Path(os.environ.get("CAPSULE_CI_CACHE") or Path.home() / ".cache/capsule-ci")
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
DAY = 24 * 3600
# Since Debian 12 these are links, which no package has: an installer makes them.
MERGED = ("bin", "sbin", "lib", "lib64")


class DebianError(Exception):
    """A package, or the mirror, is not to be had."""


def _run(*argv, **options):
    ended = subprocess.run([*map(str, argv)], capture_output=True, text=True, **options)
    if ended.returncode:
        raise DebianError(f"{' '.join(map(str, argv[:3]))}: {(ended.stderr or ended.stdout).strip()[-600:]}")
    return ended.stdout


def mirror():
    """Where this machine's own packages come from."""
    words = "$(REPO_URI) $(ORIGIN) $(CODENAME)"
    for line in _run("apt-get", "indextargets", "--format", words, "Created-By: Packages").splitlines():
        address, origin, codename = ([*line.split(), "", ""])[:3]
        if origin == "Debian" and "-" not in codename:
            return address
    raise DebianError("no source of Debian's packages stands in /etc/apt, or no list is there: `apt-get update`")


class Suite:
    """One suite of one architecture, with lists and downloads of its own."""

    def __init__(self, name, architecture):
        self.name, self.architecture = name, architecture
        self._place = CACHE / f"debian-{name}-{architecture}"

    @functools.cached_property
    def _apt(self):
        """The environment in which apt knows this suite alone."""
        place, configuration = self._place, self._place / "apt.conf"
        for folder in (
            "etc/preferences.d",
            "etc/sources.list.d",
            "etc/apt.conf.d",
            "lists/partial",
            "cache/archives/partial",
        ):
            (place / folder).mkdir(parents=True, exist_ok=True)
        (place / "status").touch()
        source = f"deb [arch={self.architecture} signed-by={KEYS}] {mirror()} {self.name} main\n"
        (place / "etc/sources.list").write_text(source)
        settings = {
            "Dir::Etc": place / "etc",
            "Dir::State::Lists": place / "lists",
            "Dir::State::status": place / "status",
            "Dir::Cache": place / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        configuration.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
        environment = {**os.environ, "APT_CONFIG": str(configuration)}
        fresh = place / "fresh"
        if not fresh.exists() or time.time() - fresh.stat().st_mtime > DAY:
            _run("apt-get", "update", "-q", env=environment)
            fresh.touch()
        return environment

    def depends(self, package):
        """The packages on which one depends, such as the kernel that a name without a version stands for."""
        found = _run("apt-cache", "depends", "--no-recommends", "--no-suggests", package, env=self._apt)
        return re.findall(r"(?m)^ +Depends: ([^<\s]+)", found)

    def files(self, packages, *, alone=False):
        """Download packages and return their files."""
        install = ["apt-get", "install", "-y", "--no-install-recommends"]
        if alone:
            folder = self._place / "cache/archives"
            lines = _run("apt-get", "download", "--print-uris", *packages, env=self._apt).splitlines()
            names = [line.split()[1] for line in lines if line.startswith("'")]
            wanted = [name for name, package in zip(names, packages, strict=True) if not (folder / name).exists()]
            if wanted:
                _run("apt-get", "download", *packages, env=self._apt, cwd=folder)
            return [folder / name for name in names]
        _run(*install, "--download-only", *packages, env=self._apt)
        listed = re.findall(r"(?m)^Inst (\S+) \((\S+) ", _run(*install, "--simulate", *packages, env=self._apt))
        folder = self._place / "cache/archives"
        found = [next(folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"), None) for name, version in listed]
        if missing := [name for (name, _), path in zip(listed, found, strict=True) if path is None]:
            raise DebianError(f"not downloaded: {', '.join(missing)}")
        return found

    def unpack(self, into, packages, *, alone=False):
        """Unpack packages into a directory."""
        into = Path(into)
        into.mkdir(parents=True, exist_ok=True)
        for name in () if alone else MERGED:
            (into / "usr" / name).mkdir(parents=True, exist_ok=True)
            if not (into / name).is_symlink():
                (into / name).symlink_to(f"usr/{name}")
        for path in self.files(packages, alone=alone):
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE) as content:
                _run(
                    "tar", "-x", "--keep-directory-symlink", "-C", into, stdin=content.stdout
                )  # `dpkg-deb -x` replaces links
        return into


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="bookworm", help="Debian's name of the release (default: bookworm)")
    parser.add_argument("--arch", default="amd64", help="Debian's name of the architecture (default: amd64)")
    parser.add_argument("--alone", action="store_true", help="without what the packages depend on")
    parser.add_argument("directory", type=Path)
    parser.add_argument("package", nargs="+")
    options = parser.parse_args()
    if not shutil.which("apt-get"):
        sys.exit("debian.py: needs apt-get, and Debian's packages")
    try:
        Suite(options.suite, options.arch).unpack(options.directory, options.package, alone=options.alone)
    except DebianError as error:
        sys.exit(f"debian.py: {error}")


if __name__ == "__main__":
    main()
