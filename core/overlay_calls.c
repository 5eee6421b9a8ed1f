/* SPDX-License-Identifier: MIT
 *
 * rename(2) and link(2) in a workspace that is an overlay. In one that a user namespace has mounted, a directory that
 * was there before cannot be renamed (EXDEV), and a hard link has another inode number than its source
 * (docs/decisions/workspace-ladder.md). The filter asks about these calls, and a child of the launcher, the helper,
 * prepares what they name: it moves the contents of the directory into a new one in its place, which lies in the upper
 * layer alone. Then the kernel carries out the caller's own call.
 *
 * Rule of this file: the helper can do nothing that the payload cannot. It has entered the room's namespaces and the
 * payload's, has the payload's ids, and no capability but to read memory there. What it has read of the caller may
 * change before the kernel reads it: then another directory than that of the call was replaced by an equal one. The
 * launcher waits for nothing here: it passes a call on, and whatever the helper does is waited for by the caller alone.
 */
#include "launcher.h"
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define CAP_SYS_PTRACE_BIT (1ULL << 19)
#define GET_OWNER 0xb701   /* NS_GET_USERNS */
#define FLAG_NO_REPLACE 1U /* of renameat2(2) */
#define FLAG_EXCHANGE 2U
#define MAX_DEPTH 64

struct reader overlay_helper = NO_READER;

/* ---- the helper ---- */

static int own_proc = -1;
static dev_t workspace;
static char temporary[32]; /* a name for this call */

/* What an argument names: a directory, and the last component in it. */
struct place {
	int parent;
	const char *name;
	char path[PATH_MAX];
};

/* A link of the caller's in our procfs. Magic links lead to the very object. */
static int open_of_caller(const struct overlay_call *call, const char *name, int flags)
{
	char path[64];
	struct text text = TEXT_IN(path);

	put_number(&text, call->tid);
	put(&text, name);
	return openat(own_proc, path, flags | O_CLOEXEC);
}

static int open_base(const struct overlay_call *call, uint64_t dirfd, const char *path)
{
	char name[32];
	struct text text = TEXT_IN(name);

	if (*path == '/')
		return open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	put(&text, (int)dirfd == AT_FDCWD ? "/cwd" : "/fd/");
	if ((int)dirfd != AT_FDCWD)
		put_number(&text, (uint32_t)dirfd);
	return open_of_caller(call, name, O_PATH | O_DIRECTORY);
}

/* The path at an address of the caller's, and the directory that it ends in. -1: it is for the kernel to judge. */
static int find_place(const struct overlay_call *call, uint64_t dirfd, uint64_t address, struct place *place)
{
	const struct open_how_v1 how = { O_PATH | O_DIRECTORY | O_CLOEXEC, 0, OPENAT2_NO_MAGICLINKS };
	int text CLEANUP_CLOSE = open_of_caller(call, "/mem", O_RDONLY);
	int base CLEANUP_CLOSE = -1;
	ssize_t got = text < 0 ? -1 : pread(text, place->path, sizeof(place->path), (off_t)address);
	size_t length = got <= 0 ? 0 : strnlen(place->path, (size_t)got);
	char *slash;

	if (length == 0 || length == (size_t)got)
		return -1;
	while (length > 1 && place->path[length - 1] == '/')
		place->path[--length] = '\0';
	base = open_base(call, dirfd, place->path);
	slash = strrchr(place->path, '/');
	place->name = slash != NULL ? slash + 1 : place->path;
	if (slash != NULL)
		*slash = '\0';
	if (base < 0 || *place->name == '\0' || strcmp(place->name, ".") == 0 || strcmp(place->name, "..") == 0)
		return -1;
	if (slash == NULL || slash == place->path)
		place->parent = fcntl(base, F_DUPFD_CLOEXEC, 0);
	else /* an absolute path begins at the base, too: both have the same root */
		place->parent = (int)syscall(SYS_openat2, base, place->path, &how, sizeof(how));
	return place->parent < 0 ? -1 : 0;
}

/* Only of our overlay: another one, as a container's on the host, is not ours to mend. */
static bool in_workspace(int directory)
{
	struct stat seen;

	return fstat(directory, &seen) == 0 && seen.st_dev == workspace;
}

/* musl declares renameat(2) with stdio, which the core does without. */
static int rename_at(int from, const char *name, int to, const char *as)
{
	return (int)syscall(SYS_renameat2, from, name, to, as, 0);
}

/* Tried twice, since what stays would be the command's to see. */
static void remove_at(int parent, const char *name, int flags)
{
	if (unlinkat(parent, name, flags) < 0)
		(void)unlinkat(parent, name, flags);
}

/* ---- directories ---- */

static int move_entries(int from, int to, unsigned int depth);

/* A directory of which the lower layer has a part: a new one in its place, and its contents one by one. */
static int move_directory(int from, const char *name, int to, const char *as, unsigned int depth)
{
	int old CLEANUP_CLOSE = openat(from, name, DIR_OPEN);
	int made CLEANUP_CLOSE = -1;
	struct stat seen;

	if (old < 0 || fstat(old, &seen) < 0 || depth == MAX_DEPTH || (mkdirat(to, as, 0700) < 0 && errno != EEXIST))
		return -1;
	made = openat(to, as, DIR_OPEN);
	if (made < 0 || move_entries(old, made, depth + 1) < 0 || unlinkat(from, name, AT_REMOVEDIR) < 0
	    || fchmod(made, seen.st_mode & 07777) < 0)
		return -1;
	return set_times(made, &seen);
}

/* A file keeps its inode, and who has it open is not disturbed; so does a directory that the command has made. */
static int move_entries(int from, int to, unsigned int depth)
{
	struct names walk = { .dir = from };
	int more;

	while ((more = next_name(&walk)) > 0) {
		if (rename_at(from, walk.name, to, walk.name) == 0)
			continue;
		if ((errno != EXDEV && errno != ENOTEMPTY && errno != EEXIST)
		    || move_directory(from, walk.name, to, walk.name, depth) < 0)
			return -1;
	}
	return more;
}

/*
 * Whether the kernel refuses to rename it, found out by a rename that cannot succeed: onto a directory that is not
 * empty. The kernel looks for EXDEV first.
 */
static bool is_refused(int parent, const char *name)
{
	int made CLEANUP_CLOSE = -1;
	bool refused;

	if (mkdirat(parent, temporary, 0700) < 0)
		return false;
	made = openat(parent, temporary, DIR_OPEN);
	refused = made >= 0 && mkdirat(made, "x", 0700) == 0 && rename_at(parent, name, parent, temporary) < 0
	    && errno == EXDEV;
	remove_at(made, "x", AT_REMOVEDIR);
	remove_at(parent, temporary, AT_REMOVEDIR);
	return refused;
}

/* If it cannot be done (no space, a mount inside, a file of another's) everything goes back, and EXDEV stands. */
static void make_renamable(const struct place *place)
{
	int directory CLEANUP_CLOSE = openat(place->parent, place->name, DIR_OPEN);
	int moved CLEANUP_CLOSE = -1;
	int back CLEANUP_CLOSE = -1;

	if (directory < 0 || !in_workspace(directory) || !is_refused(place->parent, place->name))
		return;
	if (move_directory(place->parent, place->name, place->parent, temporary, 0) == 0
	    && rename_at(place->parent, temporary, place->parent, place->name) == 0)
		return;
	moved = openat(place->parent, temporary, DIR_OPEN);
	if (moved < 0)
		return;
	(void)mkdirat(place->parent, place->name, 0700); /* it is there, but if its name was given away meanwhile */
	back = openat(place->parent, place->name, DIR_OPEN);
	if (back >= 0 && move_entries(moved, back, 0) == 0)
		remove_at(place->parent, temporary, AT_REMOVEDIR);
}

static void before_rename(const struct place *old, const struct place *new, uint64_t flags)
{
	struct stat seen;
	bool is_there = fstatat(new->parent, new->name, &seen, AT_SYMLINK_NOFOLLOW) == 0;

	if (is_there && !(flags & FLAG_EXCHANGE) && (flags & FLAG_NO_REPLACE || !S_ISDIR(seen.st_mode)))
		return; /* the kernel refuses it before it asks the overlay, or it is a file */
	make_renamable(old);
	if (flags & FLAG_EXCHANGE)
		make_renamable(new);
}

/* ---- hard links ---- */

/*
 * A copy in the place of a file, by the same name: alone in the upper layer, it has one inode number for ever. Not
 * while anybody has it open for writing, which a lease finds out, and holds up.
 */
static void make_linkable(const struct place *place)
{
	int old CLEANUP_CLOSE = openat(place->parent, place->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int made CLEANUP_CLOSE = -1;
	struct stat seen;
	ssize_t moved = 1;
	char names[256]; /* of attributes, which a copy would lose; without a buffer the overlay counts its own */

	if (old < 0 || fstat(old, &seen) < 0 || !S_ISREG(seen.st_mode) || seen.st_nlink > 1
	    || syscall(SYS_flistxattr, old, names, sizeof(names)) != 0 || fcntl(old, F_SETLEASE, F_RDLCK) < 0)
		return;
	made = openat(place->parent, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	while (made >= 0 && moved > 0)
		moved = sendfile(made, old, NULL, MOVED_BYTES);
	if (made < 0 || moved < 0 || fchmod(made, seen.st_mode & 07777) < 0 || set_times(made, &seen) < 0
	    || rename_at(place->parent, temporary, place->parent, place->name) < 0)
		remove_at(place->parent, temporary, 0);
}

/* Whether a link would have another number, found out by making one. */
static bool differs_from_link(const struct place *place)
{
	struct stat file, link;
	bool differs;

	if (fstatat(place->parent, place->name, &file, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(file.st_mode)
	    || linkat(place->parent, place->name, place->parent, temporary, 0) < 0)
		return false;
	differs = fstatat(place->parent, temporary, &link, AT_SYMLINK_NOFOLLOW) == 0
	    && (link.st_ino != file.st_ino || link.st_dev != file.st_dev);
	remove_at(place->parent, temporary, 0);
	return differs;
}

/*
 * git compares the number of a link with that which the source had before, and gives up if they differ. A copy would
 * come too late for it; where a link is impossible, it copies by itself.
 */
static int before_link(const struct place *old, const struct place *new)
{
	if (!differs_from_link(old))
		return 0;
	if (strstr(new->path, "/objects") != NULL)
		return -EXDEV;
	make_linkable(old);
	return 0;
}

/* ---- the loop of the helper ---- */

/* Where the arguments of the calls are: a descriptor of -1 is the working directory. */
static int before_call(const struct overlay_call *call)
{
	const uint64_t *a = call->argument;
	bool with_fds = call->number == SYS_renameat || call->number == SYS_renameat2 || call->number == SYS_linkat;
	bool is_link = call->number == SYS_linkat;
	struct place old = { .parent = -1 }, new = { .parent = -1 };
	struct text name = TEXT_IN(temporary);
	int answer = 0;

#ifdef SYS_link
	is_link = is_link || call->number == SYS_link;
#endif
	put(&name, ".capsule-");
	put_number(&name, call->id);
	if (find_place(call, with_fds ? a[0] : (uint64_t)AT_FDCWD, with_fds ? a[1] : a[0], &old) == 0
	    && find_place(call, with_fds ? a[2] : (uint64_t)AT_FDCWD, with_fds ? a[3] : a[1], &new) == 0
	    && still_asks(call->id) && in_workspace(old.parent) && in_workspace(new.parent)) {
		if (is_link)
			answer = before_link(&old, &new);
		else
			before_rename(&old, &new, call->number == SYS_renameat2 ? a[4] : 0);
	}
	close_cleanup(&old.parent);
	close_cleanup(&new.parent);
	return answer;
}

/* Become what the payload is, but for its filter: the mount namespace is that of the room. */
static int enter_room(const struct overlay_call *call, pid_t parent)
{
	int user CLEANUP_CLOSE = open_of_caller(call, "/ns/user", O_RDONLY);
	int mounts CLEANUP_CLOSE = open_of_caller(call, "/ns/mnt", O_RDONLY);
	int owner CLEANUP_CLOSE = mounts < 0 ? -1 : ioctl(mounts, GET_OWNER);
	struct step id, overlay;
	struct stat seen;
	const char *place;
	gid_t gid;
	uid_t uid;

	/* the caller still waits, so its number was its own when these were opened */
	if (user < 0 || owner < 0 || !still_asks(call->id) || setns(owner, CLONE_NEWUSER) < 0
	    || setns(mounts, CLONE_NEWNS) < 0 || setns(user, CLONE_NEWUSER) < 0)
		return -1;
	if (!plan_find(&run.payload, "id", &id))
		return -1;
	if (plan_find(&run.room.plan, "overlay-at", &overlay))
		place = overlay.field[0]; /* of the room that was joined */
	else if (plan_find(&run.room.plan, "overlay", &overlay) && strncmp(overlay.field[4], "/new/", 5) == 0)
		place = overlay.field[4] + 4;
	else
		return -1;
	uid = (uid_t)number(id.field[0]);
	gid = (gid_t)number(id.field[1]);
	if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0
	    || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || drop_capabilities(CAP_SYS_PTRACE_BIT) < 0
	    || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (stat(place, &seen) < 0)
		return -1;
	workspace = seen.st_dev;
	return 0;
}

static void help_callers(pid_t parent) __attribute__((noreturn));
static void help_callers(pid_t parent)
{
	struct overlay_call call;
	enum { OUTSIDE, INSIDE, NOWHERE } state = OUTSIDE;

	own_proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	while (recv(READER_LINK, &call, sizeof(call), MSG_WAITALL) == sizeof(call)) {
		if (state == OUTSIDE)
			state = own_proc >= 0 && enter_room(&call, parent) == 0 ? INSIDE : NOWHERE;
		if (answer_overlay_call(call.id, state == INSIDE ? before_call(&call) : 0) < 0)
			break;
	}
	_exit(0);
}

/* ---- the launcher's side ---- */

/* The helper counts as the run's: what it copies into memory is the command's. */
static int start_helper(void)
{
	int groups[MAX_CGROUPS + 1], *kept[MAX_CGROUPS + 2] = { &notify.listener };
	int count = open_own_cgroups(&run.room.plan, &run.payload, groups), result;
	pid_t parent = getpid();

	if (count < 0)
		return -1;
	for (int i = 0; i < count; i++)
		kept[1 + i] = &groups[i];
	result = start_reader(&overlay_helper, kept, 1 + count);
	if (result == 0) {
		if (enter_cgroups(groups, (unsigned int)count) < 0)
			_exit(1);
		help_callers(parent);
	}
	close_all(groups, (unsigned int)count);
	return result < 0 ? -1 : 0;
}

/* Pass a call to the helper, which answers it. -1: the launcher does. */
int help_overlay_call(const struct overlay_call *call)
{
	if (run.room.copied || run.killed != NULL || (overlay_helper.link < 0 && start_helper() < 0))
		return -1;
	return send(overlay_helper.link, call, sizeof(*call), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(*call) ? 0 : -1;
}

/* It says nothing: it has died, and a caller may wait for it. */
const char *on_overlay_helper(void)
{
	(void)end_reader(&overlay_helper, 0);
	return "lost";
}
