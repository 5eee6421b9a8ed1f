"""The build hook: compile the core, ship it as package data and as the native command `capsule-run`.

For another processor: CAPSULE_BUILD_ARCH, as `uname -m` says it, with a cross compiler in CC or Debian's installed.

One file, two places. Beside the package it is the core; on PATH, under the name `capsule-run`, the same program
starts the environment's Python without `site` (design section 4). How to compile is `core/build.py`'s to know.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CoreBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for wheels and editable installs, not for the sdist."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("capsule_core_build", Path(self.root, "core", "build.py"))
        assert spec is not None
        assert spec.loader is not None
        core_build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(core_build)
        # Always into src/, where `artifacts` picks it up: with force_include, one left there by an editable install
        # would collide ("second file at the same path").
        core = Path(self.root, "src", "capsule_run", "_core")
        machine = os.environ.get("CAPSULE_BUILD_ARCH") or platform.machine()
        try:
            built = core_build.build(core, arch=machine)
        except core_build.BuildError as error:
            sys.exit(f"\nerror: {error}\n")
        build_data["pure_python"] = False
        build_data["shared_scripts"] = {str(core): "capsule-run"}
        build_data["tag"] = f"py3-none-{platform_tag(built.linkage, machine)}"


def platform_tag(linkage: str, machine: str) -> str:
    """A static core needs no library of the host: it runs on every glibc and musl distribution."""
    if linkage == "static":
        return f"manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_1_{machine}"
    return f"linux_{machine}"
