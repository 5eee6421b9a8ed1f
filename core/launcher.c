/* SPDX-License-Identifier: MIT
 *
 * The launcher: the core outside the sandbox, and its create phase. It reads the plan, opens what the caller may open,
 * clones init into its namespaces, and sends it the two halves. From then on it supervises (supervise.c).
 *
 * One thread, one poll loop.
 */
#include "launcher.h"
#include <grp.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

struct run run;

/* What the caller's process has and the command must not inherit: it only ever gets less urgent, and predictable. */
static int normalise(void)
{
	const struct sched_param normal = { 0 };
	struct rlimit files;
	static const uint64_t plain[4]; /* the kernel's struct sigaction, all of it 0: SIG_DFL, no flags, empty mask */
	/* musl's own says ENOSYS; without SCHED_RESET_ON_FORK */
	long policy = syscall(SYS_sched_getscheduler, 0) & ~0x40000000L;
	sigset_t all;

	if (sigfillset(&all) < 0 || sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return -1;
	/* by syscall: libc keeps two of them for itself, and would leave them ignored */
	for (int sig = 1; sig <= 64; sig++)
		if (sig != SIGKILL && sig != SIGSTOP && syscall(SYS_rt_sigaction, sig, plain, NULL, 8) < 0)
			return -1;
	umask(0);
	/* a low soft limit of the caller's is for its own descriptors; the command gets limits of its own */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -1;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || personality(0) < 0)
		return -1;
	if ((policy == SCHED_FIFO || policy == SCHED_RR)
	    && syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal) < 0)
		return -1;
	/* I/O priority: real-time (class 1) becomes the usual best-effort (class 2, level 4) */
	if (syscall(SYS_ioprio_get, 1, 0) >> 13 == 1 && syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 4) < 0)
		return -1;
	errno = 0;
	if (getpriority(PRIO_PROCESS, 0) < 0 && setpriority(PRIO_PROCESS, 0, 0) < 0)
		return -1;
	return 0;
}

/*
 * Init makes the network namespace, which can be made in parallel, and the cgroup namespace, whose root is the cgroup
 * of its maker: init is in the one that clone put it in.
 */
#define CLONE_FLAGS (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)

/* Run the steps of one verb here. On failure `step` is the one that failed. */
static int act_all(struct room *room, const char *verb, struct step *step)
{
	struct cursor at = plan_start(&room->plan);

	while (plan_next_of(&at, verb, step))
		if (step->verb->act(room, step) < 0)
			return -1;
	return 0;
}

/* The child at the other end of the link: init in new namespaces, or the first process that joins those of a room. */
int make_clone(struct room *room, uint64_t namespaces, struct step *step)
{
	bool in_cgroup = find_cgroup(&room->plan, step);
	int cgroup CLEANUP_CLOSE = in_cgroup ? open_cgroup(&room->plan, step) : -1;
	const struct step of_cgroup = *step;
	int pair[2];

	if (in_cgroup && cgroup < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		*step = no_step;
		return -1;
	}
	/* a refused clone is the host refusing namespaces, whichever one of them: name the first step of that kind */
	if (!plan_find(&room->plan, "namespace", step))
		*step = no_step;
	room->init = clone_process(namespaces, &room->pidfd, cgroup);
	/* these can only be the cgroup's: no such thing, not ours, not allowed to hold processes, being removed */
	if (room->init < 0 && cgroup >= 0
	    && (errno == EBADF || errno == EACCES || errno == EOPNOTSUPP || errno == EBUSY || errno == ENODEV))
		*step = of_cgroup;
	room->link = pair[room->init == 0];
	close_cleanup(&pair[room->init != 0]);
	return room->init < 0 ? -1 : 0;
}

int drop_groups(struct room *room, struct step *step)
{
	return plan_find(&room->plan, "drop-groups", step) ? setgroups(0, NULL) : 0;
}

int start_setup_clock(const struct room *room, struct step *step)
{
	if (plan_find(&room->plan, "setup-clock", step))
		run.setup_ms = number(step->field[0]);
	return set_timer(run.setup_ms);
}

/* Init in its namespaces, and their maps: what the first steps of a room say, which may come ahead of the others. */
static int create_init(struct room *room, struct step *step)
{
	if (drop_groups(room, step) < 0 || make_clone(room, CLONE_FLAGS, step) < 0)
		return -1;
	if (room->init == 0)
		init_main(room);
	run.cloned_ns = now_ns();
	if (write_id_maps(room, step) < 0)
		return -1;
	run.mapped_ns = now_ns();
	*step = no_step;
	return attest_caller(&run.caller); /* now: after a preamble, Python is still planning */
}

/*
 * Send the room's half to init, which begins to make what needs no source, and then the sources, opened here for a
 * privileged caller. Init takes the half as it is: its seals and the check hold for the same file there.
 */
static int send_room(struct room *room, int memfd, struct step *step)
{
	struct link_message message = { .kind = LINK_ROOM, .attested = run.caller };
	int fds[MAX_FDS];

	if (start_setup_clock(room, step) < 0 || act_all(room, "guard", step) < 0)
		return -1;
	*step = no_step;
	fds[0] = memfd;
	memcpy(&fds[1], room->plan.fds, sizeof(int) * room->plan.nfds);
	if (send_to_init(&message, fds, room->plan.nfds + 1) < 0 || close(memfd) < 0)
		return -1;
	if (act_all(room, "source", step) < 0 || act_all(room, "idmap", step) < 0)
		return -1;
	*step = no_step;
	message.kind = LINK_SOURCES;
	for (unsigned int done = 0, some; done < room->nslots; done += some) {
		some = room->nslots - done < MAX_FDS ? room->nslots - done : MAX_FDS;
		if (send_to_init(&message, &room->slot[done], some) < 0)
			return -1;
		for (unsigned int i = 0; i < some; i++)
			close_cleanup(&room->slot[done + i]);
	}
	run.room_sent_ns = now_ns();
	return 0;
}

/* ---- the room's half ---- */

/* Returns 1 if the first can be read, 0 if the second alone, or -1. */
int wait_for_either(int first, int second)
{
	struct pollfd polls[2];

	set_poll(&polls[0], first, POLLIN);
	set_poll(&polls[1], second, POLLIN);
	while (poll(polls, 2, -1) < 0)
		if (errno != EINTR)
			return -1;
	return polls[0].revents != 0;
}

/*
 * The next message from Python: its first word, with the descriptors that came with it. If the text of a plan follows
 * the word, it is written to a sealed file, which becomes the first descriptor; the rest of one stays in `run.rest`.
 * Returns the length of the word; 0 or -1 as receive_message.
 */
ssize_t receive_control(const char **word, int fds[static MAX_FDS], unsigned int *nfds)
{
	static char text[MESSAGE_BYTES + 1];
	ssize_t got = receive_message(CONTROL, text, MESSAGE_BYTES, fds, nfds);
	size_t length;
	int plan;

	if (got <= 0)
		return got;
	text[got] = '\0';
	*word = text;
	length = strlen(text);
	run.rest = (struct bytes){ text + length + 1, (size_t)got > length ? (size_t)got - length - 1 : 0 };
	if (run.rest.length == 0 || strcmp(text, "command") == 0)
		return (ssize_t)length;
	errno = EBADMSG;
	plan = *nfds < MAX_FDS ? plan_seal(run.rest.at, run.rest.length) : -1;
	if (plan < 0)
		return close_all(fds, *nfds), -1;
	memmove(&fds[1], &fds[0], sizeof(*fds) * *nfds);
	fds[0] = plan;
	*nfds += 1;
	return (ssize_t)length;
}

/*
 * The next plan from Python, checked; its file, which the caller closes, or -1, which is no rejection if it has no
 * reason: a call failed, and errno says how. `*which` is its kind: a preamble is optional, and comes first; to join
 * comes alone.
 */
static int receive_plan(struct plan *plan, enum half *which)
{
	int fds[MAX_FDS];
	unsigned int nfds;
	const char *word;
	int waited = wait_for_either(CONTROL, run.maker);
	ssize_t got;

	run.rejected.reason = NULL;
	if (waited == 0) /* Python may die before it sends a plan, too, and a child of it hold the socket */
		abandon();
	got = waited < 0 ? -1 : receive_control(&word, fds, &nfds);
	if (got == 0 || (got < 0 && errno == EBADMSG))
		abandon();
	if (got < 0)
		return -1;
	run.rejected = (struct rejection){ "message", 0 };
	if (strcmp(word, "room") == 0)
		*which = ROOM;
	else if (*which != PREAMBLE || (strcmp(word, "preamble") != 0 && strcmp(word, "join") != 0))
		return -1;
	else if (*word == 'j')
		*which = JOIN;
	if (nfds == 0)
		return -1;
	if (plan_take(plan, fds, nfds) < 0) {
		run.rejected.reason = errno == EBADMSG ? "seals" : NULL;
		return -1;
	}
	return plan_check(plan, *which, &run.rejected) ? fds[0] : -1;
}

/* Receive the room's half, and before it the preamble, if there is one: then init is created while Python plans. */
static void make_room(struct room *room)
{
	static struct plan preamble;
	enum half which = PREAMBLE;
	struct step step = { 0 };
	int memfd = receive_plan(&room->plan, &which);

	run.received_ns = now_ns();
	if (memfd < 0) {
		if (run.rejected.reason == NULL)
			fail_at_no_step();
		report_end();
	}
	run.checked = true;
	if ((which == JOIN ? join_room(room, memfd, &step) : create_init(room, &step)) < 0) {
		fail(ROOM, &step);
		if (room->init <= 0)
			report_end();
		return;
	}
	if (which == JOIN)
		return;
	if (which == PREAMBLE) {
		close_cleanup(&memfd);
		preamble = room->plan;
		which = ROOM;
		memfd = receive_plan(&room->plan, &which);
		if (memfd >= 0 && !plan_continues(&room->plan, &preamble)) {
			run.rejected = (struct rejection){ "preamble", 0 };
			memfd = -1;
		}
		if (memfd < 0) {
			room->plan = preamble; /* the one that was checked */
			if (run.rejected.reason == NULL)
				fail_at_no_step();
			else
				kill_room("rejected");
			return;
		}
		for (unsigned int i = 0; i < preamble.nfds; i++)
			close_cleanup(&preamble.fds[i]); /* they came again with the room's half */
	}
	if (send_room(room, memfd, &step) < 0)
		fail(ROOM, &step);
}

/* A child of the caller may hold the control socket open when the caller is dead: so its process is watched, too. */
static int watch_caller(void)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	if (getsockopt(CONTROL, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -1;
	run.maker = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	/* anything else: it is out of sight, and there is the socket */
	return run.maker < 0 && errno == ESRCH ? -1 : 0;
}

int launch(void)
{
	struct room *room = &run.room;

	run.lifted = -1;
	room->link = room->pidfd = room->root = room->proc = room->landlock = room->terminal = run.notice = -1;
	for (int i = IN; i <= ERR; i++)
		run.pumps[i].from = run.pumps[i].to = -1;
	run.timer = -1;
	if (close_from(3) == 0 && normalise() == 0 && watch_caller() == 0)
		run.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (run.timer < 0) {
		fail_at_no_step();
		report_end();
	}
	make_room(room);
	supervise();
	return 0;
}
