/* SPDX-License-Identifier: MIT
 *
 * Join a room that another launcher holds: an init of our own, for one payload, in the room's namespaces and in a pid
 * and a mount namespace below them (docs/decisions/sessions.md).
 *
 * It takes three processes, all children of the launcher. The first enters the room's namespaces. A process cannot
 * enter a pid namespace, only its children can, so it clones the second; and only a process that is in a pid namespace
 * can make one below it, so the second clones the third, which is init. The first two end then. They run nothing but
 * this file, cannot be traced, and no payload has them in its pid namespace.
 */
#include "init.h"
#include "launcher.h"
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define DIR_FLAGS (O_PATH | O_DIRECTORY)

/* ---- inside ---- */

ACT(join_namespace)
{
	static const struct {
		const char *name;
		int kind;
	} known[] = { { "user", CLONE_NEWUSER }, { "mount", CLONE_NEWNS }, { "pid", CLONE_NEWPID },
		{ "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS }, { "net", CLONE_NEWNET } };
	unsigned int i = 0;

	while (strcmp(known[i].name, step->field[0]) != 0)
		i++; /* it is one of them: the plan was checked */
	if (setns(room->plan.fds[number(step->field[1])], known[i].kind) < 0)
		return -1;
	/* root of the room at once: outside it is the one id that the room has, and none of its other files are ours */
	return known[i].kind == CLONE_NEWUSER && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) ? -1 : 0;
}

/*
 * carry PATH: what covers this name of the room's procfs will cover it in ours. It must be a mount: a part of the
 * room's procfs itself would show processes of others.
 */
ACT(carry)
{
	int proc CLEANUP_CLOSE = open_in_root(room->root, "/proc", DIR_FLAGS);
	int object CLEANUP_CLOSE = open_in_root(room->root, step->field[0], O_PATH);
	struct stat of_proc, of_object;

	if (proc < 0 || object < 0 || fstat(proc, &of_proc) < 0 || fstat(object, &of_object) < 0)
		return -1;
	errno = room->nslots == MAX_SLOTS ? ENOSPC : EINVAL;
	if (room->nslots == MAX_SLOTS || of_proc.st_dev == of_object.st_dev)
		return -1;
	room->slot[room->nslots] = open_tree_clone(object);
	return room->slot[room->nslots++] < 0 ? -1 : 0;
}

static int attach_at(const struct room *room, int tree, const char *place)
{
	int target CLEANUP_CLOSE = open_in_root(room->root, place, O_PATH);

	return target < 0 ? -1 : move_mount_to(tree, target);
}

static int attach_carried(const struct room *room)
{
	struct cursor at = plan_start(&room->plan);
	struct step step;

	for (unsigned int i = 0; plan_next_of(&at, "carry", &step); i++)
		if (attach_at(room, room->slot[i], step.field[0]) < 0)
			return -1;
	return 0;
}

/*
 * A procfs of our own pid namespace in the place of the room's, which leaves our mount namespace. The kernel gives a
 * new one because the room's is fully visible: what covers its names was mounted by the room's own root. Init keeps the
 * one that can be written; where the payload must not, a copy that cannot lies on top.
 */
ACT(join_proc)
{
	const char *place = step->field[0];
	int copy CLEANUP_CLOSE = -1;

	room->proc = new_filesystem("proc", NULL, MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC);
	if (room->proc < 0 || umount2(place, MNT_DETACH | UMOUNT_NOFOLLOW) < 0
	    || attach_at(room, room->proc, place) < 0)
		return -1;
	if (strcmp(step->field[1], "rw") != 0) {
		copy = open_tree_clone(room->proc);
		if (copy < 0 || attach_at(room, copy, place) < 0 || make_readonly(copy) < 0)
			return -1;
	}
	return attach_carried(room);
}

/* The steps of some phases, here. */
static void act_all(struct room *room, const char *phase)
{
	struct cursor at = plan_start(&room->plan);
	struct step step;

	while (plan_next(&at, &step))
		if (strcmp(step.verb->phase, phase) == 0 && step.verb->act != NULL && step.verb->act(room, &step) < 0)
			leave(room, ROOM, step.index);
}

/* The third process: init of a pid namespace below the room's, in a copy of its mounts. */
static void init_joined(struct room *room) __attribute__((noreturn));
static void init_joined(struct room *room)
{
	struct link_message message;
	int fds[MAX_FDS];
	unsigned int nfds;

	protect_process(room, NO_STEP);
	(void)setsid(); /* as init_main() */
	room->root = open("/", DIR_FLAGS | O_CLOEXEC);
	/* those of a room are private already; that what follows stays here depends on nobody's word */
	if (room->root < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		leave(room, ROOM, NO_STEP);
	act_all(room, "build");
	act_all(room, "enter");
	receive(room, ROOM, &message, fds, &nfds);
	if (message.kind != LINK_ROOM || nfds != 0)
		_exit(1);
	attest_against(&message.attested);
	serve(room);
}

/* The second process: it only hands the launcher what that needs to wait for the third, and for itself. */
static void clone_init(struct room *room) __attribute__((noreturn));
static void clone_init(struct room *room)
{
	const struct link_message joined = { .kind = LINK_JOINED };
	int fds[2] = { -1, (int)syscall(SYS_pidfd_open, getpid(), 0) };
	int pid;

	protect_process(room, NO_STEP);
	if (fds[1] < 0)
		leave(room, ROOM, NO_STEP);
	pid = clone_process(CLONE_PARENT | CLONE_NEWPID | CLONE_NEWNS, &fds[0], -1);
	if (pid == 0)
		init_joined(room);
	if (pid < 0 || send_message(room->link, &joined, sizeof(joined), fds, 2) < 0)
		leave(room, ROOM, NO_STEP);
	_exit(0);
}

/* The first process. It protects itself before it can be seen, and again, since to enter a user namespace undoes it. */
static void enter_room(struct room *room) __attribute__((noreturn));
static void enter_room(struct room *room)
{
	struct step step;
	int pid;

	if (plan_find(&room->plan, "oom-score-adj", &step)
	    && write_file(AT_FDCWD, "/proc/self/oom_score_adj", step.field[0]) < 0)
		leave(room, ROOM, step.index);
	protect_process(room, NO_STEP);
	act_all(room, "join");
	protect_process(room, NO_STEP);
	pid = clone_process(CLONE_PARENT, NULL, -1);
	if (pid == 0)
		clone_init(room);
	if (pid < 0)
		leave(room, ROOM, NO_STEP);
	_exit(0);
}

/* ---- the launcher ---- */

/* The number of a process by its pidfd; 0 if that cannot be read. */
static pid_t pid_of(int pidfd)
{
	char bytes[64], content[512];
	struct text path = TEXT_IN(bytes);

	put(&path, "/proc/self/fdinfo/");
	put_number(&path, (uint64_t)pidfd);
	(void)read_file(AT_FDCWD, bytes, content, sizeof(content));
	return (pid_t)status_number(content, "\nPid:");
}

/* The first two have ended, or are about to. */
static int take_init(struct room *room, const int *fds)
{
	pid_t first = room->init;
	int second CLEANUP_CLOSE = fds[1];

	close_cleanup(&room->pidfd);
	room->pidfd = fds[0];
	room->init = pid_of(room->pidfd);
	if (waitpid(first, NULL, 0) < 0 || waitid((idtype_t)WAIT_PIDFD, (id_t)second, NULL, WEXITED) < 0)
		return -1;
	errno = ESRCH;
	return room->init > 0 ? 0 : -1;
}

/* It has failed. Each of the three ends when it finds the link closed, and is reaped: nobody else need do that. */
static int end_joining(struct room *room)
{
	int error = errno;

	close_cleanup(&room->link);
	room->link = -1;
	(void)syscall(SYS_pidfd_send_signal, room->pidfd, SIGKILL, NULL, 0);
	for (int left = END_MS; left > 0 && waitpid(-1, NULL, __WALL | WNOHANG) >= 0; left--)
		(void)poll(NULL, 0, 1);
	errno = error;
	return -1;
}

/* Wait for the second process to hand over the third; when the time of set-up is over, that is left to the loop. */
static int await_init(struct room *room)
{
	struct link_message message;
	int fds[MAX_FDS], waited = wait_for_either(room->link, run.timer);
	unsigned int nfds;
	ssize_t got;

	if (waited <= 0)
		return waited;
	got = receive_message(room->link, &message, sizeof(message), fds, &nfds);
	if (got == sizeof(message) && message.kind == LINK_JOINED && nfds == 2)
		return take_init(room, fds) < 0 ? -1 : 1;
	if (got >= 0)
		close_all(fds, nfds);
	if (got == sizeof(message) && message.kind == LINK_FAILED) {
		run.has_failed = true;
		run.failed = message.failed;
		kill_room("failed");
	}
	if (got >= 0)
		errno = EPROTO; /* they were killed, and say nothing more */
	return -1;
}

/* Our own descriptors of the namespaces would keep them when the room is gone. */
static void close_namespaces(struct room *room)
{
	struct cursor at = plan_start(&room->plan);
	struct step step;

	while (plan_next_of(&at, "join-namespace", &step)) {
		close_cleanup(&room->plan.fds[number(step.field[1])]);
		room->plan.fds[number(step.field[1])] = -1;
	}
}

/* Init in the room. It has the plan and what came with it from us, since it is our child. */
int join_room(struct room *room, int memfd, struct step *step)
{
	struct link_message go = { .kind = LINK_ROOM };
	int joined;

	if (start_setup_clock(room, step) < 0 || drop_groups(room, step) < 0 || make_clone(room, 0, step) < 0)
		return -1;
	if (room->init == 0)
		enter_room(room);
	run.cloned_ns = now_ns();
	*step = no_step;
	close_cleanup(&memfd);
	close_namespaces(room);
	if (attest_caller(&run.caller) < 0 || (joined = await_init(room)) < 0)
		return end_joining(room);
	run.mapped_ns = run.room_sent_ns = now_ns();
	go.attested = run.caller;
	return joined > 0 && send_to_init(&go, NULL, 0) < 0 ? end_joining(room) : 0;
}
