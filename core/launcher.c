/* SPDX-License-Identifier: MIT
 *
 * The launcher: the core outside the wall. It reads the plan, opens what the caller may open, makes the clone that is the
 * wall, and then holds the clock, the output caps and the kill, so that none of them depends on Python being alive.
 *
 * One thread, one poll loop. Nothing in the loop may block: a sink is written only as far as it takes bytes, and init's
 * messages are read whole or not at all.
 */
#include "capsule-core.h"
#include <grp.h>
#include <poll.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define CONTROL 0

#define END_MS 100
#define MESSAGE_BYTES (1U << 16) /* of a plan that comes without a file */
enum { IN, OUT, ERR };

static struct {
	struct room room;
	struct plan payload;
	struct pump pumps[3];
	int timer;
	int maker;               /* readable when the process that made the control socket is dead; -1 where that cannot be had */
	int notice;              /* readable when the kernel found a group of ours out of memory; -1 for none */
	bool checked;            /* the room's plan passed: its steps may be walked */
	bool has_payload, started, ended;
	bool ending;             /* init is asked, or killed */
	bool cancelled;          /* by the caller, who waits for no reader of the output any more */
	bool last_look;          /* the clock has MORTEM_MS left */
	bool counted;            /* the groups' counters are written down */
	int exit_status;         /* a wait status, once `ended` */
	int lifted;              /* the first guard whose place the host has changed, -1 for none */
	const char *killed;      /* why we ended it; the first reason stays */
	struct link_message failed;
	struct refusal refused;
	enum half refused_half;
	uint64_t setup_ms, clock_ms, drain_ms;
	uint64_t received_ns, cloned_ns, mapped_ns, furnished_ns, ready_ns, started_ns, ended_ns;
	struct attested caller;  /* this process, as the kernel has it */
	uint64_t setup_us[3];    /* processor time of init until the command was there: user's, system's, and before its groups counted it */
} run;

static const struct step no_step = { .index = NO_STEP };

static int set_timer(uint64_t ms)
{
	struct itimerspec when = { .it_value = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 } };

	return timerfd_settime(run.timer, 0, &when, NULL);
}

/* Init may have left with its last words on the way: they are the cause, and our broken pipe only the consequence. */
static int tell_init(const struct link_message *message, const int *fds, unsigned int nfds)
{
	if (send_message(run.room.link, message, sizeof(*message), fds, nfds) == 0 || errno == EPIPE || errno == ECONNRESET)
		return 0;
	return -1;
}

/*
 * End everything inside. Init is asked to kill and reap, since what the kernel clears away behind a dead init is in nobody's
 * accounts; an init that does not manage in END_MS is killed, and a room without a command is killed at once.
 */
static void end_room(bool now)
{
	static const struct link_message end = { .kind = LINK_END };
	bool asked = run.ending;

	run.ending = true;
	if (!now && (asked || (run.started && run.room.link >= 0 && set_timer(END_MS) == 0 && tell_init(&end, NULL, 0) == 0)))
		return;
	/* ESRCH means that it is done; it is our child and not waited for, so that its number serves as well */
	if (run.room.pidfd >= 0 && syscall(SYS_pidfd_send_signal, run.room.pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		(void)kill(run.room.init, SIGKILL);
	kill_groups(&run.room.plan);
}

/* A command that has ended by itself is not killed any more: what happens then is clearing up. */
static void kill_room(const char *why)
{
	if (run.killed == NULL && !run.ended)
		run.killed = why;
	if (strcmp(why, "memory") != 0 && strcmp(why, "cpu") != 0)
		ask_watcher();
	end_room(false);
	end_mortem(strcmp(why, "clock") == 0 || strcmp(why, "cpu") == 0);
}

static void pump_step(struct pump *p)
{
	if (!pump(p) && p->over && !p->truncate)
		kill_room(p == &run.pumps[OUT] ? "stdout" : "stderr");
}

/* ---- the create phase ---- */

/* What the caller's process has and the command must not inherit: it only ever gets less urgent, and predictable. */
static int normalise(void)
{
	const struct sched_param normal = { 0 };
	struct rlimit files;
	static const uint64_t plain[4]; /* the kernel's struct sigaction, all of it 0: SIG_DFL, no flags, empty mask */
	long policy = syscall(SYS_sched_getscheduler, 0) & ~0x40000000L; /* musl's own says ENOSYS; without SCHED_RESET_ON_FORK */
	sigset_t all;

	if (sigfillset(&all) < 0 || sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return -1;
	for (int sig = 1; sig <= 64; sig++) /* by syscall: libc keeps two of them for itself, and would leave them ignored */
		if (sig != SIGKILL && sig != SIGSTOP && syscall(SYS_rt_sigaction, sig, plain, NULL, 8) < 0)
			return -1;
	umask(0);
	/* a low soft limit of the caller's is for its own descriptors; the command gets limits of its own */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -1;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || personality(0) < 0)
		return -1;
	if ((policy == SCHED_FIFO || policy == SCHED_RR) && syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal) < 0)
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
 * The network namespace and that of cgroups are made by init: the first because it can be had in parallel, the second
 * because its root is where its maker stands, and init stands in the cgroup that clone put it in.
 */
#define CLONE_FLAGS (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)

static int proc_write(pid_t pid, const char *name, const char *text)
{
	char path[64] = "/proc/";
	size_t at = append_number(path, strlen(path), sizeof(path), (uint64_t)pid);

	append(path, append(path, at, sizeof(path), "/"), sizeof(path), name);
	return write_file(AT_FDCWD, path, text);
}

/* "INSIDE OUTSIDE 1": one id, never a range. */
static int write_map(pid_t pid, const char *name, const char *inside, const char *outside)
{
	char text[64];
	size_t at = append(text, 0, sizeof(text), inside);

	at = append(text, append(text, at, sizeof(text), " "), sizeof(text), outside);
	append(text, at, sizeof(text), " 1");
	return proc_write(pid, name, text);
}

/* setgroups is denied first: an id map without that would let the sandbox drop groups that deny it something. */
static int write_id_maps(struct room *room, struct step *step)
{
	if (!plan_find(&room->plan, "gid-map", step) || proc_write(room->init, "setgroups", "deny") < 0)
		return -1;
	if (write_map(room->init, "gid_map", step->field[0], step->field[1]) < 0)
		return -1;
	if (!plan_find(&room->plan, "uid-map", step) || write_map(room->init, "uid_map", step->field[0], step->field[1]) < 0)
		return -1;
	if (plan_find(&room->plan, "oom-score-adj", step) && proc_write(room->init, "oom_score_adj", step->field[0]) < 0)
		return -1;
	return 0;
}

static int open_userns(pid_t pid)
{
	char path[64] = "/proc/";
	size_t at = append_number(path, strlen(path), sizeof(path), (uint64_t)pid);

	append(path, at, sizeof(path), "/ns/user");
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Run the steps of one verb here. On failure `step` is the one that failed. */
static int act_all(struct room *room, const char *verb, struct step *step)
{
	struct cursor at = plan_start(&room->plan);

	while (plan_next_of(&at, verb, step))
		if (step->verb->act(room, step) < 0)
			return -1;
	return 0;
}

/* A user namespace in which this user and this group are the sandbox's: made by a child that waits for us to let go of it, or to die. */
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
	if (child > 0 && write_map(child, "uid_map", uid, outside_uid) == 0 && write_map(child, "gid_map", gid, outside_gid) == 0)
		userns = open_userns(child);
	close_cleanup(&pair[1]);
	close_cleanup(&pair[0]);
	if (child > 0)
		(void)waitpid(child, NULL, __WALL); /* it is ours, and has ended with the socket */
	return userns;
}

/*
 * idmap SLOT UID GID: what that user and group own of the source is the sandbox's own. The kernel takes a map in the form
 * of a user namespace that has it; for root's own files that is the room's.
 */
int act_idmap(struct room *room, const struct step *step)
{
	bool roots = strcmp(step->field[1], "0") == 0 && strcmp(step->field[2], "0") == 0;
	struct step uid, gid;
	int userns CLEANUP_CLOSE = -1;

	if (!plan_find(&room->plan, "uid-map", &uid) || !plan_find(&room->plan, "gid-map", &gid))
		return -1;
	userns = roots ? open_userns(room->init) : make_userns(step->field[1], step->field[2], uid.field[1], gid.field[1]);
	return userns < 0 ? -1 : mount_idmap(room->slot[number(step->field[0])], userns);
}

static int make_clone(struct room *room, struct step *step)
{
	bool born = plan_find(&room->plan, "cgroup", step);
	int cgroup CLEANUP_CLOSE = born ? open_group(&room->plan, step) : -1;
	int pair[2];

	if (born && cgroup < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		*step = no_step;
		return -1;
	}
	/* only the kind of step is named here: a refused clone is the host refusing namespaces, not one of the others */
	(void)plan_find(&room->plan, "namespace", step);
	room->init = clone_process(CLONE_FLAGS, &room->pidfd, cgroup);
	/* these can only be the cgroup's: no such thing, not ours, not allowed to hold processes, being removed */
	if (room->init < 0 && cgroup >= 0 && (errno == EBADF || errno == EACCES || errno == EOPNOTSUPP || errno == EBUSY || errno == ENODEV))
		(void)plan_find(&room->plan, "cgroup", step);
	room->link = pair[room->init == 0];
	close_cleanup(&pair[room->init != 0]);
	return room->init < 0 ? -1 : 0;
}

/* Init in its namespaces, and their maps: what the first steps of a room say, which may come ahead of the others. */
static int give_birth(struct room *room, struct step *step)
{
	run.checked = true;
	if (plan_find(&room->plan, "drop-groups", step) && setgroups(0, NULL) < 0)
		return -1;
	if (make_clone(room, step) < 0)
		return -1;
	if (room->init == 0)
		init_main(room);
	run.cloned_ns = now_ns();
	if (write_id_maps(room, step) < 0)
		return -1;
	run.mapped_ns = now_ns();
	*step = no_step;
	return attest_caller(&run.caller); /* now: behind a birth Python still plans */
}

/*
 * The room's half to init, which begins to make what needs no source, and then the sources, opened here for a privileged
 * caller. Init takes the half as it is: the seals that were looked at, and the check, hold for the same file there.
 */
static int furnish(struct room *room, int memfd, struct step *step)
{
	struct link_message message = { .kind = LINK_ROOM, .attested = run.caller };
	int fds[MAX_FDS];

	if (plan_find(&room->plan, "setup-clock", step))
		run.setup_ms = number(step->field[0]);
	if (set_timer(run.setup_ms) < 0)
		return -1;
	if (act_all(room, "guard", step) < 0)
		return -1;
	*step = no_step;
	fds[0] = memfd;
	memcpy(&fds[1], room->plan.fds, sizeof(int) * room->plan.nfds);
	if (tell_init(&message, fds, room->plan.nfds + 1) < 0 || close(memfd) < 0)
		return -1;
	if (act_all(room, "source", step) < 0 || act_all(room, "idmap", step) < 0)
		return -1;
	*step = no_step;
	message.kind = LINK_SOURCES;
	for (unsigned int done = 0, some; done < room->nslots; done += some) {
		some = room->nslots - done < MAX_FDS ? room->nslots - done : MAX_FDS;
		if (tell_init(&message, &room->slot[done], some) < 0)
			return -1;
		for (unsigned int i = 0; i < some; i++)
			close_cleanup(&room->slot[done + i]);
	}
	run.furnished_ns = now_ns();
	return 0;
}

/* ---- messages ---- */

/* The first failure is the cause; what fails while the room is being cleared away is its consequence. */
static void fail(enum half half, const struct step *step)
{
	if (run.failed.kind != 0)
		return;
	run.failed = (struct link_message){ .kind = LINK_FAILED, .a = (int)half, .b = (int)step->index, .c = errno };
	if (run.room.init > 0)
		kill_room("failed");
}

/* Something failed that is no step's, on our side. */
static void fail_at_no_step(void)
{
	fail(run.has_payload ? PAYLOAD : ROOM, &no_step);
}

#define MOST_GIVEN (5 + MAX_DOORS)

/* The pipes and watches of the payload; what init gets of them is in `give`. On failure `step` is the one that failed. */
static int give_payload(const struct plan *plan, int give[static MOST_GIVEN], struct step *step)
{
	struct link_message message = { .kind = LINK_PAYLOAD };
	struct step in;

	start_record(plan);
	start_look(plan);
	if (start_notify(plan, &give[1]) < 0 || start_output(&run.pumps[OUT], plan, "stdout", &give[2]) < 0
	    || start_output(&run.pumps[ERR], plan, "stderr", &give[3]) < 0)
		return -1;
	message.a = plan_find(plan, "stdin", &in);
	if ((message.a && start_input(&run.pumps[IN], plan, &in, &give[4]) < 0) || prepare_watch(plan) < 0
	    || (memory.proc >= 0 && start_watcher() < 0) || (run.ready_ns && set_timer(run.setup_ms) < 0))
		return -1;
	message.b = open_doors(plan, &give[4 + message.a], step);
	if (message.b < 0)
		return -1;
	*step = no_step;
	return tell_init(&message, give, 4U + (unsigned int)message.a + (unsigned int)message.b);
}

/* The payload's half, which was checked. */
static void accept_payload(const struct plan *plan, int give[static MOST_GIVEN])
{
	struct step step;

	run.has_payload = true;
	run.payload = *plan;
	if (plan_find(plan, "memory-notice", &step))
		run.notice = plan->fds[number(step.field[0])];
	if (plan_find(plan, "drain", &step))
		run.drain_ms = number(step.field[0]);
	if (plan_find(plan, "clock", &step))
		run.clock_ms = number(step.field[0]);
	step = no_step;
	if (give_payload(&run.payload, give, &step) < 0)
		fail(PAYLOAD, &step);
}

/* The payload's half of the plan has come: check it, and give init its part. Whatever comes of it, init's part does not stay open here. */
static void take_payload(int *fds, unsigned int nfds)
{
	struct plan plan;
	int give[MOST_GIVEN], error;

	if (run.room.link < 0) { /* the room is gone: it has nobody to give this to */
		close_all(fds, nfds);
		return;
	}
	memset(give, -1, sizeof(give));
	give[0] = nfds > 0 ? fds[0] : -1;
	run.refused_half = PAYLOAD;
	run.refused = (struct refusal){ "descriptors", 0 };
	error = run.has_payload ? EBADMSG : plan_take(&plan, fds, nfds) < 0 ? errno : 0;
	if (error == 0 && plan_check(&plan, PAYLOAD, &run.refused)) {
		accept_payload(&plan, give);
	} else if (error == 0 || error == EBADMSG) {
		kill_room("refused");
	} else {
		run.refused.reason = NULL;
		errno = error;
		fail(PAYLOAD, &no_step);
	}
	close_all(give, MOST_GIVEN);
}

/* The exit status: 0 when no group is left behind. */
static int clear_groups(void)
{
	bool born_in = !run.checked || remove_groups(&run.room.plan);

	return (!run.has_payload || remove_groups(&run.payload)) && born_in ? 0 : 1;
}

/* Nobody is left who could want a report. */
static void abandon(void)
{
	if (run.room.init > 0) {
		end_room(true);
		(void)waitpid(run.room.init, NULL, 0);
	}
	_exit(clear_groups());
}

/* From Python. Anything that is not in the protocol ends the run: a confused caller must not keep a sandbox. */
static void on_control(void)
{
	char text[64] = { 0 };
	int fds[MAX_FDS];
	unsigned int nfds;
	ssize_t got = receive_message(CONTROL, text, sizeof(text) - 1, fds, &nfds);

	if (got > 0 && strcmp(text, "kill") == 0) {
		run.cancelled = true;
		kill_room("caller");
	} else if (got != 0 && run.killed != NULL) { /* it was on its way when the room began to go */
		close_all(fds, nfds);
	} else if (got < 0 && errno != EBADMSG) {
		fail_at_no_step();
	} else if (got > 0 && strcmp(text, "payload") == 0) {
		take_payload(fds, nfds);
	} else if (got > 0 && strncmp(text, "signal ", 7) == 0 && strspn(text + 7, "0123456789") == (size_t)got - 7 && got < 10) {
		struct link_message message = { .kind = LINK_SIGNAL, .a = (int)number(text + 7) };

		if (tell_init(&message, NULL, 0) < 0)
			fail_at_no_step();
	} else {
		abandon(); /* gone, or garbage */
	}
}

static void record_counters(void)
{
	if (run.has_payload && !run.counted)
		record_groups(&run.payload);
	run.counted = true;
}

/* Takes the first two descriptors (procfs, tmpfs) over; the others, if any, are Python's. */
static void on_ready(int *fds, unsigned int nfds)
{
	static const char ready[] = "ready";

	run.ready_ns = now_ns();
	if (nfds < 2 || memory.proc >= 0) {
		kill_room("lost");
		return;
	}
	memory.proc = fds[0];
	memory.tmpfs = fds[1];
	fds[0] = fds[1] = -1;
	if (attest_room(memory.proc) < 0 || start_watcher() < 0 || (!run.has_payload && set_timer(0) < 0))
		fail_at_no_step();
	if (nfds > 2 && send_message(CONTROL, ready, sizeof(ready) - 1, &fds[2], nfds - 2) < 0)
		kill_room("abandoned");
}

/* From init. Whatever is not one whole message of a known kind is a protocol error, and ends the run. */
static void on_link(void)
{
	struct link_message message;
	int fds[MAX_FDS];
	unsigned int nfds;
	ssize_t got = receive_message(run.room.link, &message, sizeof(message), fds, &nfds);

	if (got < 0)
		fail_at_no_step();
	if (got <= 0) { /* init is gone, or is being ended: its pidfd says the rest */
		close_cleanup(&run.room.link);
		run.room.link = -1;
		return;
	}
	if (got != sizeof(message) || run.ended) {
		kill_room("lost");
	} else if (message.kind == LINK_READY) {
		on_ready(fds, nfds);
	} else if (message.kind == LINK_FAILED) {
		run.failed = message;
		kill_room("failed");
	} else if (message.kind == LINK_STARTED) {
		run.started = true;
		run.started_ns = now_ns();
		run.room.landlock_abi = message.a;
		run.setup_us[0] = (uint64_t)message.b;
		run.setup_us[1] = (uint64_t)message.c;
		run.setup_us[2] = (uint64_t)message.d;
		if (set_timer(run.clock_ms > 2 * MORTEM_MS ? run.clock_ms - MORTEM_MS : run.clock_ms) < 0)
			fail_at_no_step();
		sampled->cpu_before_us = group_cpu_us(cpu.group);
		attest_record(&message.attested);
	} else if (message.kind == LINK_EXITED) {
		const char *why = hear_watcher();

		if (why != NULL) /* the watcher has killed it, or would have */
			kill_room(why);
		run.ended = true;
		run.ended_ns = now_ns();
		run.exit_status = message.a;
		if (!run.ending && set_timer(run.drain_ms + 1) < 0)
			end_room(true);
		if (message.b) /* init is the last and leaves: the counters stand, and are read while the kernel clears it away */
			record_counters();
	} else {
		kill_room("lost");
	}
	close_all(fds, nfds);
}

static void last_look(void)
{
	run.last_look = true;
	(void)start_mortem();
	if (set_timer(MORTEM_MS) < 0)
		fail_at_no_step();
}

static void on_timer(void)
{
	uint64_t ticks;

	if (read(run.timer, &ticks, sizeof(ticks)) != sizeof(ticks))
		return; /* set anew between poll and here */
	if (run.ending)
		end_room(true);
	else if (run.ended)
		end_room(false); /* the drain is over: not a reason */
	else if (run.started && run.clock_ms > 2 * MORTEM_MS && !run.last_look)
		last_look();
	else
		kill_room(run.started ? "clock" : "setup-clock");
}

/* The kernel ends one process of a group that is out of memory, and leaves the others half a program: end them all. */
static void on_notice(void)
{
	kill_room("memory");
	run.notice = -1;
}

/* The host has taken away what covered a place. */
static void on_guards(void)
{
	run.lifted = on_guard_events();
	if (run.lifted >= 0)
		kill_room("guard");
}

/* ---- the report ---- */

static char report[4096];
static size_t report_length;

static void line(const char *name, const uint64_t *numbers, unsigned int count)
{
	report_length = append(report, report_length, sizeof(report), name);
	for (unsigned int i = 0; i < count; i++) {
		report_length = append(report, report_length, sizeof(report), " ");
		report_length = append_number(report, report_length, sizeof(report), numbers[i]);
	}
	report_length = append(report, report_length, sizeof(report), "\n");
}

static void word_line(const char *name, const char *word)
{
	report_length = append(report, report_length, sizeof(report), name);
	report_length = append(report, report_length, sizeof(report), " ");
	line(word, NULL, 0);
}

static void report_usage(const struct rusage *u)
{
	const uint64_t usage[] = {
		(uint64_t)u->ru_utime.tv_sec * 1000000 + (uint64_t)u->ru_utime.tv_usec,
		(uint64_t)u->ru_stime.tv_sec * 1000000 + (uint64_t)u->ru_stime.tv_usec,
		(uint64_t)u->ru_maxrss, (uint64_t)u->ru_minflt, (uint64_t)u->ru_majflt,
		(uint64_t)u->ru_inblock, (uint64_t)u->ru_oublock, (uint64_t)u->ru_nvcsw, (uint64_t)u->ru_nivcsw,
	};

	line("usage", usage, 9);
}

static void report_end(void)
{
	static const char *const names[] = { "stdin-error", "stdout-error", "stderr-error" };
	const uint64_t times[] = {
		run.received_ns, run.cloned_ns, run.mapped_ns, run.furnished_ns, run.ready_ns, run.started_ns, run.ended_ns, now_ns(),
	};
	const uint64_t failed[] = { (uint64_t)run.failed.b, (uint64_t)run.failed.c };

	line("times", times, 8);
	if (run.killed != NULL)
		word_line("killed", run.killed);
	if (run.refused.reason != NULL) {
		word_line("refused", run.refused.reason);
		line(run.refused_half == ROOM ? "refused-room" : "refused-payload", &(uint64_t){ run.refused.step }, 1);
	}
	if (run.failed.kind != 0)
		line(run.failed.a == ROOM ? "failed-room" : "failed-payload", failed, 2);
	if (run.started)
		line("started", &(uint64_t){ (uint64_t)run.room.landlock_abi }, 1);
	if (run.ended && WIFEXITED(run.exit_status))
		line("exited", &(uint64_t){ (uint64_t)WEXITSTATUS(run.exit_status) }, 1);
	else if (run.ended)
		line("signalled", &(uint64_t){ (uint64_t)WTERMSIG(run.exit_status) }, 1);
	if (run.lifted >= 0)
		line("lifted", &(uint64_t){ (uint64_t)run.lifted }, 1);
	if (sampled->peak_kib > 0)
		line("memory", &(uint64_t){ sampled->peak_kib }, 1);
	for (int i = OUT; i <= ERR; i++) {
		const uint64_t bytes[] = { run.pumps[i].kept, run.pumps[i].total, run.pumps[i].over };

		line(i == OUT ? "stdout" : "stderr", bytes, 3);
	}
	for (int i = IN; i <= ERR; i++) /* a command that reads no further, or has ended, closes its stdin: no error */
		if (run.pumps[i].error != 0 && (i != IN || run.pumps[i].error != EPIPE))
			line(names[i], &(uint64_t){ (uint64_t)run.pumps[i].error }, 1);
	if (run.started) {
		record_line("setup", run.setup_us, 3, NULL, 0);
		record_room();
		record_cpu();
	}
	record_counters();
	record_refusals();
	record_ends();
	if (record.fd >= 0)
		line("record", (const uint64_t[]){ record.kept, record.lost }, 2);
	line("end", NULL, 0);
	/* a caller that is gone by now has no use for it, and this process ends next */
	(void)send_message(CONTROL, report, report_length, NULL, 0);
	end_mortem(false);
	end_process_reader(0);
	end_watch(END_MS);
	_exit(clear_groups());
}

/* ---- the loop ---- */

static void watch(struct pollfd *p, int fd, short events)
{
	p->fd = fd; /* poll(2) passes over negative descriptors */
	p->events = events;
	p->revents = 0;
}

/* Init is dead and with it every writer: what is left in the pipes is all there will ever be. */
static bool drained(void)
{
	return run.pumps[OUT].from < 0 && run.pumps[ERR].from < 0;
}

/* Everybody is dead, and what is left in a pipe waits for a reader that takes nothing. */
static void drop_stalled_output(void)
{
	for (int i = OUT; i <= ERR; i++) {
		struct pump *p = &run.pumps[i];

		if (p->from < 0 || !p->blocked)
			continue;
		close_cleanup(&p->from);
		close_cleanup(&p->to);
		p->from = p->to = -1;
		if (run.killed == NULL)
			run.killed = "caller";
	}
}

static void reap(void)
{
	struct rusage usage;

	pid_t pid;

	while ((pid = wait4(run.room.init, NULL, 0, &usage)) < 0 && errno == EINTR)
		;
	if (pid != run.room.init)
		memset(&usage, 0, sizeof(usage));
	report_usage(&usage);
	close_cleanup(&run.room.pidfd);
	run.room.pidfd = -1;
	end_watch(0); /* what it has seen stands; whom it still reads is dead */
	if (run.lifted < 0)
		run.lifted = first_lifted(); /* a command that has ended may have seen it, too */
	if (run.lifted >= 0 && run.killed == NULL && !run.ended)
		run.killed = "guard";
	if (run.killed == NULL && !run.ended)
		run.killed = "lost"; /* it ended without a word: the kernel's OOM killer, or an attack on init */
	if (run.killed != NULL && strcmp(run.killed, "abandoned") == 0) {
		_exit(clear_groups());
	}
}

#define EVENTS 14

/* Nothing can be waited for any more: end everything inside, and report what there is. */
static void give_up(void)
{
	if (errno == EINVAL)
		errno = EMFILE; /* poll(2): EVENTS is more descriptors than this process may have */
	fail_at_no_step();
	if (run.room.pidfd >= 0) {
		end_room(true);
		reap();
	}
	report_end();
}

static void wait_for_events(struct pollfd polls[static EVENTS])
{
	int64_t look_ns;

	watch(&polls[0], CONTROL, POLLIN);
	watch(&polls[1], run.room.pidfd, POLLIN);
	watch(&polls[2], run.room.pidfd >= 0 ? run.timer : -1, POLLIN);
	watch(&polls[3], run.room.link, POLLIN);
	for (int i = IN; i <= ERR; i++) {
		const struct pump *p = &run.pumps[i];
		bool to = p->from >= 0 && (p->blocked || p->done < p->have);
		/* output waits for init's word that exec happened, so that nothing is judged of a command that has not started */
		bool early = i != IN && !run.started && run.room.pidfd >= 0;

		watch(&polls[4 + i], early ? -1 : to ? p->to : p->from, to ? POLLOUT : POLLIN);
	}
	watch(&polls[7], run.room.pidfd >= 0 ? memory.wake : -1, POLLIN);
	watch(&polls[8], run.room.pidfd >= 0 ? memory.timer : -1, POLLIN);
	watch(&polls[9], run.room.pidfd >= 0 ? run.notice : -1, POLLIN);
	/* likewise: a call is judged of a command that has started */
	watch(&polls[10], notify.listener < 0 ? notify.socket : run.started || notify.told || run.room.pidfd < 0 ? notify.listener : -1, POLLIN);
	watch(&polls[11], ledger_ends, POLLIN);
	watch(&polls[12], run.maker, POLLIN);
	watch(&polls[13], run.started && run.room.pidfd >= 0 && run.lifted < 0 ? guard_events : -1, POLLIN); /* likewise */
	look_ns = run.room.pidfd >= 0 ? look_again() : -1;
	while (poll(polls, EVENTS, look_ns < 0 ? -1 : (int)(look_ns / 1000000) + 1) < 0)
		if (errno != EINTR)
			give_up();
}

static void supervise(void)
{
	struct pollfd polls[EVENTS];
	const char *why;
	bool watched;

	while (run.room.pidfd >= 0 || !drained()) {
		wait_for_events(polls);
		for (int i = IN; i <= ERR; i++)
			if (polls[4 + i].revents)
				pump_step(&run.pumps[i]);
		if (polls[10].revents && (why = on_notify(polls[10].revents)) != NULL) /* before the link: it was sent before */
			kill_room(why);
		if (polls[11].revents)
			on_ends();
		if (polls[3].revents)
			on_link();
		else if (polls[1].revents) /* only when the link is empty: the last words count */
			reap();
		if (polls[2].revents && run.room.pidfd >= 0) /* not any more, if it was reaped just now */
			on_timer();
		watched = polls[3].revents == 0 && run.room.pidfd >= 0; /* what init said comes first: that the command started, or ended */
		if (polls[7].revents && watched && (why = hear_watcher()) != NULL)
			kill_room(why);
		if (polls[8].revents && (why = check_watcher()) != NULL)
			kill_room(why);
		if (polls[9].revents && watched)
			on_notice();
		if (polls[13].revents && run.room.pidfd >= 0)
			on_guards();
		if (polls[0].revents)
			on_control();
		if (polls[12].revents)
			abandon();
		if (run.ended && drained() && run.room.pidfd >= 0)
			end_room(false);
		if (run.cancelled && run.room.pidfd < 0)
			drop_stalled_output();
	}
	report_end();
}

/* Python may die before it sends a plan, too, and a child of it hold the socket. */
static int wait_for_plan(void)
{
	struct pollfd polls[2];

	watch(&polls[0], CONTROL, POLLIN);
	watch(&polls[1], run.maker, POLLIN);
	while (poll(polls, 2, -1) < 0)
		if (errno != EINTR)
			return -1;
	if (polls[0].revents == 0)
		abandon();
	return 0;
}

/*
 * The next plan from Python, checked; its file, which the caller closes, or -1, which is no refusal if it has no reason: a
 * call failed, and errno says how. `*which` is its kind: a birth is optional, and comes first. Where nothing comes with it,
 * the text may stand behind the word, and is put into a file here.
 */
static int receive_plan(struct plan *plan, enum half *which)
{
	static char text[MESSAGE_BYTES + 1];
	int fds[MAX_FDS];
	unsigned int nfds;
	ssize_t got;
	size_t word;

	run.refused.reason = NULL;
	got = wait_for_plan() < 0 ? -1 : receive_message(CONTROL, text, MESSAGE_BYTES, fds, &nfds);
	if (got == 0 || (got < 0 && errno == EBADMSG))
		abandon();
	if (got < 0)
		return -1;
	text[got] = '\0';
	word = strlen(text) + 1;
	if (nfds == 0 && (size_t)got > word) {
		fds[0] = plan_seal(text + word, (size_t)got - word);
		if (fds[0] < 0)
			return -1;
		nfds = 1;
	}
	run.refused = (struct refusal){ "message", 0 };
	if (strcmp(text, "room") == 0)
		*which = ROOM;
	else if (strcmp(text, "birth") != 0 || *which != BIRTH)
		return -1;
	if (nfds == 0)
		return -1;
	if (plan_take(plan, fds, nfds) < 0) {
		run.refused.reason = errno == EBADMSG ? "seals" : NULL;
		return -1;
	}
	return plan_check(plan, *which, &run.refused) ? fds[0] : -1;
}

/* The room's half, and before it the birth's, if Python sends it ahead: then init is born while Python still plans. */
static void make_room(struct room *room)
{
	static struct plan birth;
	enum half which = BIRTH;
	struct step step = { 0 };
	int memfd = receive_plan(&room->plan, &which);

	run.received_ns = now_ns();
	if (memfd < 0) {
		if (run.refused.reason == NULL)
			fail_at_no_step();
		report_end();
	}
	if (give_birth(room, &step) < 0) {
		fail(ROOM, &step);
		if (room->init <= 0)
			report_end();
		return;
	}
	if (which == BIRTH) {
		close_cleanup(&memfd);
		birth = room->plan;
		which = ROOM;
		memfd = receive_plan(&room->plan, &which);
		if (memfd >= 0 && !plan_continues(&room->plan, &birth)) {
			run.refused = (struct refusal){ "birth", 0 };
			memfd = -1;
		}
		if (memfd < 0) {
			room->plan = birth; /* the one that was checked */
			if (run.refused.reason == NULL)
				fail_at_no_step();
			else
				kill_room("refused");
			return;
		}
		for (unsigned int i = 0; i < birth.nfds; i++)
			close_cleanup(&birth.fds[i]); /* they came again with the room's half */
	}
	if (furnish(room, memfd, &step) < 0)
		fail(ROOM, &step);
}

/* A child that the caller forked may hold the control socket open when the caller is dead: so its process is watched, too. */
static int watch_caller(void)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	if (getsockopt(CONTROL, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -1;
	run.maker = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	return run.maker < 0 && errno == ESRCH ? -1 : 0; /* anything else: it is out of sight, and there is the socket */
}

int launch(void)
{
	struct room *room = &run.room;

	run.lifted = -1;
	room->link = room->pidfd = room->root = room->proc = room->landlock = run.notice = -1;
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
