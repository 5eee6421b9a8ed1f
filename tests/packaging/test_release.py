"""What `packaging/release` writes: each way to install it ends with a sandbox that greets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64"}
GREETING = "Hello, World!\n"
GREET = "capsule-run -- echo 'Hello, World!'"
# A root of its own for a script: all of the host's files, and what is written to them is gone after it.
COPY_OF_THE_HOST = """\
mount -t tmpfs tmpfs "$1" && cd "$1" && mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root && mount -t proc proc proc && mount --rbind /dev dev && mount -t tmpfs tmpfs tmp
mkdir tmp/release && mount --bind "$2" tmp/release
pivot_root . . && umount -l . && cd / && exec /bin/sh -euc "$3"
"""
# The same with a directory as root.
ONLY_A_DIRECTORY = """\
mount --bind "$1" "$1" && cd "$1" && mount -t proc proc proc && mount --rbind /dev dev && mount -t tmpfs tmpfs tmp
pivot_root . . && umount -l . && cd / && exec /bin/sh -euc "$3"
"""


@pytest.fixture(scope="session")
def release():
    """The directory that CAPSULE_TEST_RELEASE names, which `packaging/release` has written."""
    if "CAPSULE_TEST_RELEASE" not in os.environ:
        pytest.skip("needs release")
    return Path(os.environ["CAPSULE_TEST_RELEASE"])


@pytest.fixture(scope="session")
def version():
    import capsule_run

    return capsule_run.__version__


def run(*words, **options):
    settings = {"capture_output": True, "text": True, "timeout": 300, "cwd": "/", "check": False}
    return subprocess.run([str(word) for word in words], **{**settings, **options})


def in_root(make, root, release, script):
    """Run a script in a root and mounts of its own."""
    apart = ["unshare", *"--mount --pid --fork --propagation private sh -euc".split()]
    done = run(
        *apart,
        make,
        "sh",
        root,
        release,
        script,
        env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"},
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def members(archive):
    with tarfile.open(archive) as opened:
        return {member.name: member for member in opened}


def test_release_has_each_download_for_both_processors(release, version):
    """Nothing is missing, nothing else is there, and the checksums are of these files."""
    expected = {"SHA256SUMS", "RELEASE_NOTES.md", "install.sh", f"capsule_sandbox-{version}.tar.gz"}
    expected |= {
        f"capsule-run-{version}.oci.tar",
        *(path.name for path in (REPOSITORY / "packaging/container").iterdir()),
    }
    for machine, architecture in PROCESSORS.items():
        tags = f"manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_1_{machine}"
        expected |= {f"capsule-run-{version}-{machine}.tar.gz", f"capsule-run-{version}-{machine}.cdx.json"}
        expected |= {f"capsule-run_{version}_{architecture}.deb", f"capsule_sandbox-{version}-py3-none-{tags}.whl"}
    assert expected == {path.name for path in release.iterdir()}
    assert 0 == run("sha256sum", "--strict", "-c", "SHA256SUMS", cwd=release).returncode
    listed = {line.split()[1] for line in release.joinpath("SHA256SUMS").read_text().splitlines()}
    assert expected - {"SHA256SUMS"} == listed


@pytest.mark.needs("cc")
@pytest.mark.parametrize(("machine", "kind"), [("x86_64", "X86-64"), ("aarch64", "AArch64")])
def test_release_programs_are_of_their_processor(release, version, machine, kind, tmp_path):
    """The static file, the one in Debian's package and the core of the wheel are programs for the processor that is promised."""
    shutil.unpack_archive(release / f"capsule-run-{version}-{machine}.tar.gz", tmp_path / "tar", filter="data")
    run("dpkg-deb", "-x", release / f"capsule-run_{version}_{PROCESSORS[machine]}.deb", tmp_path / "deb", check=True)
    with zipfile.ZipFile(next(release.glob(f"*{machine}.whl"))) as wheel:
        wheel.extractall(tmp_path / "wheel")
    programs = [
        tmp_path / "tar" / f"capsule-run-{version}-{machine}" / "capsule-run",
        tmp_path / "deb" / "usr" / "bin" / "capsule-run",
        tmp_path / "wheel" / "capsule_run" / "_core",
    ]
    for program in programs:
        assert kind in run("readelf", "-h", program).stdout
        assert "INTERP" not in run("readelf", "-lW", program).stdout
    assert programs[0].read_bytes() == programs[1].read_bytes()


def test_release_archive_has_manual_and_completions(release, version):
    """Besides the program a page for each subcommand and completions for three shells; nothing belongs to its builder."""
    names = members(release / f"capsule-run-{version}-x86_64.tar.gz")
    top = f"capsule-run-{version}-x86_64"
    from capsule_run.cli.subcommands import SUBCOMMANDS

    pages = {f"{top}/share/man/man1/capsule-run-{name}.1.gz" for name in SUBCOMMANDS if name != "help"}
    assert set() == pages - set(names)
    assert 3 == sum("completion" in name and "/man1/" not in name and member.isfile() for name, member in names.items())
    assert {("root", "root", 1)} == {(member.uname, member.gname, member.mtime) for member in names.values()}
    assert 0o755 == names[f"{top}/capsule-run"].mode


def test_release_notes_are_the_newest_part_of_the_changelog(release, version):
    """They have this version's heading alone, and links that work outside the repository."""
    notes = release.joinpath("RELEASE_NOTES.md").read_text()
    assert notes.startswith(f"## [{version}]")
    assert 1 == notes.count("\n## ") + 1
    assert "](docs/" not in notes


@pytest.mark.needs("root")
def test_release_archive_unpacked_by_tar_greets(release, version):
    """`tar` and a copy to a directory of PATH are an installation."""
    unpack = f"tar -xzf /tmp/release/capsule-run-{version}-$(uname -m).tar.gz -C /tmp"
    script = f"{unpack}; cp /tmp/capsule-run-*/capsule-run /usr/bin/; {GREET}"
    assert GREETING == in_root(COPY_OF_THE_HOST, "/mnt", release, script)


@pytest.mark.needs("root")
def test_release_installer_greets_and_refuses_another_file(release, version):
    """`install.sh` compares the checksum: a file that was changed is not installed."""
    script = f"""\
sh /tmp/release/install.sh >/dev/null && test -x /usr/local/bin/capsule-run && {GREET}
cp -r /tmp/release /tmp/changed && echo x >>/tmp/changed/capsule-run-{version}-$(uname -m).tar.gz
CAPSULE_RELEASE=/tmp/changed sh /tmp/release/install.sh /tmp/other 2>&1 || echo refused; test ! -e /tmp/other/capsule-run"""
    said = in_root(COPY_OF_THE_HOST, "/mnt", release, f"export CAPSULE_RELEASE=/tmp/release; {script}")
    assert said.startswith(GREETING)
    assert said.endswith("nothing was installed\nrefused\n")


@pytest.mark.slow
@pytest.mark.needs("root")
def test_release_debian_package_installs_greets_and_leaves(release, version):
    """`dpkg -i` needs no other package; the removal leaves no file of it."""
    script = f"""\
dpkg --no-triggers --force-unsafe-io -i /tmp/release/capsule-run_{version}_$(dpkg --print-architecture).deb >/dev/null && {GREET}
test -s /usr/share/man/man1/capsule-run.1.gz && dpkg --no-triggers --force-unsafe-io -P capsule-run >/dev/null 2>&1
for path in /usr/bin/capsule-run /usr/share/capsule-run /usr/share/doc/capsule-run; do test ! -e $path; done"""
    assert GREETING == in_root(COPY_OF_THE_HOST, "/mnt", release, script)


def layers_of(image, architecture):
    """Return the layers of an image for a processor, each checked against its digest, and the image's configuration."""
    with tarfile.open(image) as archive:

        def blob(description):
            content = archive.extractfile(f"blobs/sha256/{description['digest'].removeprefix('sha256:')}").read()
            assert (description["digest"], description["size"]) == (
                f"sha256:{hashlib.sha256(content).hexdigest()}", len(content),
            )  # fmt: skip
            return content

        index = json.loads(archive.extractfile("index.json").read())
        manifests = json.loads(blob(index["manifests"][0]))["manifests"]
        found = next(one for one in manifests if one["platform"]["architecture"] == architecture)
        manifest = json.loads(blob(found))
        return [blob(layer) for layer in manifest["layers"]], json.loads(blob(manifest["config"]))


@pytest.mark.needs("root")
def test_release_image_as_a_root_greets(release, version, tmp_path):
    """The image's layers are a root in which its entry point runs a command, as the image's user."""
    layers, config = layers_of(release / f"capsule-run-{version}.oci.tar", PROCESSORS[os.uname().machine])
    root = tmp_path / "root"
    root.mkdir()
    for number, layer in enumerate(layers):
        path = tmp_path / f"layer{number}"
        path.write_bytes(layer)
        run("tar", "-xzpf", path, "-C", root, check=True)
    assert (["/usr/bin/capsule-run"], "65532:65532") == (config["config"]["Entrypoint"], config["config"]["User"])
    greet = "cd /work && exec su capsule -c \"/usr/bin/capsule-run -- echo 'Hello, World!'\""
    assert GREETING == in_root(ONLY_A_DIRECTORY, root, release, greet)


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_release_image_has_both_processors(release, version, architecture):
    """Every blob is the one that its digest names, and the configuration is of the processor."""
    layers, config = layers_of(release / f"capsule-run-{version}.oci.tar", architecture)
    assert (2, architecture) == (len(layers), config["architecture"])


def environment(tmp_path, **more):
    """The variables for an installer: no index of packages, and a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PIPX_"))}
    return {**kept, "HOME": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONFIG_FILE": os.devnull, **more}


@pytest.mark.slow
def test_release_wheel_installed_by_pip_greets(release, tmp_path):
    """`pip install` takes the wheel from the folder, and needs no other package and no compiler."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", check=True)
    pip = [tmp_path / "venv/bin/pip", *"install -q --no-index --only-binary :all: --find-links".split(), release]
    done = run(*pip, "capsule-sandbox", env=environment(tmp_path, PATH="/nonexistent"))
    assert 0 == done.returncode, done.stderr
    assert GREETING == run(tmp_path / "venv/bin/capsule-run", "--", "echo", "Hello, World!").stdout


@pytest.mark.slow
@pytest.mark.needs("uv")
def test_release_wheel_installed_by_uv_greets(release, tmp_path):
    """`uv tool install` puts the command into its directory of programs."""
    variables = environment(tmp_path, UV_TOOL_BIN_DIR=str(tmp_path / "bin"), UV_TOOL_DIR=str(tmp_path / "tools"))
    words = ["uv", *"tool install -q --no-config --offline --no-index --no-python-downloads --python".split()]
    done = run(*words, sys.executable, "--find-links", release, "capsule-sandbox", env=variables)
    assert 0 == done.returncode, done.stderr
    assert GREETING == run(tmp_path / "bin/capsule-run", "--", "echo", "Hello, World!").stdout


@pytest.mark.slow
@pytest.mark.needs("pipx")
def test_release_wheel_installed_by_pipx_greets(release, tmp_path):
    """`pipx install` does the same."""
    variables = environment(tmp_path, PIPX_HOME=str(tmp_path / "pipx"), PIPX_BIN_DIR=str(tmp_path / "bin"))
    options = f"--no-index --find-links {release}"
    done = run("pipx", "install", "--python", sys.executable, f"--pip-args={options}", "capsule-sandbox", env=variables)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert GREETING == run(tmp_path / "bin/capsule-run", "--", "echo", "Hello, World!").stdout
