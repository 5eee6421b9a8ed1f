/* SPDX-License-Identifier: MIT
 *
 * Children of the launcher's that read procfs, since whoever does may wait for the process that a file tells of
 * (watcher.c).
 */
#include "capsule-core.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define KEEP_POLICY 0x08 /* of sched_setattr(2) */
#define SLICE_NS 100000  /* the shortest that it takes */

/*
 * A session of our own, and short turns in it (from Linux 6.12 on): where processors are short, the kernel shares them
 * out among sessions (autogroups, sched(7)), and a sample would wait for all that the caller's session does besides. It
 * takes a third of a millisecond, while init builds the room. Where either is refused, samples come later and no other.
 */
void use_short_time_slices(void)
{
	const struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} turns = {
		.size = sizeof(turns), .flags = KEEP_POLICY, .nice = getpriority(PRIO_PROCESS, 0), .runtime = SLICE_NS
	};

	(void)setsid();
	(void)syscall(SYS_sched_setattr, 0, &turns, 0);
}

/*
 * Start a process that reads procfs, and dies with its parent: 0 in the child, which has the descriptors that it is
 * given, moved to 0, 1 and so on, and no other; none of the caller's, of Python's or of the room's streams is kept open
 * by it.
 */
int start_reader(struct reader *reader, int *const *kept, int nkept)
{
	pid_t parent = getpid();

	reader->pid = clone_process(0, &reader->pidfd, -1);
	if (reader->pid != 0)
		return reader->pid < 0 ? -1 : 1;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	for (int i = 0; i < nkept; i++) /* first out of the way of each other */
		if (*kept[i] >= 0 && (*kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, nkept)) < 0)
			_exit(1);
	for (int i = 0; i < nkept; i++)
		if (*kept[i] >= 0 && (*kept[i] = dup3(*kept[i], i, O_CLOEXEC)) < 0)
			_exit(1);
	if (close_from((unsigned int)nkept) < 0)
		_exit(1);
	return 0;
}

/* End it, and wait for so long: it may be in the middle of a walk that no signal ends. Whether it is gone. */
bool end_reader(struct reader *reader, int wait_ms)
{
	struct pollfd dead = { .fd = reader->pidfd, .events = POLLIN };

	if (reader->pid <= 0)
		return true;
	(void)syscall(SYS_pidfd_send_signal, reader->pidfd, SIGKILL, NULL, 0);
	if (poll(&dead, 1, wait_ms) <= 0)
		return false;
	(void)waitpid(reader->pid, NULL, __WALL);
	close_cleanup(&reader->pidfd);
	*reader = (struct reader){ 0, -1 };
	return true;
}
