"""The host's paths that every sandbox shows or masks, and why. Data."""

from __future__ import annotations

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What programs need in /etc. Nothing here reveals an account, a secret or the host's name.
ETC_PATHS = (
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    "/etc/alternatives",
    "/etc/fonts",
)
# Small files that are copied if everybody may read them: a copy costs a third of a mount.
ETC_COPIED = ("/etc/ssl/openssl.cnf", "/etc/services", "/etc/protocols", "/etc/timezone")
# Git rejects a repository of another owner, because it would run that owner's hooks; inside, nothing runs with more privilege
# than the repository's files have. Git also needs an author to commit.
GITCONFIG = "[safe]\n\tdirectory = *\n[user]\n\tname = user\n\temail = user@capsule\n"
# Masked in /proc: the list of OCI containers, and what reveals the host or its keys.
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
    "timer_list",
    "timer_stats",
    "vmallocinfo",
)
# Read-only where /proc is not: the list of OCI containers, and `pressure`, which everybody may write to.
PROC_READ_ONLY = ("bus", "fs", "irq", "pressure", "sys", "sysrq-trigger")
# The masked paths of OCI containers, as container engines set them.
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
