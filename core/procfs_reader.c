/* SPDX-License-Identifier: MIT
 *
 * Child processes that read procfs for the launcher: reading a file there may wait for the process that it describes.
 */
#include "capsule-core.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define KEEP_POLICY 0x08 /* of sched_setattr(2) */
#define SLICE_NS 100000  /* the shortest that it takes */

/*
 * Get a session of our own, and short time slices in it (from Linux 6.12 on). On a busy host the kernel divides
 * processors among sessions (autogroups, sched(7)), and samples would wait for the other processes of the caller's
 * session. This takes a third of a millisecond, while init builds the room. Where either is denied, samples may come
 * later.
 */
void use_short_time_slices(void)
{
	const struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} slices = {
		.size = sizeof(slices), .flags = KEEP_POLICY, .nice = getpriority(PRIO_PROCESS, 0), .runtime = SLICE_NS
	};

	(void)setsid();
	(void)syscall(SYS_sched_setattr, 0, &slices, 0);
}

/*
 * Start a reader, which dies with its parent, unless the one before is still there. Returns 0 in the child. It has a
 * link to its parent in the place of READER_LINK, after it `kept`, and nothing else: none of the caller's, Python's or
 * the streams.
 */
int start_reader(struct reader *reader, int *const *kept, int nkept)
{
	int pair[2], *fds[MAX_FDS] = { &pair[1] };
	pid_t parent = getpid();

	if (!end_reader(reader, 0) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	reader->pid = clone_process(0, &reader->pidfd, -1);
	reader->link = pair[0];
	if (reader->pid != 0) {
		close_cleanup(&pair[1]);
		return reader->pid < 0 ? -1 : 1;
	}
	for (int i = 0; i < nkept; i++)
		fds[1 + i] = kept[i];
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent
	    || place_descriptors(fds, 1 + nkept, READER_LINK) < 0)
		_exit(1);
	return 0;
}

/* Kill it, and wait for so long: it may be in a part of the kernel that no signal ends. Returns whether it is gone. */
bool end_reader(struct reader *reader, int wait_ms)
{
	struct pollfd dead = { .fd = reader->pidfd, .events = POLLIN };

	if (reader->pid <= 0)
		return true;
	close_cleanup(&reader->link);
	reader->link = -1;
	(void)syscall(SYS_pidfd_send_signal, reader->pidfd, SIGKILL, NULL, 0);
	if (poll(&dead, 1, wait_ms) <= 0)
		return false;
	(void)waitpid(reader->pid, NULL, __WALL);
	close_cleanup(&reader->pidfd);
	*reader = NO_READER;
	return true;
}
