/* SPDX-License-Identifier: MIT
 *
 * The root of the sandbox: its tmpfs, what is made on it, what is mounted on that, and the pivot. The steps of *build*
 * and *enter*, carried out by init in the order of the plan.
 */
#include "capsule-core.h"
#include <sys/mount.h>
#include <sys/sendfile.h>

#define DIR_FLAGS (O_PATH | O_DIRECTORY)

/* ---- sources: opened as the caller, and the very object that Python saw ---- */

/*
 * Called by the launcher for a privileged caller (`source`: only there may it take a tree along) and by init, which
 * still has the caller's ids, for any other (`inner-source`: only there does it have the power to).
 */
ACT(source)
{
	int object CLEANUP_CLOSE = open_seen(step, O_PATH);
	int tree = object < 0 ? -1 : open_tree_clone(object);

	if (tree < 0)
		return -1;
	room->slot[room->nslots++] = tree;
	return 0;
}

/* ---- making things on our own tmpfs, before the first bind ---- */

/*
 * root SIZE INODES: one tmpfs that is both the building place (with what the writable places will show) and, beneath
 * its `new`, the root to be. Only `new` is entered; the rest stays outside, reachable only where it was bound.
 */
ACT(root)
{
	const char *const options[][2] = { { "size", step->field[0] }, { "nr_inodes", step->field[1] },
		{ "mode", "0755" }, { NULL, NULL } };
	int host CLEANUP_CLOSE = -1;
	int place CLEANUP_CLOSE = -1;
	int tree CLEANUP_CLOSE = -1;

	/* the copied mounts of the caller are slaves of the host's: what is mounted there later must not appear here */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	room->root = new_filesystem("tmpfs", options, MOUNT_NOSUID | MOUNT_NODEV);
	/*
	 * Any directory of the host's serves but `/`: stacked there, the place would lie on top of the old root when
	 * that is taken away, and shield it. (The kernel then refuses the payload's user namespace: it sees a changed
	 * root.)
	 */
	host = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (room->root < 0 || host < 0 || move_mount_to(room->root, host) < 0 || mkdirat(room->root, "new", 0755) < 0)
		return -1;
	place = openat(room->root, "new", DIR_FLAGS | O_NOFOLLOW | O_CLOEXEC);
	tree = place < 0 ? -1 : open_tree_clone(place);
	return tree < 0 ? -1 : move_mount_to(tree, place);
}

/*
 * The directory that holds `path` (made by an earlier step), and `name`, its last component. Neighbours follow each
 * other in a plan, so the last one opened is kept; it stays right, since nothing is mounted while things are made.
 */
static int open_parent(const struct room *room, const char *path, const char **name)
{
	static char parent[PATH_MAX];
	static int fd = -1;
	size_t length = (size_t)(strrchr(path, '/') - path);

	*name = path + length + 1;
	if (fd >= 0 && strlen(parent) == length && strncmp(parent, path, length) == 0)
		return fd;
	close_cleanup(&fd);
	memcpy(parent, path, length);
	parent[length] = '\0';
	fd = open_in_root(room->root, length ? parent : "/", DIR_FLAGS);
	return fd;
}

/* A directory that is there already (a parent of two places) keeps its mode: the first step that names it decides. */
ACT(dir)
{
	const char *name;
	int parent = open_parent(room, step->field[0], &name);

	return parent >= 0 && (mkdirat(parent, name, octal(step->field[1])) == 0 || errno == EEXIST) ? 0 : -1;
}

static int new_file(int parent, const char *name, const char *mode)
{
	return parent < 0 ? -1 :
			    openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, octal(mode));
}

ACT(file)
{
	const char *name, *text = step->field[2];
	size_t size = strlen(text);
	int parent = open_parent(room, step->field[0], &name);
	int fd CLEANUP_CLOSE = -1;
	ssize_t wrote;

	if (parent >= 0 && size == 0) /* mostly a mount point: one call instead of two */
		return mknodat(parent, name, S_IFREG | octal(step->field[1]), 0);
	fd = new_file(parent, name, step->field[1]);
	wrote = fd < 0 ? -1 : write(fd, text, size);
	if (wrote >= 0 && (size_t)wrote < size)
		errno = ENOSPC; /* the one thing that cuts a write to our tmpfs short */
	return wrote == (ssize_t)size ? 0 : -1;
}

/* copy PATH DEVICE INODE PLACE MODE: the content of a small file of the host's. Opening it never waits. */
ACT(copy)
{
	const char *name;
	int from CLEANUP_CLOSE = open_seen(step, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	int parent = open_parent(room, step->field[3], &name);
	int to CLEANUP_CLOSE = from < 0 ? -1 : new_file(parent, name, step->field[4]);
	ssize_t moved = to < 0 ? -1 : 1;

	while (moved > 0)
		moved = sendfile(to, from, NULL, MOVED_BYTES);
	return (int)moved;
}

/*
 * fill FD PLACE MODE SIZE: a file of the next SIZE bytes from a pipe of Python's. If the pipe ends early the step
 * fails, so that no file is shorter than was said.
 */
ACT(fill)
{
	const char *name;
	int from = room->plan.fds[number(step->field[0])], parent = open_parent(room, step->field[1], &name);
	int fd CLEANUP_CLOSE = new_file(parent, name, step->field[2]);

	if (fd < 0)
		return -1;
	for (uint64_t left = number(step->field[3]); left > 0;) {
		ssize_t moved = splice(
		    from, NULL, fd, NULL, left < MOVED_BYTES ? (size_t)left : MOVED_BYTES, SPLICE_F_MOVE);

		if (moved <= 0) {
			errno = moved == 0 ? EPIPE : errno;
			return -1;
		}
		left -= (uint64_t)moved;
	}
	return 0;
}

ACT(symlink)
{
	const char *name;
	int parent = open_parent(room, step->field[0], &name);

	return parent < 0 ? -1 : symlinkat(step->field[1], parent, name);
}

/* whiteout PLACE: in a layer of an overlay, that nothing below it has this name. */
ACT(whiteout)
{
	const char *name;
	int parent = open_parent(room, step->field[0], &name);

	return parent < 0 ? -1 : mknodat(parent, name, S_IFCHR, 0);
}

/* ---- mounts ---- */

/*
 * Flags go on before the tree is attached, so that no instant exists in which it is there without them; before 5.12
 * that cannot be had, and it does not matter, since nobody is inside yet. `dev` keeps device nodes alive, for those of
 * /dev.
 */
static int attach(struct room *room, int tree, const char *place, const char *mode)
{
	uint64_t set = MOUNT_NOSUID | (*mode == 'd' ? MOUNT_NOEXEC : MOUNT_NODEV)
	    | (strcmp(mode, "ro") == 0 ? MOUNT_RDONLY : 0);
	int target CLEANUP_CLOSE = open_in_root(room->root, place, O_PATH);
	bool modern = has_mount_setattr();

	if (target < 0 || (modern && set_mount(tree, true, set, MS_PRIVATE, 0) < 0) || move_mount_to(tree, target) < 0)
		return -1;
	return modern ? 0 : remount_flags(tree, set);
}

/*
 * A source is moved to its first place and cloned from there for the others: a detached tree of the launcher's can be
 * moved into our mount namespace, but only what is attached there can be cloned.
 */
ACT(bind)
{
	uint64_t slot = number(step->field[0]);
	int tree CLEANUP_CLOSE = room->slot_used[slot] ? open_tree_clone(room->slot[slot]) : -1;

	if (tree < 0 && room->slot_used[slot])
		return -1;
	room->slot_used[slot] = true;
	return attach(room, tree >= 0 ? tree : room->slot[slot], step->field[1], step->field[2]);
}

ACT(inner_bind)
{
	int object CLEANUP_CLOSE = open_in_root(room->root, step->field[0], O_PATH);
	int tree CLEANUP_CLOSE = object < 0 ? -1 : open_tree_clone(object);

	return tree < 0 ? -1 : attach(room, tree, step->field[1], step->field[2]);
}

/* Append `name` and the path beneath the new root, which is the working directory; `:` and `,` would be syntax. */
static void put_layer(struct text *to, const char *name, const char *path)
{
	put(to, name, path + 1);
	if (strpbrk(path, ":,\\") != NULL)
		to->length = to->size - 1; /* as one that is too long, which fails */
}

/*
 * overlay NAMES LOWER UPPER WORK PLACE, or overlay-ro NAMES LOWER PLACE. The layers are private places of ours, so
 * their names are Python's choice. NAMES lies over LOWER: what it says of a name holds, whatever the host does in
 * LOWER.
 */
ACT(overlay)
{
	bool writable = strcmp(step->verb->name, "overlay") == 0;
	const char *place = step->field[writable ? 4 : 2];
	char options[PATH_MAX];
	struct text data = TEXT_IN(options);

	if (writable && room->copied)
		return 0; /* copy-tree has put the copy there */
	put(&data, writable ? "userxattr,volatile" : "userxattr");
	put_layer(&data, ",lowerdir=", step->field[0]);
	put_layer(&data, ":", step->field[1]);
	if (writable) {
		put_layer(&data, ",upperdir=", step->field[2]);
		put_layer(&data, ",workdir=", step->field[3]);
	}
	if (data.length >= data.size - 1) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return fchdir(room->root) < 0 ?
	    -1 :
	    mount("overlay", place + 1, "overlay", MS_NOSUID | MS_NODEV | (writable ? 0 : MS_RDONLY), options);
}

/* An attached procfs. */
int make_readonly(int tree)
{
	if (has_mount_setattr())
		return set_mount(tree, false, MOUNT_RDONLY, MS_PRIVATE, 0);
	return remount_flags(tree, MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC);
}

/*
 * procfs is made while the host's own is still mounted: without a fully visible one the kernel refuses a new one (it
 * might uncover what the host masked). With mode ro, what the payload sees is made read-only, so that nothing in it can
 * be written; with rw later steps make read-only what does not belong to a process. The copy from before that stays in
 * a descriptor, for the id maps of payloads.
 */
ACT(proc)
{
	int tree CLEANUP_CLOSE = new_filesystem("proc", NULL, MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC);
	int target CLEANUP_CLOSE = open_in_root(room->root, step->field[0], DIR_FLAGS);
	int aside CLEANUP_CLOSE = -1;

	if (tree < 0 || target < 0 || move_mount_to(tree, target) < 0)
		return -1;
	room->proc = open_tree_clone(tree); /* after the move: before 6.15 only what is attached can be copied */
	if (room->proc < 0 || mkdirat(room->root, "proc", 0700) < 0)
		return -1;
	/* attached, to go away with the building place: closing one that never was attached waits for RCU */
	aside = openat(room->root, "proc", DIR_FLAGS | O_NOFOLLOW | O_CLOEXEC);
	if (aside < 0 || move_mount_to(room->proc, aside) < 0)
		return -1;
	return strcmp(step->field[1], "rw") == 0 ? 0 : make_readonly(tree);
}

/* Through the procfs that is not read-only. The root of an ipc namespace may write its limits from Linux 6.9 on. */
ACT(sysctl)
{
	char path[32] = "sys/kernel/";
	struct text to = { path, sizeof(path), strlen(path) };

	put(&to, step->field[0]);
	return write_file(room->proc, path, step->field[1]);
}

ACT(devpts)
{
	static const char *const options[][2] = { { "ptmxmode", "0666" }, { "mode", "0620" }, { "max", "64" },
		{ NULL, NULL } };
	int tree CLEANUP_CLOSE = new_filesystem("devpts", options, MOUNT_NOSUID | MOUNT_NOEXEC);
	int target CLEANUP_CLOSE = open_in_root(room->root, step->field[0], DIR_FLAGS);

	return tree < 0 || target < 0 ? -1 : move_mount_to(tree, target);
}

ACT(readonly)
{
	int root CLEANUP_CLOSE = open_in_root(room->root, "/new", DIR_FLAGS);

	if (root < 0 || has_mount_setattr())
		return root < 0 ? -1 : set_mount(root, false, MOUNT_RDONLY, 0, 0);
	return remount_flags(root, MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV);
}

/* ---- entering ---- */

/*
 * pivot_root onto itself stacks the old root over the new one; it is removed, and the building place with it, before
 * any path is resolved again.
 */
ACT(pivot)
{
	int root CLEANUP_CLOSE = open_in_root(room->root, "/new", DIR_FLAGS);

	if (root < 0 || fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}
