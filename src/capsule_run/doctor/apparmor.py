"""The AppArmor profile that lets the core create user namespaces on hosts that restrict them (Ubuntu 23.10 and later).

It confines nothing. It names our one program, so that the host need not allow user namespaces to all programs; the sandbox
confines the command.
"""

from __future__ import annotations

NAME = "capsule-run"
DESTINATION = f"/etc/apparmor.d/{NAME}"
PROFILE = """\
# Lets the core of capsule-run make user namespaces, and no other program. Made by `capsule-run doctor --apparmor`.
abi <abi/4.0>,
include <tunables/global>

profile capsule-run "{core}" flags=(unconfined) {{
  userns,

  include if exists <local/capsule-run>
}}
"""
LOAD = f"capsule-run doctor --apparmor | sudo tee {DESTINATION} && sudo apparmor_parser -r {DESTINATION}"


def profile(core: str) -> str:
    """Build the profile for the core at this path, for a file in /etc/apparmor.d."""
    quoted = "".join(f"\\{letter}" if letter in '"\\*?[]{}^@' else letter for letter in core)
    return PROFILE.format(core=quoted)
