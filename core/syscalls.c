/* SPDX-License-Identifier: MIT
 *
 * Thin wrappers around system calls that C libraries lack, with what older kernels (5.10, 5.11) and filtered
 * containers need instead. A wrapper returns what the call returns, with errno; a fallback is taken on ENOSYS alone,
 * never on a denial.
 */
#include "capsule-core.h"
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <time.h>

void close_cleanup(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd); /* nothing was written through it: there is no error to lose */
	errno = saved;
}

void close_all(const int *fds, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		int fd = fds[i];

		close_cleanup(&fd);
	}
}

uint64_t now_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
		return 0; /* cannot fail for this clock */
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

struct dirent_head {
	uint64_t ino, off;
	uint16_t length;
	uint8_t type;
	char name[];
};

/* The next name but `.` and `..`, without the allocation of readdir(3). Returns 1, 0 at the end, -1 with errno. */
int next_name(struct names *names)
{
	const struct dirent_head *entry;

	do {
		if (names->at >= names->got) {
			names->got = syscall(SYS_getdents64, names->dir, names->buffer, sizeof(names->buffer));
			names->at = 0;
			if (names->got <= 0)
				return (int)names->got;
		}
		entry = (const void *)(names->buffer + names->at);
		names->at += entry->length;
		names->name = entry->name;
	} while (strcmp(names->name, ".") == 0 || strcmp(names->name, "..") == 0);
	return 1;
}

/* Before 5.9, or where a filter hides close_range. procfs lists by number, so closing takes nothing from the list. */
static int close_listed(unsigned int first)
{
	int dir CLEANUP_CLOSE = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names names = { .dir = dir };
	int more = -1;

	while (dir >= 0 && (more = next_name(&names)) > 0)
		if (number(names.name) >= first && (int)number(names.name) != dir)
			(void)close((int)number(names.name));
	return more;
}

int close_from(unsigned int first)
{
	if (syscall(SYS_close_range, first, ~0U, 0) == 0)
		return 0;
	return errno == ENOSYS ? close_listed(first) : -1;
}

/* Move descriptors to fixed places, from `first` on, and close all after them. Negative ones stay as they are. */
int place_descriptors(int *const *fds, int count, int first)
{
	for (int i = 0; i < count; i++) /* first out of the way of each other */
		if (*fds[i] >= 0 && (*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, first + count)) < 0)
			return -1;
	for (int i = 0; i < count; i++)
		if (*fds[i] >= 0 && (*fds[i] = dup3(*fds[i], first + i, O_CLOEXEC)) < 0)
			return -1;
	return close_from((unsigned int)(first + count));
}

/*
 * clone3, or clone where a container's filter answers ENOSYS. The child runs on a copy of this stack, as after fork.
 * `cgroup` is the directory of the cgroup to clone into, or -1; only clone3 can do that.
 */
int clone_process(uint64_t flags, int *pidfd, int cgroup)
{
	/* a sibling has the exit signal of the process that clones it */
	struct clone3_args args = { .flags = flags, .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD };
	long pid;

	if (pidfd != NULL) {
		args.flags |= CLONE_PIDFD;
		args.pidfd = (uint64_t)(uintptr_t)pidfd;
	}
	if (cgroup >= 0) {
		args.flags |= CLONE3_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup;
	}
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0 && errno == ENOSYS && cgroup < 0)
		pid = syscall(SYS_clone, (args.flags & UINT32_MAX) | args.exit_signal, 0, pidfd, 0, 0);
	return (int)pid;
}

/* Before 5.6, or filtered: one component at a time, none of them a link. Takes over `at`. */
static int open_by_component(int at, const char *path, int flags)
{
	char name[NAME_MAX + 1];

	while (at >= 0 && *path == '/' && path[1] != '\0') {
		size_t length = strcspn(++path, "/");
		int parent = at;
		struct stat st;

		if (length > NAME_MAX) {
			close_cleanup(&parent);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, path, length);
		name[length] = '\0';
		path += length;
		at = openat(parent, name, (*path ? O_PATH : flags) | O_NOFOLLOW | O_CLOEXEC);
		close_cleanup(&parent);
		if (at >= 0 && (fstat(at, &st) < 0 || S_ISLNK(st.st_mode))) {
			(void)close(at);
			errno = ELOOP;
			return -1;
		}
	}
	return at;
}

/* Through no link of any kind, also at the end, unless O_NOFOLLOW asks for the link itself. */
static int open_beneath(int root, const char *path, int flags, uint64_t resolve)
{
	struct open_how_v1 how = { .flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = resolve | OPENAT2_NO_SYMLINKS | OPENAT2_NO_MAGICLINKS };
	long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

	if (fd < 0 && errno == ENOSYS)
		return open_by_component(
		    openat(root, resolve ? "." : "/", O_PATH | O_DIRECTORY | O_CLOEXEC), path, flags);
	return (int)fd;
}

/* An absolute path, as the caller sees it: Python resolved the honest links. */
int open_no_links(const char *path, int flags)
{
	return open_beneath(AT_FDCWD, path, flags, 0);
}

/* A path beneath the new root, whatever that holds: what a bind brought in may be hostile. */
int open_in_root(int root, const char *path, int flags)
{
	return open_beneath(root, path, flags, OPENAT2_IN_ROOT);
}

/* PATH DEVICE INODE: opened first and then compared with what Python saw; a path swapped in between is ESTALE. */
int open_seen(const struct step *step, int flags)
{
	int object = open_no_links(step->field[0], flags);
	struct stat st;
	int seen = object < 0 ? -1 : fstat(object, &st);

	if (seen == 0 && (uint64_t)st.st_dev == number(step->field[1]) && (uint64_t)st.st_ino == number(step->field[2]))
		return object;
	if (seen == 0)
		errno = ESTALE;
	close_cleanup(&object);
	return -1;
}

/* Asked once for each process: the answer cannot change. */
bool has_mount_setattr(void)
{
	static int known = -1;

	if (known < 0)
		known = syscall(SYS_mount_setattr, -1, NULL, 0, NULL, 0) == 0 || errno != ENOSYS;
	return known > 0;
}

/* `userns` is that of an id map, if MOUNT_IDMAP is in `set`. */
int set_mount(int fd, bool recursive, uint64_t set, uint64_t propagation, int userns)
{
	struct mount_attr_v1 attr = { set, 0, propagation, (uint64_t)userns };

	return (int)syscall(
	    SYS_mount_setattr, fd, "", EMPTY_PATH | (recursive ? (int)TREE_RECURSIVE : 0), &attr, sizeof(attr));
}

/*
 * A detached copy of the tree at fd. Without mount_setattr (before 5.12) nothing could make the mounts beneath it
 * read-only in one step, so they are left out; the kernel refuses that (EINVAL) where it would uncover something.
 */
int open_tree_clone(int fd)
{
	unsigned int flags = TREE_CLONE | O_CLOEXEC | EMPTY_PATH | (has_mount_setattr() ? TREE_RECURSIVE : 0);

	return (int)syscall(SYS_open_tree, fd, "", flags);
}

int move_mount_to(int tree, int target)
{
	return (int)syscall(SYS_move_mount, tree, "", target, "", MOVE_FROM_EMPTY | MOVE_TO_EMPTY);
}

/* A new file system as a detached mount. `options` ends with a NULL name. */
int new_filesystem(const char *type, const char *const options[][2], uint64_t attributes)
{
	int context CLEANUP_CLOSE = (int)syscall(SYS_fsopen, type, FSOPEN_CLOSE_ON_EXEC);

	if (context < 0)
		return -1;
	for (; options != NULL && (*options)[0] != NULL; options++)
		if (syscall(SYS_fsconfig, context, FSCONFIG_STRING, (*options)[0], (*options)[1], 0) < 0)
			return -1;
	if (syscall(SYS_fsconfig, context, FSCONFIG_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return (int)syscall(SYS_fsmount, context, FSOPEN_CLOSE_ON_EXEC, attributes);
}

/*
 * The flags of one attached mount, by remounting it: for kernels before 5.12. What the host locked must be repeated.
 * For the flags in STATFS_SAME and in `set`, statfs(2), mount(2) and mount_setattr(2) have the same bits.
 */
int remount_flags(int fd, uint64_t set)
{
	char path[64];
	struct statfs st;
	unsigned long flags;

	_Static_assert(MS_RDONLY == MOUNT_RDONLY && MS_NOSUID == MOUNT_NOSUID && MS_NODEV == MOUNT_NODEV
		&& MS_NOEXEC == MOUNT_NOEXEC,
	    "one set of bits");
	if (fstatfs(fd, &st) < 0)
		return -1;
	flags = MS_REMOUNT | MS_BIND | ((unsigned long)st.f_flags & STATFS_SAME) | (unsigned long)set;
	flags |= (unsigned long)st.f_flags & STATFS_RELATIME ? MS_RELATIME : 0;
	fd_path(path, fd);
	return mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0 ? -1 : mount(NULL, path, NULL, flags, NULL);
}

/* Write a whole small file of the kernel's in one call: proc and cgroup files take no second one. */
int write_file(int dir, const char *path, const char *text)
{
	int fd CLEANUP_CLOSE = openat(dir, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t wrote = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (wrote >= 0 && (size_t)wrote != strlen(text))
		errno = EIO;
	return wrote == (ssize_t)strlen(text) ? 0 : -1;
}

/* Read the beginning of a file, and end it with a NUL byte, on an error, too. Returns its length, or -1. */
ssize_t read_file(int dir, const char *path, char *text, size_t size)
{
	int fd CLEANUP_CLOSE = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);

	text[got < 0 ? 0 : got] = '\0';
	return got;
}

int send_message(int sock, const void *bytes, size_t size, const int *fds, unsigned int nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > 0) {
		struct cmsghdr *head;

		msg.msg_control = control.bytes;
		msg.msg_controllen = (__typeof__(msg.msg_controllen))CMSG_SPACE(sizeof(int) * nfds);
		head = CMSG_FIRSTHDR(&msg);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = (__typeof__(head->cmsg_len))CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(head), fds, sizeof(int) * nfds);
	}
	if (sendmsg(sock, &msg, MSG_NOSIGNAL) == (ssize_t)size)
		return 0;
	/* unix(7): the user's descriptors under way are more than this process may have open */
	if (errno == ETOOMANYREFS)
		errno = EMFILE;
	return -1;
}

/*
 * One message and its descriptors. Returns its size, 0 when the other side is gone, or -1, and then there is no
 * descriptor: EBADMSG for a message that is too long or brings too many, EMFILE where the process may have no more of
 * them.
 */
ssize_t receive_message(int sock, void *bytes, size_t size, int *fds, unsigned int *nfds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
	} control;
	struct iovec iov = { bytes, size };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};
	ssize_t got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *head;

	/* the other side ended with a message of ours unread: the kernel says so once, and before what it had sent */
	if (got < 0 && (errno == ECONNRESET || errno == EINTR))
		got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	*nfds = 0;
	if (got < 0)
		return errno == ECONNRESET ? 0 : -1;
	head = CMSG_FIRSTHDR(&msg); /* the kernel puts all descriptors into one */
	if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
		*nfds = (unsigned int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(head), sizeof(int) * *nfds);
	}
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		errno = msg.msg_flags & MSG_TRUNC || *nfds == MAX_FDS ? EBADMSG : EMFILE;
		close_all(fds, *nfds);
		*nfds = 0;
		return -1;
	}
	return got;
}
