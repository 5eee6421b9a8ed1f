/* SPDX-License-Identifier: MIT
 *
 * The post-mortem: what every thread inside was doing before it was killed. It is read by a child of the launcher.
 */
#include "watcher.h"

#define MAX_THREADS 64
#define MAX_DUMP_BYTES 61440U /* of a pipe's 65536, so that writing to it never waits */

static struct {
	bool wanted;
	struct reader reader;
	int from;
} thread_dump = { .from = -1 };

/* What procfs says of one thread, for Python to read; what may not be read, or is not in this kernel, is empty. */
static void record_thread(int tasks, const char *pid, const char *tid)
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
static unsigned int record_threads(int dir, const char *pid, unsigned int left)
{
	char path[64];
	int tasks CLEANUP_CLOSE = -1;
	struct names tids = { 0 };

	put(&TEXT_IN(path), pid, "/task");
	tasks = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tids.dir = tasks;
	for (; left > 0 && next_pid(&tids) > 0; left--)
		record_thread(tasks, pid, tids.name);
	return left;
}

/*
 * Say what every thread is doing. A process of its own does this, since a file of procfs can wait for the one it tells
 * of
 * (`syscall` waits for an exec under way): the launcher's clock runs on beside it.
 */
static void dump_threads(int out) __attribute__((noreturn));
static void dump_threads(int out)
{
	int dir = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };
	unsigned int left = MAX_THREADS;

	record = (struct record){ out, MAX_DUMP_BYTES, 0, 0 };
	while (left > 0 && next_inside(&pids) > 0)
		left = record_threads(dir, pids.name, left);
	if (left > 0)
		record_line("threads-end", NULL, 0, NULL, 0);
	_exit(0);
}

/* Start the dump, THREAD_DUMP_MS before the kill. If no process can be had for it, there is no post-mortem. */
bool start_thread_dump(void)
{
	int ends[2], *const kept[] = { &ends[1], &memory.proc };

	if (!thread_dump.wanted || memory.proc < 0)
		return false;
	close_cleanup(&thread_dump.from);
	thread_dump.from = -1;
	if (!end_reader(&thread_dump.reader, 0) || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return true;
	if (start_reader(&thread_dump.reader, kept, 2) == 0)
		dump_threads(ends[1]);
	close_cleanup(&ends[1]);
	thread_dump.from = ends[0];
	return true;
}

/* The kill is sent: put into the record what was told until then. Lines come whole, as each is one write to a pipe. */
void end_thread_dump(bool take)
{
	static char told[MAX_DUMP_BYTES];
	ssize_t got = take && thread_dump.from >= 0 ? read(thread_dump.from, told, sizeof(told)) : 0;

	if (got > 0)
		record_lines(told, (size_t)got);
	close_cleanup(&thread_dump.from);
	thread_dump.from = -1;
	(void)end_reader(&thread_dump.reader, 0);
}

void prepare_thread_dump(const struct plan *plan)
{
	struct step step;

	thread_dump.wanted = plan_find(plan, "postmortem", &step);
}
