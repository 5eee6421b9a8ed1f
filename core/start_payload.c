/* SPDX-License-Identifier: MIT
 *
 * Init starts the one payload, waits until it is confined and its command is executed, and keeps the account of what it
 * and all that it reaped have used.
 */
#include "init.h"
#include <sys/time.h>

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

struct starting starting = { -1, -1, 0 };

/*
 * The status pipe is close-on-exec: end-of-file means that exec happened, or that the payload was killed, which is
 * reported next.
 */
void finish_start(struct room *room)
{
	struct link_message message = { .kind = LINK_STARTED };
	struct payload_word word = { 0 };
	ssize_t got = read(starting.status, &word, sizeof(word));

	if (got == sizeof(word))
		errno = word.error;
	if (got != 0)
		leave(room, PAYLOAD, got == sizeof(word) ? (unsigned int)word.step : NO_STEP);
	close_cleanup(&starting.status);
	starting.status = -1;
	message.started.landlock_abi = room->landlock_abi;
	message.started.user_us = spent_us(false);
	message.started.system_us = spent_us(true);
	message.started.before_cgroups_us = starting.before_cgroups_us;
	message.attested = room->attested;
	if (send_message(room->link, &message, sizeof(message), &starting.master, starting.master >= 0) < 0)
		_exit(1); /* as send_to_launcher() */
	close_cleanup(&starting.master);
	starting.master = -1;
}

/*
 * Fork the payload into a user namespace of its own and wait until it is confined, and unless its command comes later
 * until it runs, or reports why it does not. Returns its pid.
 */
pid_t start_payload(struct room *room, const struct link_message *asked, const int *fds, unsigned int nfds)
{
	bool input = asked->payload.has_stdin == 1, waits = asked->payload.waits == 1;
	struct plan plan = { 0 };
	struct rejection why;
	struct step step = { 0 };
	int stdio[3] = { input ? fds[4] : -1, fds[2], fds[3] };
	int status[2];
	struct payload_word word = { 0 };
	pid_t pid;
	ssize_t got;

	plan.nfds = MAX_FDS; /* the launcher checked the numbers against what came with the plan */
	if (plan_map(fds[0], &plan) < 0 || !plan_check(&plan, waits ? CONFINEMENT : PAYLOAD, &why)
	    || pipe2(status, O_CLOEXEC) < 0)
		leave(room, PAYLOAD, NO_STEP);
	room->keeps = plan_find(&plan, "keep", &step);
	(void)find_cgroup_to_enter(&plan, &step);
	if (enter_cgroups(fds + 4 + input, nfds - 4 - input) < 0 || attest_cgroups(room, &plan) < 0)
		leave(room, PAYLOAD, step.index);
	starting.before_cgroups_us = nfds > 4U + input ? spent_us(false) + spent_us(true) : 0;
	starting.master = make_terminal(room, &plan, asked, stdio);
	(void)plan_find(&plan, "id", &step);
	/* the cgroup namespace's root is where its maker stands: here, inside the groups */
	pid = clone_process(CLONE_NEWUSER | CLONE_NEWCGROUP, NULL, -1);
	if (pid == 0)
		payload_main(room, &plan, stdio, status[1], fds[1], waits);
	if (pid < 0)
		leave(room, PAYLOAD, step.index);
	close_cleanup(&status[1]);
	close_all(fds, nfds);
	got = read(status[0], &word, sizeof(word));
	if (got != sizeof(word) || word.has_failed) {
		errno = got == sizeof(word) ? word.error : got == 0 ? EPROTO : errno; /* 0: gone without a word */
		leave(room, PAYLOAD, got == sizeof(word) ? (unsigned int)word.step : NO_STEP);
	}
	room->landlock_abi = word.landlock_abi;
	room->attested = word.attested;
	starting.status = status[0];
	if (!waits)
		finish_start(room);
	return pid;
}

/* What wait4(2) will say of this process: its own use, and that of all that it has reaped. */
struct rusage usage_of_all(void)
{
	struct rusage all = { 0 }, own = { 0 };

	(void)getrusage(RUSAGE_CHILDREN, &all); /* as in spent_us(): neither can fail */
	(void)getrusage(RUSAGE_SELF, &own);
	timeradd(&all.ru_utime, &own.ru_utime, &all.ru_utime);
	timeradd(&all.ru_stime, &own.ru_stime, &all.ru_stime);
	all.ru_maxrss = own.ru_maxrss > all.ru_maxrss ? own.ru_maxrss : all.ru_maxrss;
	all.ru_minflt += own.ru_minflt;
	all.ru_majflt += own.ru_majflt;
	all.ru_inblock += own.ru_inblock;
	all.ru_oublock += own.ru_oublock;
	all.ru_nvcsw += own.ru_nvcsw;
	all.ru_nivcsw += own.ru_nivcsw;
	return all;
}
