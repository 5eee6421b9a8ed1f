"""Which of the host's paths every sandbox shows or hides, and why. Data; read by `host`."""

from __future__ import annotations

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What programs expect of the host in /etc. Nothing here names an account, a secret, a host or a machine.
ETC_PATHS = (
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    "/etc/alternatives",
    "/etc/fonts",
)
# Small tables that are copied, if everybody may read them: a file costs a third of a mount.
ETC_COPIED = ("/etc/ssl/openssl.cnf", "/etc/services", "/etc/protocols", "/etc/timezone")
# Git refuses a repository that belongs to somebody else than its user, against programs that it would start there: inside,
# nothing runs with more right than the repository's own. It also wants to know who commits.
GITCONFIG = "[safe]\n\tdirectory = *\n[user]\n\tname = user\n\temail = user@capsule\n"
# Hidden in /proc beside its being read-only: an OCI container's list, and what tells of the host or its keys.
PROC_MASKED = (
    "acpi",
    "asound",
    "cmdline",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
)
# The masked paths of an OCI container, as container engines set them.
OCI_MASKED = (
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
)
