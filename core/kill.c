/* SPDX-License-Identifier: MIT
 *
 * How a run is ended: why, by asking init and then killing it, and what remains to be removed; also for a caller that
 * has gone.
 */
#include "launcher.h"
#include <sys/timerfd.h>
#include <sys/wait.h>

int set_timer(uint64_t ms)
{
	struct itimerspec when = { .it_value = {
				       .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 } };

	return timerfd_settime(run.timer, 0, &when, NULL);
}

/* Init may have left with its last words on the way: they are the cause, and our broken pipe only the consequence. */
int send_to_init(const struct link_message *message, const int *fds, unsigned int nfds)
{
	if (send_message(run.room.link, message, sizeof(*message), fds, nfds) == 0 || errno == EPIPE
	    || errno == ECONNRESET)
		return 0;
	return -1;
}

/*
 * End everything inside. Init is asked to kill and reap, since what the kernel ends after a dead init is in
 * nobody's accounts; an init that does not manage in END_MS is killed, and a room without a command is killed at once.
 */
void end_room(bool now)
{
	static const struct link_message end = { .kind = LINK_END };
	bool asked = run.ending;
	struct step step;

	run.ending = true;
	if (!now
	    && (asked
		|| (run.started && run.room.link >= 0 && set_timer(END_MS) == 0 && send_to_init(&end, NULL, 0) == 0)))
		return;
	/* ESRCH means that it is done; it is our child and not waited for, so that its number serves as well */
	if (run.room.pidfd >= 0 && syscall(SYS_pidfd_send_signal, run.room.pidfd, SIGKILL, NULL, 0) < 0
	    && errno != ESRCH)
		(void)kill(run.room.init, SIGKILL);
	kill_cgroups(&run.room.plan);
	/*
	 * The kernel lets init end when all in its pid namespace are reaped, also inits that joined. If the launcher of
	 * one is dead, that is left to the process 1 of the host, and not each container has one that does it.
	 */
	run.may_stick = plan_find(&run.room.plan, "share", &step) && set_timer(STUCK_MS) == 0;
}

/* A command that has ended by itself is not killed any more: what happens then is clearing up. */
void kill_room(const char *why)
{
	if (run.killed == NULL && !run.ended)
		run.killed = why;
	if (strcmp(why, "memory") != 0 && strcmp(why, "cpu") != 0)
		ask_watcher();
	end_room(false);
	end_thread_dump(strcmp(why, "clock") == 0 || strcmp(why, "cpu") == 0);
}

/* The first failure is the cause; what fails while the room is being cleared away is its consequence. */
void fail(enum half half, const struct step *step)
{
	if (run.has_failed)
		return;
	run.has_failed = true;
	run.failed = (struct failure){ (int)half, (int)step->index, errno };
	if (run.room.init > 0)
		kill_room("failed");
}

/* Something failed that is no step's, on our side. */
void fail_at_no_step(void)
{
	fail(run.has_payload ? PAYLOAD : ROOM, &no_step);
}

/* The exit status: 0 if no cgroup is left. */
int remove_all_cgroups(void)
{
	bool removed = !run.checked || remove_cgroups(&run.room.plan);

	return (!run.is_confined || remove_cgroups(&run.payload)) && removed ? 0 : 1;
}

/* Nobody is left who could want a report. */
void abandon(void)
{
	struct pollfd dead = { .fd = run.room.pidfd, .events = POLLIN };

	restore_terminal();
	if (run.room.init > 0) {
		end_room(true);
		if (dead.fd >= 0 && poll(&dead, 1, run.may_stick ? STUCK_MS : -1) > 0) /* else it was reaped before */
			(void)waitpid(run.room.init, NULL, 0);
	}
	_exit(remove_all_cgroups());
}

static void wait_for_init(struct rusage *usage)
{
	while (wait4(run.room.init, NULL, 0, usage) < 0 && errno == EINTR)
		;
}

/* No process of the payload is left. */
static void on_empty(const struct rusage *usage)
{
	report_usage(usage);
	(void)end_reader(&overlay_helper, END_MS); /* before Python reads the layer */
	end_watch(0); /* what it has seen stands; the processes that it still reads are dead */
	if (run.lifted < 0)
		run.lifted = first_lifted(); /* a command that has ended may have seen it, too */
}

const char *reap(void)
{
	struct rusage usage = { 0 };

	wait_for_init(&usage);
	close_cleanup(&run.room.pidfd);
	run.room.pidfd = -1;
	on_empty(&usage);
	if (run.killed == NULL && !run.ended) /* lost: the kernel's OOM killer, or an attack on init */
		run.killed = run.lifted >= 0 ? "guard" : "lost";
	if (run.killed != NULL && strcmp(run.killed, "abandoned") == 0)
		_exit(remove_all_cgroups());
	return NULL;
}

/*
 * Everything has ended but init, which is about to: to take a room away, the kernel waits several times until each
 * processor has passed a quiet moment. The report does not; this process does.
 */
void report_before_init_is_gone(void)
{
	on_empty(&run.usage);
	send_report();
	wait_for_init(NULL);
	end_launcher();
}
