"""The AppArmor profile that lets the core make user namespaces on hosts that restrict them (Ubuntu 23.10 and later).

It confines nothing: it names our one program, so that the host need not allow user namespaces to all of them. What
confines the command is the sandbox itself.
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
    """The profile for the core at this path, as it goes into /etc/apparmor.d."""
    quoted = "".join(f"\\{letter}" if letter in '"\\*?[]{}^@' else letter for letter in core)
    return PROFILE.format(core=quoted)
