/* SPDX-License-Identifier: MIT
 *
 * The launcher's loop: it holds the clock, the output caps and the kill, so that none of them depends on Python being
 * alive.
 *
 * Nothing in the loop may block: a sink is written only as far as it takes bytes, and init's messages are read whole or
 * not at all.
 */
#include "launcher.h"
#include <sys/wait.h>

/* What is waited for, in the order in which it is handled; the table below says why in this one. */
enum source {
	STDIN,
	STDOUT,
	STDERR,
	SECCOMP,
	EXITS,
	LINK,
	INIT,
	TIMER,
	WATCHER,
	WATCHER_CHECK,
	OOM,
	GUARDS,
	PYTHON,
	PYTHON_DEATH,
	SOURCES
};
static struct pollfd polls[SOURCES];

static void pump_step(struct pump *p)
{
	if (!pump(p) && p->over && !p->truncate)
		kill_room(p == &run.pumps[OUT] ? "stdout" : "stderr");
}

static void on_stdin(void)
{
	pump_step(&run.pumps[IN]);
}

static void on_stdout(void)
{
	pump_step(&run.pumps[OUT]);
}

static void on_stderr(void)
{
	pump_step(&run.pumps[ERR]);
}

/* ---- what is heard ---- */

static void kill_if(const char *why)
{
	if (why != NULL)
		kill_room(why);
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
	} else if (got > 0 && strncmp(text, "signal ", 7) == 0 && strspn(text + 7, "0123456789") == (size_t)got - 7
	    && got < 10) {
		struct link_message message = { .kind = LINK_SIGNAL, .signal = { (int)number(text + 7) } };

		if (send_to_init(&message, NULL, 0) < 0)
			fail_at_no_step();
	} else {
		abandon(); /* gone, or garbage */
	}
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
		run.has_failed = true;
		run.failed = message.failed;
		kill_room("failed");
	} else if (message.kind == LINK_STARTED) {
		run.started = true;
		run.started_ns = now_ns();
		run.room.landlock_abi = message.started.landlock_abi;
		run.setup_us[0] = (uint64_t)message.started.user_us;
		run.setup_us[1] = (uint64_t)message.started.system_us;
		run.setup_us[2] = (uint64_t)message.started.before_cgroups_us;
		if (set_timer(run.clock_ms > 2 * THREAD_DUMP_MS ? run.clock_ms - THREAD_DUMP_MS : run.clock_ms) < 0)
			fail_at_no_step();
		sampled->cpu_before_us = cgroup_cpu_us(cpu.group);
		attest_record(&message.attested);
	} else if (message.kind == LINK_EXITED) {
		kill_if(hear_watcher()); /* the watcher has killed it, or would have */
		run.ended = true;
		run.ended_ns = now_ns();
		run.exit_status = message.exited.wait_status;
		if (!run.ending && set_timer(run.drain_ms + 1) < 0)
			end_room(true);
		/* init is the last and leaves: the counters stand, and are read while the kernel clears it away */
		if (message.exited.is_last)
			record_counters();
	} else {
		kill_room("lost");
	}
	close_all(fds, nfds);
}

/*
 * A run that timed out may have waited for a network that it does not have: connections without a route, and datagrams
 * to a name server that is not there, are counted in its network namespace. Reading the counters waits for nobody.
 */
static void record_network(void)
{
	char text[3072];

	if (read_proc(memory.proc, "1", "/net/snmp", text, sizeof(text)) == 0)
		record_line("net-counters", NULL, 0, &(struct bytes){ text, strlen(text) }, 1);
}

static void start_last_dump(void)
{
	run.is_dumping = true;
	(void)start_thread_dump();
	if (set_timer(THREAD_DUMP_MS) < 0)
		fail_at_no_step();
}

/*
 * One timer, and what it means by the state of the run: building the room (set-up), the command (the clock), the last
 * THREAD_DUMP_MS of it (is_dumping), the drain after it (ended), and the patience with an init that was asked to end
 * (ending).
 */
static void on_timer(void)
{
	uint64_t ticks;

	if (read(run.timer, &ticks, sizeof(ticks)) != sizeof(ticks))
		return; /* set anew between poll and here */
	if (run.ending)
		end_room(true);
	else if (run.ended)
		end_room(false); /* the drain is over: not a reason */
	else if (run.started && run.clock_ms > 2 * THREAD_DUMP_MS && !run.is_dumping)
		start_last_dump();
	else if (run.started) {
		record_network();
		kill_room("clock");
	} else {
		kill_room("setup-clock");
	}
}

static void on_seccomp(void)
{
	kill_if(on_notify(polls[SECCOMP].revents));
}

static void on_watcher(void)
{
	kill_if(hear_watcher());
}

static void on_watcher_check(void)
{
	kill_if(check_watcher());
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

/* ---- the loop ---- */

void set_poll(struct pollfd *p, int fd, short events)
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
		_exit(remove_all_cgroups());
	}
}

/* Nothing can be waited for any more: end everything inside, and report what there is. */
static void give_up(void)
{
	if (errno == EINVAL)
		errno = EMFILE; /* poll(2): these are more descriptors than this process may have */
	fail_at_no_step();
	if (run.room.pidfd >= 0) {
		end_room(true);
		reap();
	}
	report_end();
}

static void wait_for_events(void)
{
	bool has_init = run.room.pidfd >= 0;
	int64_t look_ns;

	for (int i = IN; i <= ERR; i++) {
		const struct pump *p = &run.pumps[i];
		bool to = p->from >= 0 && (p->blocked || p->done < p->have);
		/* output waits for init to say that exec happened, so that no cap is judged before that */
		bool early = i != IN && !run.started && has_init;

		set_poll(&polls[STDIN + i], early ? -1 : to ? p->to : p->from, to ? POLLOUT : POLLIN);
	}
	/* for the same reason; but while a new program is recorded, each exec is asked about, the command's too */
	set_poll(&polls[SECCOMP],
	    notify.listener < 0                         ? notify.socket :
		run.started || notify.told || !has_init ? notify.listener :
							  -1,
	    POLLIN);
	set_poll(&polls[EXITS], exec_ends, POLLIN);
	set_poll(&polls[LINK], run.room.link, POLLIN);
	set_poll(&polls[INIT], run.room.pidfd, POLLIN);
	set_poll(&polls[TIMER], has_init ? run.timer : -1, POLLIN);
	set_poll(&polls[WATCHER], has_init ? memory.wake : -1, POLLIN);
	set_poll(&polls[WATCHER_CHECK], has_init ? memory.timer : -1, POLLIN);
	set_poll(&polls[OOM], has_init ? run.notice : -1, POLLIN);
	set_poll(&polls[GUARDS], run.started && has_init && run.lifted < 0 ? guard_events : -1, POLLIN);
	set_poll(&polls[PYTHON], CONTROL, POLLIN);
	set_poll(&polls[PYTHON_DEATH], run.maker, POLLIN);
	look_ns = has_init ? sample_followed() : -1;
	while (poll(polls, SOURCES, look_ns < 0 ? -1 : (int)(look_ns / 1000000) + 1) < 0)
		if (errno != EINTR)
			give_up();
}

static const struct {
	void (*on_event)(void);
	bool needs_init; /* not after init was reaped, which may be in this round */
	/* not in a round in which init has sent something: that it started or ended the command is judged first */
	bool after_link;
} sources[SOURCES] = {
	[STDIN] = { on_stdin, false, false },
	[STDOUT] = { on_stdout, false, false },
	[STDERR] = { on_stderr, false, false },
	[SECCOMP] = { on_seccomp, false, false }, /* before the link: it was sent before */
	[EXITS] = { on_exits, false, false },
	[LINK] = { on_link, false, false },
	[INIT] = { reap, false, true }, /* only when the link is empty: the last words count */
	[TIMER] = { on_timer, true, false },
	[WATCHER] = { on_watcher, true, true },
	[WATCHER_CHECK] = { on_watcher_check, true, true },
	[OOM] = { on_notice, true, true },
	[GUARDS] = { on_guards, true, false },
	[PYTHON] = { on_control, false, false },
	[PYTHON_DEATH] = { abandon, false, false }, /* what it sent before it died is of no use to anybody */
};

void supervise(void)
{
	while (run.room.pidfd >= 0 || !drained()) {
		wait_for_events();
		for (int i = 0; i < SOURCES; i++)
			if (polls[i].revents && (run.room.pidfd >= 0 || !sources[i].needs_init)
			    && !(sources[i].after_link && polls[LINK].revents))
				sources[i].on_event();
		if (run.ended && drained() && run.room.pidfd >= 0)
			end_room(false);
		if (run.cancelled && run.room.pidfd < 0)
			drop_stalled_output();
	}
	report_end();
}
