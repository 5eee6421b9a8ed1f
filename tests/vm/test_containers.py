"""In containers as engines make them: refused with the doctor's remedy, which, done, is enough (docs/platforms.md).

`crun` with a seccomp profile of an engine and the fields of Kubernetes' Pod Security Standards; rootless `podman` and `buildah`.
CAPSULE_DOCKER_SECCOMP names Docker's own profile; without it the one of podman and buildah stands for it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import oci
import pytest

pytestmark = [pytest.mark.sandbox, pytest.mark.limit(240), pytest.mark.needs("root")]
HERE = Path(__file__).resolve().parent
PROFILE = Path(os.environ.get("CAPSULE_DOCKER_SECCOMP", oci.PROFILE))
RELEASED = HERE.parents[1] / "packaging" / "container" / "capsule-run-container.seccomp.json"
COMMAND = "/usr/bin/python3 -I -S /opt/capsule/capsule_run/__main__.py"
# Both answers from one container: the doctor's report, and what a run says.
BOTH = f"""{COMMAND} doctor --json; echo; printf '{{"command": ["echo", "alive"]}}' | {COMMAND} --json"""
# What a remedy of the doctor says, and what takes it back here.
MEANING = {
    "systempaths=unconfined": "proc",
    "procMount: Unmasked": "proc",
    "seccomp=unconfined": "seccomp",
    "seccompProfile: {type: Unconfined}": "seccomp",
    "hostUsers: false": "user-namespace",
}


def answers(done):
    """The doctor's checks by name, and the response."""
    decoder = json.JSONDecoder()
    try:
        report, end = decoder.raw_decode(done.stdout)
        return {check["check"]: check for check in report["checks"]}, json.loads(done.stdout[end:])
    except ValueError:
        pytest.fail(f"{done.stdout}\n{done.stderr}")


@pytest.mark.needs("crun")
@pytest.mark.parametrize("pod", oci.PODS)
def test_container_refuses_until_the_remedy_is_done(pod):
    """An engine's defaults refuse, and nothing runs; with what the doctor asks for, and nothing more, it runs and all is well."""

    def run(remedies):
        shell = ["/bin/sh", "-c", BOTH]
        return answers(oci.run(pod, shell, remedies=remedies, profile=PROFILE, capture_output=True, text=True))

    checks, response = run([])
    assert "problem" == checks["sandbox"]["state"]
    assert response["error"]["code"] in ("E2001", "E2002")
    remedy = checks["sandbox"]["remedy"]
    assert ("docker" if pod not in oci.KUBERNETES else "kubernetes") == checks["container"]["found"]

    asked = {meaning for words, meaning in MEANING.items() if words in remedy}
    assert {"proc", "seccomp"} <= asked
    checks, response = run(asked)
    assert ("alive\n", "ok") == (response["stdout"], checks["sandbox"]["state"]), response


@pytest.mark.needs("crun")
@pytest.mark.parametrize("missing", ["proc", "seccomp"])
def test_container_remedy_has_no_part_too_many(missing):
    """With one of the two parts missing it is refused still."""
    (remedy,) = {"proc", "seccomp"} - {missing}
    done = oci.run(
        "docker-user", ["/bin/sh", "-c", BOTH], remedies=[remedy], profile=PROFILE, capture_output=True, text=True
    )
    assert "problem" == answers(done)[0]["sandbox"]["state"]


@pytest.mark.needs("crun")
@pytest.mark.parametrize("pod", ["docker-root", "docker-user"])
def test_container_with_the_profile_of_a_release_runs(pod):
    """The seccomp profile of a release stands for `unconfined`: with it and an unmasked /proc all is well."""
    shell = ["/bin/sh", "-c", BOTH]
    done = oci.run(pod, shell, remedies=["proc"], profile=RELEASED, capture_output=True, text=True)
    checks, response = answers(done)
    assert ("alive\n", "ok") == (response["stdout"], checks["sandbox"]["state"]), response


SOURCE = shlex.quote(str(oci.SOURCE))
SHARED = f"-v /usr:/usr:ro -v {SOURCE}:/opt/capsule:ro"


def rootless(script):
    return subprocess.run(
        ["sh", HERE / "rootless.sh", "sh", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.needs("podman")
def test_podman_rootless_runs_with_the_remedy():
    """Rootless podman refuses by its mask of /proc, and the doctor's flags are enough."""
    podman = f"podman --cgroup-manager cgroupfs run --rm --network none --cgroups disabled {SHARED}"
    both = shlex.quote(BOTH)
    checks, response = answers(rootless(f"{podman} --rootfs $ROOT /bin/sh -c {both}"))
    assert ("problem", "podman") == (checks["sandbox"]["state"], checks["container"]["found"])
    assert "E2002" == response["error"]["code"]
    (flags,) = re.findall("`(.*?)`", checks["sandbox"]["remedy"])

    checks, response = answers(rootless(f"{podman} {flags} --rootfs $ROOT /bin/sh -c {both}"))
    assert ("alive\n", "ok") == (response["stdout"], checks["sandbox"]["state"]), response


@pytest.mark.needs("buildah")
def test_buildah_rootless_has_no_remedy_and_says_so():
    """`buildah run` masks /proc and has no option against it: the doctor says what to use."""
    buildah = "buildah --storage-driver vfs"
    done = rootless(
        f"{buildah} from --security-opt seccomp=unconfined --name box scratch >/dev/null && "
        f"{buildah} copy -q box $ROOT / >/dev/null && {buildah} run --network none {SHARED} box /bin/sh -c {shlex.quote(BOTH)}"
    )
    checks, response = answers(done)
    assert ("problem", "buildah") == (checks["sandbox"]["state"], checks["container"]["found"])
    assert "E2002" == response["error"]["code"]
    assert "podman run" in checks["sandbox"]["remedy"]
