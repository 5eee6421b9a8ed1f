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

void send_to_launcher(const struct room *room, const struct link_message *message)
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

/* ---- the loop of process 1 ---- */

static void report_exit(const struct room *room, int status, bool is_last)
{
	struct link_message message = { .kind = LINK_EXITED, .exited = { .wait_status = status, .is_last = is_last } };

	if (is_last)
		message.exited.usage = usage_of_all();
	send_to_launcher(room, &message);
}

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
		report_exit(room, ended_with, pid < 0);
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
	struct pollfd polls[3] = { 0 };
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
		polls[2] = (struct pollfd){ .fd = starting.status, .events = POLLIN };
		if (poll(polls, 3, -1) < 0) {
			if (errno == EINTR)
				continue;
			leave(room, PAYLOAD, NO_STEP);
		}
		if (polls[2].revents)
			finish_start(room); /* before its end is reported */
		if (polls[1].revents) {
			if (read(polls[1].fd, &news, sizeof(news)) != sizeof(news) && errno != EINTR)
				leave(room, PAYLOAD, NO_STEP);
			reap_all(room, payload);
		}
		if (polls[0].revents)
			on_message(room, &payload);
	}
}
