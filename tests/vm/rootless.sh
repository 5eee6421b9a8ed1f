#!/bin/sh
# Run a command as an ordinary user who has subordinate ids, in mounts of its own: what rootless podman and buildah need.
#
#     rootless.sh COMMAND [ARG...]
#
# $ROOT is a root for a container, made of links and mount points to /usr (oci.py). Needs root; nothing of the machine's changes: the
# accounts, the home directory and the control groups that the user sees are mounts, which end with the command.
set -eu
[ "${1-}" = --help ] && sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit
if [ "${ROOTLESS_INSIDE-}" != 1 ]; then
	exec env ROOTLESS_INSIDE=1 HERE="$(cd "$(dirname "$0")" && pwd)" unshare --mount --pid --fork --kill-child sh "$0" "$@"
fi
mount --make-rprivate /
mount -t proc proc /proc
mount --make-rshared / # engines want it so; it is shared with nobody
mount -t tmpfs -o mode=755 none /mnt
mkdir -p /mnt/etc /mnt/home /mnt/run
{ grep -v ':1000:' /etc/passwd; echo guest:x:1000:1000::/mnt/home:/bin/sh; } >/mnt/etc/passwd
{ grep -v ':1000:' /etc/group; echo guest:x:1000:; } >/mnt/etc/group
echo guest:100000:65536 >/mnt/etc/ids
touch /mnt/etc/empty
mount --bind /mnt/etc/passwd /etc/passwd
mount --bind /mnt/etc/group /etc/group
mount --bind /mnt/etc/ids /etc/subuid
mount --bind /mnt/etc/ids /etc/subgid
mount -t cgroup2 none /sys/fs/cgroup
python3 -c "import pathlib, sys; sys.path.insert(0, '$HERE'); import oci; root = pathlib.Path('/mnt/home/root'); root.mkdir(); oci.make_root(root)"
chown -R 1000:1000 /mnt/home /mnt/run
cd /mnt/home
exec setpriv --reuid 1000 --regid 1000 --clear-groups env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin HOME=/mnt/home TMPDIR=/mnt/home \
	XDG_RUNTIME_DIR=/mnt/run ROOT=/mnt/home/root "$@"
