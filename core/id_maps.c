/* SPDX-License-Identifier: MIT
 *
 * The id maps of the sandbox: of init's user namespace, and of sources that show files of the caller's as the sandbox's
 * own. One id each way, never a range.
 */
#include "launcher.h"
#include <sys/socket.h>
#include <sys/wait.h>

static int proc_write(pid_t pid, const char *name, const char *text)
{
	char path[64];

	process_path(path, (uint64_t)pid, name);
	return write_file(AT_FDCWD, path, text);
}

/* "INSIDE OUTSIDE 1": one id, never a range. */
static int write_map(pid_t pid, const char *name, const char *inside, const char *outside)
{
	char line[64];

	put(&TEXT_IN(line), inside, " ", outside, " 1");
	return proc_write(pid, name, line);
}

/* setgroups is denied first: an id map without that would let the sandbox drop groups that deny it something. */
int write_id_maps(struct room *room, struct step *step)
{
	if (!plan_find(&room->plan, "gid-map", step) || proc_write(room->init, "/setgroups", "deny") < 0)
		return -1;
	if (write_map(room->init, "/gid_map", step->field[0], step->field[1]) < 0)
		return -1;
	if (!plan_find(&room->plan, "uid-map", step)
	    || write_map(room->init, "/uid_map", step->field[0], step->field[1]) < 0)
		return -1;
	if (plan_find(&room->plan, "oom-score-adj", step)
	    && proc_write(room->init, "/oom_score_adj", step->field[0]) < 0)
		return -1;
	return 0;
}

static int open_userns(pid_t pid)
{
	char path[64];

	process_path(path, (uint64_t)pid, "/ns/user");
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* A user namespace that maps this user and group to the sandbox's. Its first process ends when we close the socket. */
static int make_userns(const char *uid, const char *gid, const char *outside_uid, const char *outside_gid)
{
	int pair[2], userns = -1;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	child = clone_process(CLONE_NEWUSER, NULL, -1);
	if (child == 0) {
		close_cleanup(&pair[0]);
		_exit(read(pair[1], &userns, 1) != 0);
	}
	if (child > 0 && write_map(child, "/uid_map", uid, outside_uid) == 0
	    && write_map(child, "/gid_map", gid, outside_gid) == 0)
		userns = open_userns(child);
	close_cleanup(&pair[1]);
	close_cleanup(&pair[0]);
	if (child > 0)
		(void)waitpid(child, NULL, __WALL); /* it is ours, and has ended with the socket */
	return userns;
}

/*
 * idmap SLOT UID GID: what that user and group own of the source is the sandbox's own. The kernel takes a map in the
 * form of a user namespace that has it; for root's own files that is the room's.
 */
ACT(idmap)
{
	bool roots = strcmp(step->field[1], "0") == 0 && strcmp(step->field[2], "0") == 0;
	struct step uid, gid;
	int userns CLEANUP_CLOSE = -1;

	if (!plan_find(&room->plan, "uid-map", &uid) || !plan_find(&room->plan, "gid-map", &gid))
		return -1;
	userns = roots ? open_userns(room->init) :
			 make_userns(step->field[1], step->field[2], uid.field[1], gid.field[1]);
	return userns < 0 ? -1 : set_mount(room->slot[number(step->field[0])], true, MOUNT_IDMAP, 0, userns);
}
