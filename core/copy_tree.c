/* SPDX-License-Identifier: MIT
 *
 * A private copy of the directory that the workspace shows. In an overlay of a user namespace a directory that was
 * there before cannot be renamed, and a hard link has another inode number than its source; in a copy both work. A
 * small tree is copied, a larger one is overlaid (docs/decisions/workspace-ladder.md).
 *
 * Init does it while it builds the root: it reads through the read-only mount of the directory, by descriptor, through
 * no link. Nothing of the payload's runs yet; the host may change the tree.
 */
#include "capsule-core.h"
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>

#define MAX_DEPTH 48                   /* three descriptors a level */
#define FINGERPRINT 51                 /* inode, size and time of the last change: 16 digits and a space each */
#define LIST_BYTES (FINGERPRINT + 256) /* of an entry in the list, on average at most */
#define FILE_OPEN (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

struct copy {
	uint64_t entries, bytes; /* left of the limits */
	const char *place;       /* where it will be seen */
	int top;
	char path[PATH_MAX]; /* of what is being copied, from `top` */
	size_t length;
	char *list; /* what was copied: a fingerprint, a path, NUL */
	size_t used, size;
	struct linked {
		dev_t device;
		ino_t inode;
		size_t at;
	} *links; /* files with several names, and where they are in the list */
	size_t nlinks;
	const char *covered[MAX_SLOTS]; /* paths that a later step mounts something on */
	unsigned int ncovered;
};

/* The tree is too large, or holds what a copy cannot have. */
static int unfit(void)
{
	errno = E2BIG;
	return -1;
}

/* The steps to come cover these places: secrets, and what the request shows there. What lies there is not copied. */
static int find_covered(struct copy *copy, const struct plan *plan)
{
	size_t length = strlen(copy->place);
	struct cursor at = plan_start(plan);

	for (struct step step; plan_next(&at, &step);) {
		bool is_overlay = strcmp(step.verb->name, "overlay-ro") == 0;
		const char *target = step.field[is_overlay ? 2 : 1];

		if (!is_overlay && step.verb->act != act_bind && step.verb->act != act_inner_bind)
			continue;
		if (strncmp(target, copy->place, length) != 0 || target[length] != '/')
			continue;
		if (copy->ncovered == MAX_SLOTS)
			return unfit();
		copy->covered[copy->ncovered++] = target + length + 1;
	}
	return 0;
}

static bool is_covered(const struct copy *copy)
{
	for (unsigned int i = 0; i < copy->ncovered; i++)
		if (strcmp(copy->covered[i], copy->path) == 0)
			return true;
	return false;
}

static int enter_name(struct copy *copy, const char *name)
{
	struct text to = { copy->path, sizeof(copy->path), copy->length };

	put(&to, copy->length > 0 ? "/" : "", name);
	if (to.length >= sizeof(copy->path) - 1)
		return unfit();
	copy->length = to.length;
	return 0;
}

static void put_hex(char *to, uint64_t n)
{
	for (int i = 15; i >= 0; i--, n >>= 4)
		to[i] = "0123456789abcdef"[n & 15];
	to[16] = ' ';
}

static void put_fingerprint(char *to, const struct stat *seen)
{
	put_hex(to, seen->st_ino);
	put_hex(to + 17, (uint64_t)seen->st_size);
	put_hex(to + 34, (uint64_t)seen->st_ctim.tv_sec * 1000000000 + (uint64_t)seen->st_ctim.tv_nsec);
}

/* Python compares this with what it finds at the end: only the kernel sets the time of the last change. */
static int list_entry(struct copy *copy, int dir, const char *name)
{
	struct stat seen;
	char *to = copy->list + copy->used;

	if (copy->used + FINGERPRINT + copy->length + 1 > copy->size)
		return unfit();
	if (fstatat(dir, name, &seen, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	put_fingerprint(to, &seen);
	memcpy(to + FINGERPRINT, copy->path, copy->length + 1);
	copy->used += FINGERPRINT + copy->length + 1;
	return 0;
}

/* The data of a file from `at` to `end`. Returns 1 if the file ends before. */
static int copy_range(struct copy *copy, int from, int to, off_t at, off_t end)
{
	if ((uint64_t)(end - at) > copy->bytes)
		return unfit();
	copy->bytes -= (uint64_t)(end - at);
	while (at < end) {
		ssize_t moved = sendfile(to, from, &at, end - at < MOVED_BYTES ? (size_t)(end - at) : MOVED_BYTES);

		if (moved <= 0)
			return moved < 0 ? -1 : 1;
	}
	return 0;
}

/* As far as the file was long when it was opened, and without its holes. */
static int copy_data(struct copy *copy, int from, int to, const struct stat *seen)
{
	off_t at = 0, end = 0, size = seen->st_size;
	int result = 0;

	if (seen->st_blocks * 512 >= size)
		return copy_range(copy, from, to, 0, size) < 0 ? -1 : 0;
	while (result == 0 && end < size && (at = lseek(from, end, SEEK_DATA)) >= 0 && at < size) {
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0 || lseek(to, at, SEEK_SET) < 0)
			return -1;
		end = end < size ? end : size;
		result = copy_range(copy, from, to, at, end);
	}
	if (result < 0 || (at < 0 && errno != ENXIO))
		return -1;
	return ftruncate(to, size);
}

/* A second name of a file that was copied already. Returns 1 if there is none. */
static int link_again(struct copy *copy, const struct stat *seen, int to, const char *name)
{
	struct stat now;

	for (size_t i = 0; i < copy->nlinks; i++) {
		char *first = copy->list + copy->links[i].at;

		if (copy->links[i].inode != seen->st_ino || copy->links[i].device != seen->st_dev)
			continue;
		if (linkat(copy->top, first + FINGERPRINT, to, name, 0) < 0
		    || fstatat(to, name, &now, AT_SYMLINK_NOFOLLOW) < 0)
			return -1;
		put_fingerprint(first, &now); /* the new name was a change of the file */
		return 0;
	}
	return 1;
}

int set_times(int made, const struct stat *seen)
{
	return futimens(made, (const struct timespec[]){ seen->st_atim, seen->st_mtim });
}

static int copy_file(struct copy *copy, int from, int to, const char *name)
{
	int source CLEANUP_CLOSE = openat(from, name, FILE_OPEN);
	int made CLEANUP_CLOSE = -1, linked;
	struct stat seen;

	if (source < 0 || fstat(source, &seen) < 0)
		return -1;
	if (!S_ISREG(seen.st_mode))
		return unfit(); /* replaced meanwhile */
	if (seen.st_nlink > 1 && (linked = link_again(copy, &seen, to, name)) <= 0)
		return linked;
	made = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, seen.st_mode & 07777);
	if (made < 0)
		return -1;
	if (copy_data(copy, source, made, &seen) < 0 || set_times(made, &seen) < 0) {
		int why = errno;

		(void)unlinkat(to, name, 0); /* the rest may stay: in an overlay it is what the directory has, too */
		errno = why;
		return -1;
	}
	if (seen.st_nlink > 1)
		copy->links[copy->nlinks++] = (struct linked){ seen.st_dev, seen.st_ino, copy->used };
	return 0;
}

/* A link; a FIFO or socket, at which nobody of the host's answers, as in an overlay. */
static int copy_node(int from, int to, const char *name, const struct stat *seen)
{
	const struct timespec times[] = { seen->st_atim, seen->st_mtim };
	char target[PATH_MAX];
	ssize_t length = S_ISLNK(seen->st_mode) ? readlinkat(from, name, target, sizeof(target) - 1) : 0;

	if (length < 0)
		return -1;
	target[length] = '\0';
	if (S_ISLNK(seen->st_mode) && symlinkat(target, to, name) < 0)
		return -1;
	if (!S_ISLNK(seen->st_mode) && mknodat(to, name, seen->st_mode & (S_IFMT | 0777), 0) < 0)
		return -1;
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_directory(struct copy *copy, int from, int to, int names, unsigned int depth);

static int copy_subdirectory(struct copy *copy, int from, int to, int names, const char *name, unsigned int depth)
{
	int source CLEANUP_CLOSE = openat(from, name, DIR_OPEN);
	int below CLEANUP_CLOSE = names < 0 ? -1 : openat(names, name, DIR_OPEN);
	int made CLEANUP_CLOSE = -1;
	struct stat seen;
	int result, why;

	if (depth == MAX_DEPTH)
		return unfit();
	if (source < 0 || fstat(source, &seen) < 0 || (mkdirat(to, name, 0700) < 0 && errno != EEXIST))
		return -1;
	made = openat(to, name, DIR_OPEN);
	if (made < 0)
		return -1;
	result = copy_directory(copy, source, made, below, depth + 1);
	why = errno;
	if (fchmod(made, seen.st_mode & 07777) < 0 || set_times(made, &seen) < 0) /* also of half a copy, which stays */
		return -1;
	errno = why;
	return result;
}

/* An empty place for what a later step mounts there. */
static int make_covered(int to, const char *name, bool is_directory)
{
	int result = is_directory ? mkdirat(to, name, 0755) : mknodat(to, name, S_IFREG | 0644, 0);

	return result == 0 || errno == EEXIST ? 0 : -1;
}

/* NAMES decides for what is in it: a whiteout is nothing, and a link leads where it did when secrets were found. */
static int copy_entry(struct copy *copy, int from, int to, int names, const char *name, unsigned int depth)
{
	struct stat seen, fixed;
	bool is_fixed = names >= 0 && fstatat(names, name, &fixed, AT_SYMLINK_NOFOLLOW) == 0;
	int result;

	if (is_fixed && S_ISCHR(fixed.st_mode))
		return 0;
	if (copy->entries-- == 0)
		return unfit();
	if (is_fixed && S_ISLNK(fixed.st_mode))
		from = names;
	if (fstatat(from, name, &seen, AT_SYMLINK_NOFOLLOW) < 0 || enter_name(copy, name) < 0)
		return -1;
	if (is_covered(copy))
		return make_covered(to, name, S_ISDIR(seen.st_mode));
	if (S_ISDIR(seen.st_mode))
		result = copy_subdirectory(copy, from, to, is_fixed ? names : -1, name, depth);
	else if (S_ISREG(seen.st_mode))
		result = copy_file(copy, from, to, name);
	else if (S_ISLNK(seen.st_mode) || S_ISFIFO(seen.st_mode) || S_ISSOCK(seen.st_mode))
		result = copy_node(from, to, name, &seen);
	else
		result = unfit();          /* a device */
	if (result < 0 && errno != EEXIST) /* there already: an input file, which replaces it */
		return -1;
	return list_entry(copy, to, name);
}

static int copy_directory(struct copy *copy, int from, int to, int names, unsigned int depth)
{
	struct names walk = { .dir = from };
	size_t length = copy->length;
	int more;

	while ((more = next_name(&walk)) > 0) {
		if (copy_entry(copy, from, to, names, walk.name, depth) < 0)
			return -1;
		copy->length = length;
		copy->path[length] = '\0';
	}
	return more;
}

/* Whether a tree is within the limits, before anything is copied: most that are too large cost no more than this. */
static int measure(int dir, uint64_t *entries, uint64_t *bytes, unsigned int depth)
{
	struct names walk = { .dir = dir };
	struct stat own;
	int more;

	if (fstat(dir, &own) < 0)
		return -1;

	while ((more = next_name(&walk)) > 0) {
		int inner CLEANUP_CLOSE = -1;
		struct stat seen;

		if (fstatat(dir, walk.name, &seen, AT_SYMLINK_NOFOLLOW) < 0)
			return -1;
		if ((*entries)-- == 0 || depth == MAX_DEPTH || seen.st_dev != own.st_dev
		    || (S_ISREG(seen.st_mode) && (uint64_t)seen.st_size > *bytes))
			return unfit();
		*bytes -= S_ISREG(seen.st_mode) ? (uint64_t)seen.st_size : 0;
		if (!S_ISDIR(seen.st_mode))
			continue;
		inner = openat(dir, walk.name, DIR_OPEN);
		if (inner < 0 || measure(inner, entries, bytes, depth + 1) < 0)
			return -1;
	}
	return more;
}

/* The list of what was copied lies beside the new root, where only the caller of the run finds it. */
static int keep_list(const struct room *room, const struct copy *copy)
{
	int list CLEANUP_CLOSE = openat(room->root, "copied", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ssize_t wrote = list < 0 ? -1 : write(list, copy->list, copy->used);

	if (wrote >= 0 && (size_t)wrote < copy->used)
		errno = ENOSPC; /* the one thing that cuts a write to our tmpfs short */
	return wrote == (ssize_t)copy->used ? 0 : -1;
}

/* The copy does not count: the command may write as much as the disk limit says beside it. */
static int enlarge_root(const struct room *room, const struct statfs *before)
{
	struct step root;
	struct statfs now;
	char options[128];
	struct text data = TEXT_IN(options);

	if (!plan_find(&room->plan, "root", &root) || fstatfs(room->root, &now) < 0 || fchdir(room->root) < 0)
		return -1;
	put(&data, "size=");
	put_number(&data, number(root.field[0]) + (uint64_t)(before->f_bfree - now.f_bfree) * (uint64_t)now.f_bsize);
	put(&data, ",nr_inodes=");
	put_number(&data, number(root.field[1]) + (uint64_t)(before->f_ffree - now.f_ffree));
	return mount(NULL, ".", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, options);
}

static int copy_tree(struct room *room, const struct step *step)
{
	static struct copy copy;
	int from CLEANUP_CLOSE = open_in_root(room->root, step->field[1], O_RDONLY | O_DIRECTORY);
	int names CLEANUP_CLOSE = open_in_root(room->root, step->field[0], O_RDONLY | O_DIRECTORY);
	int to CLEANUP_CLOSE = open_in_root(room->root, step->field[2], O_RDONLY | O_DIRECTORY);
	uint64_t entries = number(step->field[4]), bytes = number(step->field[5]);
	struct statfs before;

	copy = (struct copy){ .entries = entries, .bytes = bytes, .place = step->field[3], .top = to };
	copy.size = entries * LIST_BYTES;
	if (from < 0 || names < 0 || to < 0 || find_covered(&copy, &room->plan) < 0 || fstatfs(room->root, &before) < 0)
		return -1;
	if (measure(from, &entries, &bytes, 0) < 0 || lseek(from, 0, SEEK_SET) < 0)
		return -1;
	copy.links = mmap(NULL, copy.entries * sizeof(*copy.links) + copy.size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	copy.list = (char *)(copy.links + copy.entries);
	if (copy.links == MAP_FAILED || copy_directory(&copy, from, to, names, 0) < 0 || keep_list(room, &copy) < 0)
		return -1;
	return enlarge_root(room, &before);
}

/*
 * copy-tree NAMES LOWER UPPER PLACE ENTRIES BYTES: LOWER, as NAMES over it shows it, in UPPER beside what is there,
 * shown at PLACE. All of it as it is; where that cannot be, the overlay that follows shows it, or the step fails.
 */
ACT(copy_tree)
{
	struct step overlay;

	room->copied = copy_tree(room, step) == 0;
	if (!room->copied)
		return plan_find(&room->plan, "overlay", &overlay) ? 0 : -1;
	return act_inner_bind(room, &(struct step){ .field = { step->field[2], step->field[3], "rw" } });
}
