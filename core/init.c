/* SPDX-License-Identifier: MIT
 *
 * Init: the core inside, process 1. It builds the new root (rootfs.c), gives up what it no longer needs, and then
 * waits for payloads, reaps, forwards signals and reports.
 *
 * From the first line of init_main() on a failure is reported, and then init exits. The kernel ends every process of
 * the pid namespace with it, so that exiting is always safe.
 */
#include "init.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CAP_SETFCAP_BIT (1ULL << 31)
#define OFFER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define MOUNTS_RANK 14 /* from here on sources are used */

static void send_to_launcher(const struct room *room, const struct link_message *message)
{
	if (send_message(room->link, message, sizeof(*message), NULL, 0) < 0)
		_exit(1); /* the launcher is gone, and we go with it */
}

void leave(struct room *room, enum half half, unsigned int index)
{
	const struct link_message failed = { .kind = LINK_FAILED, .failed = { (int)half, (int)index, errno } };

	send_to_launcher(room, &failed);
	_exit(1);
}

ACT(hostname)
{
	/* a new UTS namespace begins with the host's names: the one of NIS goes as well */
	return sethostname(step->field[0], strlen(step->field[0])) < 0 ? -1 : setdomainname("(none)", strlen("(none)"));
}

/* ---- process 1 ---- */

void receive(struct room *room, enum half half, struct link_message *message, int *fds, unsigned int *nfds)
{
	ssize_t got = receive_message(room->link, message, sizeof(*message), fds, nfds);

	if (got < 0)
		leave(room, half, NO_STEP);
	if (got != sizeof(*message))
		_exit(1); /* the launcher is gone */
}

/*
 * The room's half, and the caller's account; they come when the maps are written. Whatever else comes is no launcher of
 * ours.
 */
static void take_room(struct room *room)
{
	struct link_message message;
	int fds[MAX_FDS];
	unsigned int nfds;

	receive(room, ROOM, &message, fds, &nfds);
	if (message.kind != LINK_ROOM)
		_exit(1);
	if (plan_take(&room->plan, fds, nfds) < 0 || close(fds[0]) < 0)
		leave(room, ROOM, NO_STEP);
	attest_against(&message.attested);
}

/* What the launcher has opened meanwhile, as much as the plan says. */
static void take_sources(struct room *room)
{
	struct cursor at = plan_start(&room->plan);
	struct link_message message;
	struct step step;
	int fds[MAX_FDS];
	unsigned int nfds, all = 0;

	while (plan_next_of(&at, "source", &step))
		all++;
	for (; room->nslots < all; room->nslots += nfds) {
		receive(room, ROOM, &message, fds, &nfds);
		if (message.kind != LINK_SOURCES || nfds == 0 || room->nslots + nfds > all)
			_exit(1);
		memcpy(&room->slot[room->nslots], fds, sizeof(int) * nfds);
	}
}

/*
 * Undumpable, and the death signal. The look at the link closes the gap in which the launcher died before it could be
 * our death signal.
 */
void protect_process(struct room *room, unsigned int index)
{
	struct pollfd link = { .fd = room->link, .events = POLLIN };

	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		leave(room, ROOM, index);
	if (poll(&link, 1, 0) < 0)
		leave(room, ROOM, NO_STEP);
	if (link.revents & (POLLHUP | POLLERR))
		_exit(1);
}

/*
 * Before this call the process has the caller's ids, so sources are opened as the caller. It sets the ids of the room
 * first, since a change of ids resets what protects the process.
 */
static void become_root(struct room *room)
{
	struct step step;

	(void)plan_find(&room->plan, "gid-map", &step);
	if (setresgid(0, 0, 0) < 0)
		leave(room, ROOM, step.index);
	(void)plan_find(&room->plan, "uid-map", &step);
	if (setresuid(0, 0, 0) < 0)
		leave(room, ROOM, step.index);
	protect_process(room, step.index);
}

static void build(struct room *room)
{
	struct cursor at = plan_start(&room->plan);
	struct step step;
	bool mapped = false, sourced = false;

	while (plan_next(&at, &step)) {
		if (step.verb->rank < 10)
			continue; /* the launcher's */
		if (!mapped && step.verb->rank > 10) {
			become_root(room);
			mapped = true;
		}
		if (!sourced && step.verb->rank >= MOUNTS_RANK) {
			take_sources(room);
			sourced = true;
		}
		if (step.verb->act != NULL && step.verb->act(room, &step) < 0)
			leave(room, ROOM, step.index);
	}
}

/* share: our namespaces, for the launchers that join them. Returns how many were put into `fds`; the last may be -1. */
static unsigned int open_namespaces(struct room *room, int *fds)
{
	static const char *const names[] = { "self/ns/user", "self/ns/mnt", "self/ns/pid", "self/ns/ipc", "self/ns/uts",
		"self/ns/net" };
	struct step step;
	unsigned int count = plan_find(&room->plan, "host-net", &step) ? 5 : 6;

	for (unsigned int i = 0; i < count; i++) {
		fds[i] = openat(room->proc, names[i], O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			return i + 1;
	}
	return count;
}

/*
 * Ready. The launcher gets our procfs and the tmpfs that all files of the room lie on, to watch memory by from outside,
 * where no process inside can name, slow or starve the watch; then the directories that Python asked for, to read at
 * the end, and the namespaces.
 */
static void announce(struct room *room)
{
	const struct link_message ready = { .kind = LINK_READY, .ready = { room->copied } };
	static const char *const verb[] = { "offer", "offer-layer" };
	int fds[MAX_FDS] = { room->proc, room->root };
	unsigned int nfds = 2;
	struct step step;

	for (int i = 0; i < 2; i++) {
		if (!plan_find(&room->plan, verb[i], &step))
			continue;
		fds[nfds] = i == 0 ? open(step.field[0], OFFER_FLAGS) :
				     open_in_root(room->root, step.field[0], OFFER_FLAGS);
		if (fds[nfds++] < 0)
			leave(room, ROOM, step.index);
	}
	if (plan_find(&room->plan, "share", &step)) {
		nfds += open_namespaces(room, &fds[nfds]);
		if (fds[nfds - 1] < 0)
			leave(room, ROOM, step.index);
	}
	if (send_message(room->link, &ready, sizeof(ready), fds, nfds) < 0)
		leave(room, ROOM, NO_STEP);
	close_all(&fds[1], nfds - 1);
	room->root = -1;
}

/* ---- payloads ---- */

/* Processor time of the set-up: of this process, and of the one that made the network. */
static int spent_us(bool system)
{
	struct rusage own, made;

	if (getrusage(RUSAGE_SELF, &own) < 0 || getrusage(RUSAGE_CHILDREN, &made) < 0)
		return 0; /* neither can fail: both are given a number that exists and memory of ours */
	if (system)
		return (int)((own.ru_stime.tv_sec + made.ru_stime.tv_sec) * 1000000 + own.ru_stime.tv_usec
		    + made.ru_stime.tv_usec);
	return (
	    int)((own.ru_utime.tv_sec + made.ru_utime.tv_sec) * 1000000 + own.ru_utime.tv_usec + made.ru_utime.tv_usec);
}

/*
 * Fork the payload into a user namespace of its own and wait until it runs or reports why it does not. Returns its pid.
 * The status pipe is close-on-exec: end-of-file means that exec happened.
 */
static pid_t start_payload(struct room *room, const struct link_message *given, const int *fds, unsigned int nfds)
{
	bool input = given->payload.has_stdin == 1;
	int master CLEANUP_CLOSE = -1;
	struct plan plan = { 0 };
	struct rejection why;
	struct step step = { 0 };
	int stdio[3] = { input ? fds[4] : -1, fds[2], fds[3] };
	int status[2];
	struct payload_word word = { 0 };
	struct link_message message = { .kind = LINK_STARTED };
	int before_cgroups_us; /* processor time before groups of version 1 count it */
	pid_t pid;
	ssize_t got;

	plan.nfds = MAX_FDS; /* the launcher checked the numbers against what came with the plan */
	if (plan_map(fds[0], &plan) < 0 || !plan_check(&plan, PAYLOAD, &why) || pipe2(status, O_CLOEXEC) < 0)
		leave(room, PAYLOAD, NO_STEP);
	room->keeps = plan_find(&plan, "keep", &step);
	(void)find_cgroup_to_enter(&plan, &step);
	if (enter_cgroups(fds + 4 + input, nfds - 4 - input) < 0 || attest_cgroups(room, &plan) < 0)
		leave(room, PAYLOAD, step.index);
	before_cgroups_us = nfds > 4U + input ? spent_us(false) + spent_us(true) : 0;
	master = make_terminal(room, &plan, given, stdio);
	(void)plan_find(&plan, "id", &step);
	/* the cgroup namespace's root is where its maker stands: here, inside the groups */
	pid = clone_process(CLONE_NEWUSER | CLONE_NEWCGROUP, NULL, -1);
	if (pid == 0)
		payload_main(room, &plan, stdio, status[1], fds[1]);
	if (pid < 0)
		leave(room, PAYLOAD, step.index);
	close_cleanup(&status[1]);
	close_all(fds, nfds);
	got = read(status[0], &word, sizeof(word));
	if (got == sizeof(word) && !word.has_failed) { /* confined; then nothing, or the step that failed */
		room->landlock_abi = word.landlock_abi;
		room->attested = word.attested;
		got = read(status[0], &word, sizeof(word));
	} else if (got == 0) {
		errno = EPROTO; /* gone before it was confined, and without a word */
		got = -1;
	}
	if (got == sizeof(word))
		errno = word.error;
	if (got != 0)
		leave(room, PAYLOAD, got == sizeof(word) ? (unsigned int)word.step : NO_STEP);
	(void)close(status[0]);
	message.started.landlock_abi = room->landlock_abi;
	message.started.user_us = spent_us(false);
	message.started.system_us = spent_us(true);
	message.started.before_cgroups_us = before_cgroups_us;
	message.attested = room->attested;
	if (send_message(room->link, &message, sizeof(message), &master, master >= 0) < 0)
		_exit(1); /* as send_to_launcher() */
	return pid;
}

/* ---- the loop of process 1 ---- */

/*
 * Reap all. If the payload itself has ended, report it; if it was the last process, exit, for which the launcher need
 * not ask. What a payload that keeps has left running is waited for, and then the same is reported once more.
 */
static void reap_all(struct room *room, pid_t payload)
{
	static int ended_with;
	static bool has_ended;
	bool had_ended = has_ended;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		if (pid == payload && !has_ended) { /* else its number has been given to another */
			ended_with = status;
			has_ended = true;
		}
	if (pid < 0 && errno != ECHILD)
		leave(room, PAYLOAD, NO_STEP);
	if (has_ended && !had_ended)
		close_cleanup(&room->terminal); /* it was held for a command that closes its own and opens it again */
	if (has_ended && (!had_ended || (room->keeps && pid < 0)))
		send_to_launcher(
		    room, &(struct link_message){ .kind = LINK_EXITED, .exited = { ended_with, pid < 0 } });
	if (has_ended && pid < 0 && (!had_ended || room->keeps))
		_exit(0);
}

/* A process that forks meanwhile is killed before the child exists. Once reaped, all are in the accounts. */
static void end_all(void)
{
	(void)kill(-1, SIGKILL); /* fails when there is nobody */
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
	_exit(0);
}

static void on_message(struct room *room, pid_t *payload)
{
	struct link_message message;
	int fds[MAX_FDS];
	unsigned int nfds;

	receive(room, PAYLOAD, &message, fds, &nfds);
	if (message.kind == LINK_PAYLOAD
	    && nfds == 4U + (message.payload.has_stdin == 1) + (unsigned int)message.payload.groups && *payload == 0)
		*payload = start_payload(room, &message, fds, nfds);
	else if (message.kind == LINK_END)
		end_all();
	else if (message.kind == LINK_RESIZE)
		(void)ioctl(room->terminal, TIOCSWINSZ, &message.size); /* a terminal that has gone has no size */
	else if (message.kind == LINK_SIGNAL && *payload > 0)
		/* its process group; a command that is gone needs no signal */
		(void)kill(-*payload, message.signal.number);
}

void init_main(struct room *room)
{
	struct step step;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		leave(room, ROOM, NO_STEP);
	if (!plan_find(&room->plan, "host-net", &step))
		start_network(room);
	(void)setsid(); /* for turns of our own, as in procfs_reader.c; we lead no group, so that it cannot fail */
	take_room(room);
	build(room);
	serve(room);
}

/* The room is built. */
void serve(struct room *room)
{
	struct pollfd polls[2] = { 0 };
	struct signalfd_siginfo news;
	pid_t payload = 0;
	sigset_t child;

	/* on fixed places, which nothing else can be on: the link, procfs and, until it is handed over, the tmpfs */
	if (place_descriptors((int *const[]){ &room->link, &room->proc, &room->root }, 3, 3) < 0 || close(0) < 0)
		leave(room, ROOM, NO_STEP);
	/* CAP_SETFCAP is what the kernel wants of the maker of a user namespace in which our root appears */
	if (drop_capabilities(CAP_SETFCAP_BIT) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		leave(room, ROOM, NO_STEP);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	polls[0] = (struct pollfd){ .fd = room->link, .events = POLLIN };
	polls[1] = (struct pollfd){ .fd = signalfd(-1, &child, SFD_CLOEXEC), .events = POLLIN };
	if (polls[1].fd < 0)
		leave(room, ROOM, NO_STEP);
	announce(room);
	for (;;) {
		if (poll(polls, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			leave(room, PAYLOAD, NO_STEP);
		}
		if (polls[1].revents) {
			if (read(polls[1].fd, &news, sizeof(news)) != sizeof(news) && errno != EINTR)
				leave(room, PAYLOAD, NO_STEP);
			reap_all(room, payload);
		}
		if (polls[0].revents)
			on_message(room, &payload);
	}
}
