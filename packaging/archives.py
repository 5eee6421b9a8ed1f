"""Write archives whose bytes depend on their content alone: no time, no owner, no order of a directory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

from targets import ARCHITECTURES, run

if TYPE_CHECKING:
    from pathlib import Path

ROOT_OF_TIME = 1  # seconds: SOURCE_DATE_EPOCH of targets.py


def tree_bytes(tree: Path, top: str = "") -> bytes:
    """Return a directory as an uncompressed tar archive below the name `top`; all of it is root's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted([tree, *tree.rglob("*")] if top else tree.rglob("*")):
            name = "/".join(part for part in (top, path.relative_to(tree).as_posix()) if part and part != ".")
            entry = archive.gettarinfo(path, name)
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = ROOT_OF_TIME, 0, 0, "root", "root"
            entry.mode = 0o1777 if entry.isdir() and path.name == "tmp" else entry.mode & 0o755 | 0o444
            if entry.isreg():
                with path.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    return out.getvalue()


def compressed(content: bytes) -> bytes:
    """Compress with gzip, without a name or a time."""
    return gzip.compress(content, mtime=0)


def write_tar_gz(tree: Path, top: str, out: Path) -> None:
    """Write a directory as OUT, a .tar.gz whose only directory is `top`."""
    out.write_bytes(compressed(tree_bytes(tree, top)))


# --- Debian's package --------------------------------------------------------------------------------------------------------

CONTROL = """\
Package: capsule-run
Version: {version}
Architecture: {architecture}
Maintainer: The capsule-run contributors <noreply@github.com>
Section: utils
Priority: optional
Homepage: {homepage}
Installed-Size: {kilobytes}
Suggests: python3
Description: run an untrusted command in a sandbox
 capsule-run runs a command on Linux in milliseconds, without root and
 without a daemon, isolated from the host, and says exactly what happened.
 .
 The program is one static file, which needs no other package.
"""
# AppArmor before 4.0 cannot read the profile, and needs none.
AFTER_INSTALLATION = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -e /etc/apparmor.d/abi/4.0 ]; then
	cp /usr/share/capsule-run/capsule-run.apparmor /etc/apparmor.d/capsule-run
	if aa-enabled --quiet 2>/dev/null; then apparmor_parser -r -T -W /etc/apparmor.d/capsule-run || true; fi
fi
"""
AFTER_REMOVAL = """\
#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = purge ]; then
	if [ -e /etc/apparmor.d/capsule-run ] && aa-enabled --quiet 2>/dev/null; then
		apparmor_parser -R /etc/apparmor.d/capsule-run || true
	fi
	rm -f /etc/apparmor.d/capsule-run
fi
"""


def write_deb(tree: Path, version: str, machine: str, homepage: str, out: Path) -> None:
    """Write Debian's package of a tree; adds its DEBIAN directory to the tree."""
    control = tree / "DEBIAN"
    control.mkdir()
    kilobytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    fields = {"version": version, "homepage": homepage, "kilobytes": kilobytes}
    control.joinpath("control").write_text(CONTROL.format(architecture=ARCHITECTURES[machine], **fields))
    for name, script in {"postinst": AFTER_INSTALLATION, "postrm": AFTER_REMOVAL}.items():
        control.joinpath(name).write_text(script)
        control.joinpath(name).chmod(0o755)
    run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, out)


# --- the container image -----------------------------------------------------------------------------------------------------

MEDIA = "application/vnd.oci.image"


class Image:
    """An image layout of OCI (image-spec 1.0) in a directory, for several processors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests: list[dict[str, object]] = []
        folder.joinpath("blobs", "sha256").mkdir(parents=True)

    def _blob(self, kind: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        self.folder.joinpath("blobs", "sha256", digest).write_bytes(content)
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def _json(self, kind: str, value: object) -> dict[str, object]:
        return self._blob(kind, json.dumps(value, sort_keys=True).encode())

    def add(self, machine: str, trees: list[Path], config: dict[str, object], annotations: dict[str, str]) -> None:
        """Add the image for a processor: a layer for each tree."""
        layers = [tree_bytes(tree) for tree in trees]
        digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
        platform = {"architecture": ARCHITECTURES[machine], "os": "linux"}
        image = {**platform, "config": config, "rootfs": {"type": "layers", "diff_ids": digests}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{MEDIA}.manifest.v1+json",
            "config": self._json("config.v1+json", image),
            "layers": [self._blob("layer.v1.tar+gzip", compressed(layer)) for layer in layers],
            "annotations": annotations,
        }
        self.manifests.append({**self._json("manifest.v1+json", manifest), "platform": platform})

    def write(self, name: str, out: Path) -> None:
        """Write the layout as an archive; `name` is what `podman load` and `docker load` call the image."""
        index = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": self.manifests}
        whole = self._json("index.v1+json", index)
        whole["annotations"] = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
        top = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [whole]}
        self.folder.joinpath("index.json").write_text(json.dumps(top, sort_keys=True))
        self.folder.joinpath("oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        out.write_bytes(tree_bytes(self.folder))
