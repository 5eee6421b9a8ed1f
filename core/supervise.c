/* SPDX-License-Identifier: MIT
 *
 * The launcher's loop: it holds the clock, the output caps and the kill, so that none depends on Python being alive.
 * Nothing in it may block: a sink is written only as far as it takes bytes, and init's messages are read whole or not
 * at all.
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
	CHECK,
	OOM,
	GUARD,
	HELPER,
	PYTHON,
	DEATH,
	ALL
};
static struct pollfd polls[ALL];

/* ---- what is received: each returns NULL, or why the run must end ---- */

/* From now on; the last THREAD_DUMP_MS are for the thread dump. A dump under way was for another end. */
static void start_clock(void)
{
	if (run.is_dumping)
		end_thread_dump(false);
	run.is_dumping = false;
	if (set_timer(run.clock_ms > 2 * THREAD_DUMP_MS ? run.clock_ms - THREAD_DUMP_MS : run.clock_ms) < 0)
		fail_at_no_step();
}

/* Whether a word is NAME and a number of at most so many digits; else the number is 0. */
static bool is_order(const char *word, const char *name, size_t digits, uint64_t *number_of)
{
	size_t length = strlen(name), more;

	*number_of = 0;
	if (strncmp(word, name, length) != 0)
		return false;
	more = strlen(word + length);
	if (more == 0 || more > digits || strspn(word + length, "0123456789") != more)
		return false;
	*number_of = number(word + length);
	return true;
}

/* From Python. Anything that is not in the protocol ends the run: a confused caller must not keep a sandbox. */
static const char *on_control(void)
{
	const char *word;
	int fds[MAX_FDS];
	unsigned int nfds;
	uint64_t n;
	ssize_t got = receive_control(&word, fds, &nfds);

	if (got > 0 && strcmp(word, "kill") == 0) {
		run.cancelled = true;
		return "caller";
	}
	if (got != 0 && run.killed != NULL) { /* it was on its way when the room began to go */
		close_all(fds, nfds);
	} else if (got < 0 && errno != EBADMSG) {
		fail_at_no_step();
	} else if (got > 0 && strcmp(word, "payload") == 0) {
		take_payload(PAYLOAD, fds, nfds);
	} else if (got > 0 && strcmp(word, "confinement") == 0) {
		take_payload(CONFINEMENT, fds, nfds);
	} else if (got > 0 && strcmp(word, "command") == 0) {
		take_command(&run.rest, fds, nfds);
	} else if (got > 0 && is_order(word, "signal ", 2, &n)) {
		struct link_message message = { .kind = LINK_SIGNAL, .signal = { (int)n } };

		if (send_to_init(&message, NULL, 0) < 0)
			fail_at_no_step();
	} else if (got > 0 && strcmp(word, "resize") == 0) {
		resize_terminal();
	} else if (got > 0 && is_order(word, "clock ", 15, &n) && n > 0) {
		run.clock_ms = n;
		if (run.started && !run.ended && !run.ending)
			start_clock();
	} else {
		abandon(); /* gone, or garbage */
	}
	return NULL;
}

/* Takes the first two descriptors (procfs, tmpfs) over; the others, if any, are Python's. */
static const char *on_ready(int *fds, unsigned int nfds)
{
	static const char ready[] = "ready";

	run.ready_ns = now_ns();
	if (nfds < 2 || memory.proc >= 0)
		return "lost";
	memory.proc = fds[0];
	memory.tmpfs = fds[1];
	fds[0] = fds[1] = -1;
	if (attest_room(memory.proc) < 0 || start_watcher() < 0 || (!run.has_payload && set_timer(0) < 0))
		fail_at_no_step();
	return nfds > 2 && send_message(CONTROL, ready, sizeof(ready) - 1, &fds[2], nfds - 2) < 0 ? "abandoned" : NULL;
}

static void on_started(const struct link_message *message)
{
	run.started = true;
	run.started_ns = now_ns();
	run.room.landlock_abi = message->started.landlock_abi;
	run.setup_us[0] = (uint64_t)message->started.user_us;
	run.setup_us[1] = (uint64_t)message->started.system_us;
	run.setup_us[2] = (uint64_t)message->started.before_cgroups_us;
	start_clock();
	sampled->cpu_before_us = cgroup_cpu_us(cpu.group);
	attest_record(&message->attested);
}

/* To Python: the command has ended, and what it left running lives on. Later the report says the same. */
static const char *send_exit(void)
{
	char line[32];
	struct text text = TEXT_IN(line);

	put_exit(&text);
	return send_message(CONTROL, line, text.length, NULL, 0) < 0 ? "abandoned" : NULL;
}

static const char *on_exited(const struct link_message *message)
{
	const char *why = hear_watcher(); /* the watcher has killed it, or would have */
	struct step keep;

	if (why != NULL)
		kill_room(why);
	if (!run.has_exit)
		run.ended_ns = now_ns();
	run.has_exit = true;
	run.exit_status = message->exited.wait_status;
	if (!message->exited.is_last && plan_find(&run.payload, "keep", &keep))
		return send_exit();
	run.ended = true;
	if (!run.ending && set_timer(run.drain_ms + 1) < 0)
		end_room(true);
	if (message->exited.is_last) {
		run.is_empty = true;
		run.usage = message->exited.usage;
	}
	return NULL;
}

/* From init. Whatever is not one whole message of a known kind is a protocol error, and ends the run. */
static const char *on_link(void)
{
	struct link_message message;
	int fds[MAX_FDS];
	unsigned int nfds;
	ssize_t got = receive_message(run.room.link, &message, sizeof(message), fds, &nfds);
	const char *why = NULL;

	if (got < 0)
		fail_at_no_step();
	if (got <= 0) { /* init is gone, or is being ended: its pidfd says the rest */
		close_cleanup(&run.room.link);
		run.room.link = -1;
		return NULL;
	}
	if (got != sizeof(message) || run.ended) {
		why = "lost";
	} else if (message.kind == LINK_READY) {
		run.room.copied = message.ready.is_copied == 1;
		why = on_ready(fds, nfds);
	} else if (message.kind == LINK_FAILED) {
		run.has_failed = true;
		run.failed = message.failed;
		why = "failed";
	} else if (message.kind == LINK_STARTED && run.has_payload) {
		on_started(&message);
		connect_terminal(fds, nfds);
	} else if (message.kind == LINK_EXITED) {
		why = on_exited(&message);
	} else {
		why = "lost";
	}
	close_all(fds, nfds);
	return why;
}

/*
 * A run that timed out may have waited for a network that it does not have: connections without a route, and datagrams
 * to a name server that is not there, are counted in its network namespace. Reading the counters waits for nobody.
 */
static void record_network(void)
{
	char text[3072];

	if (read_proc(memory.proc, PID_OF_INIT, "/net/snmp", text, sizeof(text)) >= 0)
		record_line("net-counters", NULL, 0, &(struct bytes){ text, strlen(text) }, 1);
}

/*
 * One timer, and what it means by the state of the run: building the room (set-up), the command (the clock), the last
 * THREAD_DUMP_MS of it (is_dumping), the drain after it (ended), and the time for an init that was asked to end
 * (ending).
 */
static const char *on_timer(void)
{
	uint64_t ticks;

	if (read(run.timer, &ticks, sizeof(ticks)) != sizeof(ticks))
		return NULL; /* set anew between poll and here */
	if (run.may_stick)
		report_end();
	if (run.ending || run.ended) {
		end_room(run.ending); /* that the drain is over is not a reason */
		return NULL;
	}
	if (!run.started)
		return "setup-clock";
	if (run.clock_ms <= 2 * THREAD_DUMP_MS || run.is_dumping) {
		record_network();
		return "clock";
	}
	run.is_dumping = true;
	start_thread_dump();
	if (set_timer(THREAD_DUMP_MS) < 0)
		fail_at_no_step();
	return NULL;
}

static const char *on_seccomp(void)
{
	return on_notify(polls[SECCOMP].revents);
}

/* The kernel kills one process of a cgroup that is out of memory, and leaves half a program: kill the others. */
static const char *on_notice(void)
{
	run.notice = -1;
	return "memory";
}

/* The host has taken away what covered a place. */
static const char *on_guards(void)
{
	run.lifted = on_guard_events();
	return run.lifted >= 0 ? "guard" : NULL;
}

static const char *on_python_death(void)
{
	abandon();
	return NULL;
}

/* Init is dead and with it every writer: what is left in the pipes is all there will ever be. */
static bool drained(void)
{
	return run.pumps[OUT].from < 0 && run.pumps[ERR].from < 0;
}

/* Every process is dead, and what is left in a pipe waits for a reader that takes nothing. */
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

/* ---- the loop ---- */

static const struct {
	const int *fd;
	const char *(*on_event)(void);
	bool needs_init; /* not once init was reaped, which may be in this round */
	bool after_link; /* not if init has sent something: that the command has started or ended is judged first */
} sources[ALL] = {
	[SECCOMP] = { &notify.listener, on_seccomp, false, false }, /* before the link: it was sent before */
	[EXITS] = { &exec_ends, on_exits, false, false },
	[LINK] = { &run.room.link, on_link, false, false },
	[INIT] = { &run.room.pidfd, reap, false, true }, /* only when the link is empty: the last words count */
	[TIMER] = { &run.timer, on_timer, true, false },
	[WATCHER] = { &memory.link, hear_watcher, true, true },
	[CHECK] = { &memory.timer, check_watcher, true, true },
	[OOM] = { &run.notice, on_notice, true, true },
	[GUARD] = { &guard_events, on_guards, true, false },
	[HELPER] = { &overlay_helper.link, on_overlay_helper, true, true },
	[PYTHON] = { &(const int){ CONTROL }, on_control, false, false },
	[DEATH] = { &run.maker, on_python_death, false, false }, /* what it sent is of no use any more */
};

void set_poll(struct pollfd *p, int fd, short events)
{
	*p = (struct pollfd){ fd, events, 0 }; /* poll(2) passes over negative descriptors */
}

/* Nothing can be waited for any more: end everything inside, and report what there is. */
static void give_up(void)
{
	if (errno == EINVAL)
		errno = EMFILE; /* poll(2): these are more descriptors than this process may have */
	fail_at_no_step();
	if (run.room.pidfd >= 0) {
		end_room(true);
		(void)reap();
	}
	report_end();
}

static void wait_for_events(void)
{
	bool has_init = run.room.pidfd >= 0;
	int64_t sample_ns;

	for (int i = IN; i <= ERR; i++) {
		const struct pump *p = &run.pumps[i];
		bool to = p->from >= 0 && (p->blocked || p->done < p->have);
		/* output waits for init to say that exec happened, so that no cap is judged before that */
		bool early = i != IN && !run.started && has_init;

		set_poll(&polls[i], early ? -1 : to ? p->to : p->from, to ? POLLOUT : POLLIN);
	}
	for (int i = SECCOMP; i < ALL; i++)
		set_poll(&polls[i], sources[i].needs_init && !has_init ? -1 : *sources[i].fd, POLLIN);
	if (notify.listener < 0)
		polls[SECCOMP].fd = notify.socket;
	else if (!run.started && has_init
	    && !notify.records_exec) /* as output; but exec itself is asked about if it is recorded */
		polls[SECCOMP].fd = -1;
	if (!run.started || run.lifted >= 0)
		polls[GUARD].fd = -1;
	sample_ns = has_init ? sample_followed() : -1;
	while (poll(polls, ALL, sample_ns < 0 ? -1 : (int)(sample_ns / 1000000) + 1) < 0)
		if (errno != EINTR)
			give_up();
}

static const char *handle(enum source source)
{
	struct pump *p;

	if (source > STDERR)
		return sources[source].on_event();
	p = &run.pumps[source];
	if (pump(p) || !p->over || p->truncate)
		return NULL;
	return source == STDOUT ? "stdout" : "stderr";
}

void supervise(void)
{
	while (run.room.pidfd >= 0 || !drained()) {
		wait_for_events();
		for (enum source i = 0; i < ALL; i++) {
			const char *why = NULL;

			if (polls[i].revents && (run.room.pidfd >= 0 || !sources[i].needs_init)
			    && !(sources[i].after_link && polls[LINK].revents))
				why = handle(i);
			if (why != NULL)
				kill_room(why);
		}
		if (run.is_empty && drained() && run.room.pidfd >= 0)
			report_before_init_is_gone();
		if (run.ended && drained() && run.room.pidfd >= 0)
			end_room(false);
		if (run.cancelled && run.room.pidfd < 0)
			drop_stalled_output();
	}
	report_end();
}
