/* SPDX-License-Identifier: MIT
 *
 * The post-mortem: what every thread inside was doing before it was killed. A reader process collects it, since a file
 * of procfs can wait for the thread that it describes (`syscall` waits for an exec under way).
 */
#include "watcher.h"
#include <sys/socket.h>

#define MAX_THREADS 64
#define MAX_DUMP_BYTES                                                                                                 \
	61440U /* with what the kernel adds for each line the link takes this, so that writing never waits */

static struct reader reader = NO_READER;
static bool is_wanted;

/* What procfs says of one thread, for Python to read; what may not be read, or is not in this kernel, is empty. */
static void record_thread(int tasks, const char *pid, const char *tid)
{
	static const char *const files[] = { "/stat", "/syscall", "/wchan" };
	char content[3][512];
	struct bytes texts[3];

	for (int i = 0; i < 3; i++) {
		(void)read_proc(tasks, tid, files[i], content[i], sizeof(content[i]));
		texts[i] = (struct bytes){ content[i], strlen(content[i]) };
	}
	if (texts[0].length > 0) /* else it has just ended */
		record_texts("thread", texts, 3, number(pid), number(tid));
}

/* The first MAX_THREADS threads, and a last line if there are no more. */
static void dump_threads(void) __attribute__((noreturn));
static void dump_threads(void)
{
	int dir = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };
	unsigned int left = MAX_THREADS;

	record = (struct record){ READER_LINK, MAX_DUMP_BYTES, 0, 0 };
	while (left > 0 && next_pid(&pids, PID_OF_INIT) > 0) {
		char path[64];
		int tasks CLEANUP_CLOSE = -1;
		struct names tids = { 0 };

		put(&TEXT_IN(path), pids.name, "/task");
		tids.dir = tasks = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		for (; left > 0 && next_pid(&tids, "") > 0; left--)
			record_thread(tasks, pids.name, tids.name);
	}
	if (left > 0)
		record_line("threads-end", NULL, 0, NULL, 0);
	_exit(0);
}

/* Start the dump, THREAD_DUMP_MS before the kill. If there is no process for it, there is no post-mortem. */
void start_thread_dump(void)
{
	int *const kept[] = { &memory.proc };

	if (is_wanted && memory.proc >= 0 && start_reader(&reader, kept, 1) == 0)
		dump_threads();
}

/* The kill is sent: put what the dump has so far into the record. Lines are whole, as each is one write. */
void end_thread_dump(bool take)
{
	static char lines[MAX_DUMP_BYTES];
	ssize_t got = take && reader.link >= 0 ? recv(reader.link, lines, sizeof(lines), MSG_DONTWAIT) : 0;

	if (got > 0)
		record_lines(lines, (size_t)got);
	(void)end_reader(&reader, 0);
}

void prepare_thread_dump(const struct plan *plan)
{
	struct step step;

	is_wanted = plan_find(plan, "postmortem", &step);
}
