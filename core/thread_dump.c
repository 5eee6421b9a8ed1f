/* SPDX-License-Identifier: MIT
 *
 * The post-mortem: what every thread inside was doing before it was killed. It is read by a child of the launcher.
 */
#include "watcher.h"

#define MORTEM_THREADS 64
#define MORTEM_BYTES 61440U /* of a pipe's 65536, so that writing to it never waits */

static struct {
	bool wanted;
	struct reader reader;
	int from;
} mortem = { .from = -1 };

/* What procfs says of one thread, for Python to read; what may not be read, or is not in this kernel, is empty. */
static void tell_thread(int tasks, const char *pid, const char *tid)
{
	static const char *const files[] = { "/stat", "/syscall", "/wchan" };
	char told[3][512];
	struct bytes texts[3];

	for (int i = 0; i < 3; i++) {
		(void)read_proc(tasks, tid, files[i], told[i], sizeof(told[i]));
		texts[i] = (struct bytes){ told[i], strlen(told[i]) };
	}
	if (texts[0].length > 0) /* else it has just ended */
		record_line("thread", (const uint64_t[]){ number(pid), number(tid) }, 2, texts, 3);
}

/* The threads of one process, as long as there are `left`; what is left then. */
static unsigned int tell_process(int dir, const char *pid, unsigned int left)
{
	char path[64];
	int tasks CLEANUP_CLOSE = -1;
	struct names tids = { 0 };

	put(&TEXT_IN(path), pid, "/task");
	tasks = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tids.dir = tasks;
	for (; left > 0 && next_pid(&tids) > 0; left--)
		tell_thread(tasks, pid, tids.name);
	return left;
}

/*
 * Say what every thread is doing. A process of its own does this, since a file of procfs can wait for the one it tells of
 * (`syscall` waits for an exec under way): the launcher's clock runs on beside it.
 */
static void look_around(int out) __attribute__((noreturn));
static void look_around(int out)
{
	int dir = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };
	unsigned int left = MORTEM_THREADS;

	record = (struct record){ out, MORTEM_BYTES, 0, 0 };
	while (left > 0 && next_inside(&pids) > 0)
		left = tell_process(dir, pids.name, left);
	if (left > 0)
		record_line("threads-told", NULL, 0, NULL, 0);
	_exit(0);
}

/* Start to look around, MORTEM_MS before the kill. Without a process to do it the kill comes without a post-mortem. */
bool start_mortem(void)
{
	int ends[2], *const kept[] = { &ends[1], &memory.proc };

	if (!mortem.wanted || memory.proc < 0)
		return false;
	close_cleanup(&mortem.from);
	mortem.from = -1;
	if (!end_reader(&mortem.reader, 0) || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return true;
	if (start_reader(&mortem.reader, kept, 2) == 0)
		look_around(ends[1]);
	close_cleanup(&ends[1]);
	mortem.from = ends[0];
	return true;
}

/* The kill is sent: put into the record what was told until then. Lines come whole, as each is one write to a pipe. */
void end_mortem(bool take)
{
	static char told[MORTEM_BYTES];
	ssize_t got = take && mortem.from >= 0 ? read(mortem.from, told, sizeof(told)) : 0;

	if (got > 0)
		record_lines(told, (size_t)got);
	close_cleanup(&mortem.from);
	mortem.from = -1;
	(void)end_reader(&mortem.reader, 0);
}

void start_look(const struct plan *plan)
{
	struct step step;

	mortem.wanted = plan_find(plan, "postmortem", &step);
}
