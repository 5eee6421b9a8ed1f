/* SPDX-License-Identifier: MIT
 *
 * What C libraries' headers may be too old to have: values from include/uapi/linux, stable by the kernel's promise.
 */
#ifndef CAPSULE_KERNEL_H
#define CAPSULE_KERNEL_H

#include <sched.h>
#include <stdint.h>

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#define CLONE3_INTO_CGROUP 0x200000000ULL

#define WAIT_PIDFD 3 /* P_PIDFD of waitid(2) */

struct clone3_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
	    cgroup;
};

struct open_how_v1 {
	uint64_t flags, mode, resolve;
};
#define OPENAT2_NO_MAGICLINKS 0x02
#define OPENAT2_NO_SYMLINKS 0x04
#define OPENAT2_IN_ROOT 0x10

struct mount_attr_v1 {
	uint64_t attr_set, attr_clr, propagation, userns_fd;
};
#define MOUNT_RDONLY 0x01U
#define MOUNT_NOSUID 0x02U
#define MOUNT_NODEV 0x04U
#define MOUNT_NOEXEC 0x08U
#define MOUNT_IDMAP 0x00100000U
#define STATFS_SAME 0x0c0fU /* of statfs(2): ro, nosuid, nodev, noexec, noatime, nodiratime */
#define STATFS_RELATIME 0x1000U
#define TREE_CLONE 1U
#define TREE_RECURSIVE 0x8000U
#define EMPTY_PATH 0x1000
#define MOVE_FROM_EMPTY 0x04U
#define MOVE_TO_EMPTY 0x40U
#define FSOPEN_CLOSE_ON_EXEC 1U
#define FSCONFIG_STRING 1U
#define FSCONFIG_CREATE 6U

#endif
