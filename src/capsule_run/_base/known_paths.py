"""The host's paths that every sandbox shows or masks, and all names that may mean a secret. Data.

Read by `host` for what is shown, and by `result.hints` for what may be named.
"""

from __future__ import annotations

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# What every program may need in /etc. Nothing here reveals an account, a secret or the host's name. Directories of single
# packages are found by the rule of `package_settings` (docs/decisions/etc-of-packages.md).
ETC_PATHS = (
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    "/etc/alternatives",
    "/etc/fonts",
)
# What packages make of their own files when they are installed, and programs in /usr read by a link or by its name. Nothing
# of the host's is in it (docs/decisions/etc-of-packages.md).
VAR_PATHS = (
    "/var/lib/ghc",
    "/var/lib/ghostscript",
    "/var/lib/texmf",
    "/var/lib/aspell",
    "/var/cache/dictionaries-common",
    "/var/cache/fontconfig",
)
# Small files that are copied if everybody may read them: a copy costs a third of a mount.
# They hold tables of a distribution, and no settings of a host in which an administrator could have written a password.
ETC_COPIED = ("/etc/ssl/openssl.cnf", "/etc/services", "/etc/protocols", "/etc/timezone")
ETC_TABLES = frozenset(
    "alpine-release arch-release debian_version fedora-release locale.alias lsb-release magic magic.mime manpath.config "
    "mime.types mke2fs.conf odbcinst.ini os-release papersize redhat-release system-release".split()
)
# Directories in /etc that are never shown, though /usr has one of the same name: accounts and secrets, what identifies this
# host or its network, services, package management, and what only an administrator uses.
ETC_HIDDEN = frozenset(
    "NetworkManager PackageKit X11 acpi alternatives amanda ansible apache2 apparmor apparmor.d apt audit authselect avahi bind "
    "bluetooth ca-certificates chef cloud cni containerd containers cron.d cups dbus-1 default dhcp dnf docker dovecot "
    "dpkg environment.d exim4 ferm fail2ban gnupg grub.d init init.d ipsec.d iscsi kernel krb5.conf.d kubernetes ldap "
    "letsencrypt libvirt local logrotate.d lvm mercurial modprobe.d monit mosquitto munin mysql nagios netplan network "
    "nginx ntp nut openldap openvpn opt pacman.d pam.d pki polkit-1 postfix postgresql postgresql-common ppp profile.d puppet "
    "rancher rc.d redis resolvconf rpm rsyslog.d salt samba security selinux skel snmp ssh ssl sssd strongswan "
    "subversion sudoers.d sysconfig sysctl.d systemd tmpfiles.d tor udev ufw vault wireguard xinetd.d yum "
    "zabbix zypp fonts java "
    "ethertypes fstab group group- gshadow gshadow- hostname hosts issue machine-id motd mtab netconfig networks "
    "npmrc passwd passwd- profile protocols rmt rpc services shadow shadow- shells subgid subgid- subuid subuid- timezone "
    "binfmt.d cron.daily cron.hourly cron.monthly cron.weekly rc0.d rc1.d rc2.d rc3.d rc4.d rc5.d rc6.d rcS.d ld.so.conf.d "
    "modules-load.d update-motd.d sensors.d dconf gss environment gitconfig localtime inputrc wgetrc "
    # of these, programs do without: each directory that is shown costs a mount
    "bash_completion.d gdb glvnd gtk-2.0 gtk-3.0 perl python3 sgml terminfo vim".split()
)
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

# ---- names that may mean a secret ----

# Each is a path in a shared directory: at its top, or where programs keep secrets in a home directory. Deeper paths are not
# searched: that would walk the whole tree at each run.

# Each of these marks a home directory and not a project: it is not shared without `--workspace`.
ACCOUNT_DIRECTORIES = (
    ".ssh",
    ".aws",
    ".gnupg",
    ".kube",
    ".docker",
    ".azure",
    ".netrc",
    ".password-store",
    ".config/gcloud",
    ".mozilla",
    ".thunderbird",
)
# Shown as empty at the top of a shared directory.
SECRETS = (
    *ACCOUNT_DIRECTORIES,
    # from which applications read passwords and keys
    ".env",
    ".env.local",
    ".env.development",
    ".env.development.local",
    ".env.test.local",
    ".env.staging",
    ".env.production",
    ".env.production.local",
    ".envrc",
    ".secrets",
    "secrets.json",
    "secrets.yaml",
    "secrets.yml",
    "secrets.toml",
    ".streamlit/secrets.toml",
    "credentials.json",
    "service-account.json",
    "serviceAccountKey.json",
    # tokens of tools, in a project or at home
    ".git-credentials",
    ".config/git/credentials",
    ".config/gh",
    ".config/hub",
    ".config/glab-cli",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".config/pip/pip.conf",
    ".pip/pip.conf",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".m2/settings.xml",
    ".gradle/gradle.properties",
    ".nuget/NuGet/NuGet.Config",
    ".composer/auth.json",
    "auth.json",
    ".terraformrc",
    ".terraform.d/credentials.tfrc.json",
    "terraform.tfstate",
    ".vault-token",
    ".boto",
    ".s3cfg",
    ".databrickscfg",
    ".snowflake",
    ".config/rclone/rclone.conf",
    ".config/op",
    ".huggingface/token",
    ".cache/huggingface/token",
    ".kaggle/kaggle.json",
    ".anthropic",
    ".claude/.credentials.json",
    ".codex/auth.json",
    ".config/openai",
    # data bases
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    # private keys by their usual names
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "server.key",
    "private.key",
    "private.pem",
    "key.pem",
    # what somebody typed, and other programs' stores
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".psql_history",
    ".mysql_history",
    ".local/share/keyrings",
    ".config/google-chrome",
    ".config/chromium",
    ".config/Code/User/globalStorage",
)

# Parts of a name in /etc that a hint does not tell a person to share.
_STEMS = ("auth", "cred", "key", "pass", "private", "secret", "token")
ETC_SECRET_PARTS = (
    *_STEMS, "shadow", "sudo", "ssh", "ssl", "pki", "ppp", "wireguard", "openvpn", "ipsec", "krb5", "wpa", "network",
    "docker", "kubernetes", "rancher", "security", "letsencrypt", "vault", "ldap", "exim", "postfix", "mysql", "samba",
    "cups", "cron", "boto", "netrc", "machine-id",
)  # fmt: skip
# Files in the directory of a package in /etc that hold passwords where an administrator has written some; services of a language.
ETC_CREDENTIALS = frozenset("Renviron.site apache2 fpm pool.d settings-security.xml settings.xml".split())
SECRET_WORDS = frozenset(
    "auth credential credentials htpasswd key keytab pass passwd password passwords private secret secrets token tokens".split()
)
# One of these is in each such name, and in few others: what has none of them need not be looked at.
SECRET_PARTS = (*_STEMS, *"settings pool.d fpm apache2 .site .pem .p12 .pfx .jks".split())
SECRET_ENDINGS = (".key", ".pem", ".p12", ".pfx", ".jks")
