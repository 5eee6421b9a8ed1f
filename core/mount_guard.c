/* SPDX-License-Identifier: MIT
 *
 * Guards: places in a directory of the host's on which the room mounts something. The kernel removes such a mount if
 * the host renames over the place or removes it, so the launcher watches for that, and ends the run. No process inside
 * can do it: a mount point is busy there.
 *
 * The command can cause events by moving and removing files beside such a place. One buffer of them is read in each
 * round of the loop. If the kernel had to drop some, each place is compared with what was opened at the start, by the
 * names that the kernel has for the descriptors: that waits for no lock of a directory that the command may hold.
 */
#include "capsule-core.h"
#include <sys/inotify.h>

#define MAX_GUARDS 256U
#define MAX_NAMES 1024U
#define MOVED (IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR)

static struct guard {
	const char *name, *path; /* the shared directory, and what is guarded in it */
	int directory, object;   /* both, open */
} guards[MAX_GUARDS];
static struct {
	int watch; /* the directory in which `name` is */
	const char *name;
	size_t length;
	unsigned int guard;
} names[MAX_NAMES];
static unsigned int nguards, nnames;
int guard_events = -1;

/* The name that the kernel has for what is open; ` (deleted)` follows that of what is no longer there. */
static ssize_t name_of(int fd, char to[static PATH_MAX])
{
	char link[64];

	fd_path(link, fd);
	return readlink(link, to, PATH_MAX);
}

static bool in_place(const struct guard *guard)
{
	static char directory[PATH_MAX], object[PATH_MAX];
	ssize_t length = name_of(guard->directory, directory), whole = name_of(guard->object, object);
	size_t rest = strlen(guard->path);

	if (length == 1)
		length = 0; /* the root */
	return length >= 0 && whole == length + (ssize_t)rest && whole < PATH_MAX
	    && memcmp(directory, object, (size_t)length) == 0 && memcmp(object + length, guard->path, rest) == 0;
}

/* Watch each directory on the way for its part of the path. */
static int watch_names(const struct guard *guard)
{
	char prefix[PATH_MAX] = "/", link[64];

	for (const char *name = guard->path + 1, *end = guard->path; *end != '\0'; name = end + 1) {
		int directory CLEANUP_CLOSE = -1;

		end = name + strcspn(name, "/");
		if (name > guard->path + 1) {
			memcpy(prefix, guard->path, (size_t)(name - guard->path - 1));
			prefix[name - guard->path - 1] = '\0';
		}
		directory = open_in_root(guard->directory, prefix, O_PATH | O_DIRECTORY);
		if (directory < 0 || nnames == MAX_NAMES) {
			errno = directory < 0 ? errno : ENOSPC;
			return -1;
		}
		fd_path(link, directory);
		names[nnames].watch = inotify_add_watch(guard_events, link, MOVED);
		if (names[nnames].watch < 0)
			return -1;
		names[nnames].name = name;
		names[nnames].length = (size_t)(end - name);
		names[nnames++].guard = nguards;
	}
	return 0;
}

/* guard PATH DEVICE INODE PLACE: before init mounts anything, so that what it mounts on is what is watched. */
ACT(guard)
{
	struct guard *guard = &guards[nguards];

	if (guard_events < 0)
		guard_events = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (guard_events < 0 || nguards == MAX_GUARDS) {
		errno = guard_events < 0 ? errno : ENOSPC;
		return -1;
	}
	guard->name = step->field[0];
	guard->path = step->field[3];
	if (nguards > 0 && strcmp(guard->name, guards[nguards - 1].name) == 0)
		guard->directory = guards[nguards - 1].directory; /* one descriptor for a directory */
	else
		guard->directory = open_seen(step, O_PATH | O_DIRECTORY);
	if (guard->directory < 0)
		return -1;
	guard->object = -1;
	if (watch_names(guard) == 0)
		guard->object = open_in_root(guard->directory, guard->path, O_PATH);
	if (guard->object < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
		return -1; /* what is not there is for the mount to report, or counts as changed */
	nguards++;
	return 0;
}

/* The first place that is no longer what it was, counted from 0; -1 for none. */
int first_lifted(void)
{
	for (unsigned int i = 0; i < nguards; i++)
		if (!in_place(&guards[i]))
			return (int)i;
	return -1;
}

/* The same by what the kernel has reported since the last call. */
int on_guard_events(void)
{
	static char buffer[1U << 14] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t got = read(guard_events, buffer, sizeof(buffer));

	for (ssize_t at = 0; at < got;) {
		const struct inotify_event *event = (const void *)(buffer + at);
		const char *name = event->len > 0 ? event->name : "";

		if (event->mask & (IN_Q_OVERFLOW | IN_UNMOUNT))
			return first_lifted();
		for (unsigned int i = 0; i < nnames; i++)
			if (names[i].watch == event->wd && strncmp(names[i].name, name, names[i].length) == 0
			    && name[names[i].length] == '\0')
				return (int)names[i].guard;
		at += (ssize_t)(sizeof(*event) + event->len);
	}
	return -1;
}
