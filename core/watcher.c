/* SPDX-License-Identifier: MIT
 *
 * The watcher: a child of the launcher that reads init's procfs from outside the sandbox, for the memory limit on hosts
 * that give us no cgroup (there memory can only be sampled) and for the limit of processor time.
 *
 * Rule of this file: reading any file of procfs may wait for the process that it describes. `smaps_rollup` waits for
 * its mmap_lock and walks its page tables. Even `status` and `stat` hold its memory for a moment, and who holds it last
 * frees it. So the launcher's thread reads none of them: it starts the watcher, and learns from a link and a shared
 * page what that has found. A watcher that is stuck is replaced. The watcher itself reads nothing that takes a lock or
 * walks tables.
 */
#include "watcher.h"
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>
#include <time.h>

#define CHECK_MS 25     /* how often the launcher checks whether the watcher has begun another round */
#define STUCK_CHECKS 10 /* one that has not, in so many checks in a row, is replaced */
#define MOST_WATCHERS 8
#define ANSWER_MS 10

struct watch memory = { .link = -1, .timer = -1, .proc = -1, .tmpfs = -1 };
static struct sampled nothing_sampled;
struct sampled *sampled = &nothing_sampled;

void wake_launcher(void)
{
	(void)!write(READER_LINK, "", 1); /* a launcher that is gone takes us with it */
}

/* The watcher's last act. */
void conclude(enum verdict verdict)
{
	sampled->verdict = verdict; /* before the first of them can be dead */
	wake_launcher();
	if (verdict == MEMORY)
		kill_everybody();
	_exit(0);
}

static void answer_launcher(void)
{
	char byte;

	(void)!read(READER_LINK, &byte, 1);
	sample_cpu();
	wake_launcher();
}

static void watch_room(uint64_t first_ns) __attribute__((noreturn));
static void watch_room(uint64_t first_ns)
{
	uint64_t memory_ns = memory.limit_kib ? first_ns : UINT64_MAX;
	uint64_t cpu_ns = cpu.limit_us ? first_ns : UINT64_MAX;
	struct pollfd polls[2] = { { .events = POLLIN }, { .fd = READER_LINK, .events = POLLIN } };

	for (;;) {
		uint64_t now = now_ns(), next;

		sampled->alive_ns = now;
		if (now >= memory_ns)
			memory_ns = now + watch_memory(now);
		if (now >= cpu_ns)
			cpu_ns = now + watch_cpu() * 1000;
		now = now_ns();
		next = least(memory_ns, cpu_ns);
		next = next > now + SHORTEST_PAUSE ? least(next - now, LONGEST_PAUSE) : SHORTEST_PAUSE;
		polls[0].fd = exact_sample.link;
		if (ppoll(polls, 2, &(struct timespec){ .tv_nsec = (long)next }, NULL) <= 0)
			continue;
		if (polls[0].revents)
			end_exact();
		if (polls[1].revents)
			answer_launcher();
	}
}

/* ---- the launcher's side ---- */

static struct reader watchers[MOST_WATCHERS]; /* all but the last one are stuck, and killed */
static unsigned int nwatchers;
static uint64_t first_ns; /* when the first sample is due */

/* What the watcher needs, from the payload's half of the plan; it starts when the room is ready. */
int prepare_watch(const struct plan *plan)
{
	struct step step;
	void *page;

	if (plan_find(plan, "memory-watch", &step))
		memory.limit_kib = number(step.field[0]) >> 10;
	if (prepare_cpu_watch(plan) < 0)
		return -1;
	if (memory.limit_kib == 0 && cpu.limit_us == 0)
		return 0;
	use_short_time_slices();
	page = mmap(NULL, sizeof(*sampled), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memory.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (page == MAP_FAILED || memory.timer < 0)
		return -1;
	sampled = page;
	return 0;
}

/* Start a watcher: the first one, or one in the place of one that is stuck. */
static int add_watcher(void)
{
	int *const kept[] = { &memory.proc, &memory.tmpfs, &cpu.group };
	struct reader *watcher = &watchers[nwatchers];

	if (nwatchers == MOST_WATCHERS)
		return -1;
	sampled->alive_ns = now_ns();
	if (start_reader(watcher, kept, 3) == 0)
		watch_room(first_ns > now_ns() ? first_ns : now_ns());
	if (watcher->pid <= 0)
		return -1;
	memory.link = watcher->link;
	nwatchers++;
	return 0;
}

/*
 * Where a watch was asked for. One that enforces a limit starts now, before the payload can delay it. One that only
 * records starts when its first sample is due: most runs are over by then, and a process costs them a tenth of a start.
 */
int start_watcher(void)
{
	const bool records_only = memory.limit_kib == 0 && cpu_records_only();
	const struct itimerspec often = { { 0, CHECK_MS * MS }, { 0, records_only ? FIRST_SAMPLE : CHECK_MS * MS } };

	if (memory.timer < 0)
		return 0;
	first_ns = now_ns() + FIRST_SAMPLE;
	if (timerfd_settime(memory.timer, 0, &often, NULL) < 0)
		return -1;
	return records_only ? 0 : add_watcher();
}

/*
 * Every CHECK_MS. A watcher that is stuck cannot be ended, but it can be replaced. Checks are counted and not time:
 * where everything is paused (a frozen container, a virtual machine), or processors are short, the watcher does nothing
 * either.
 */
const char *check_watcher(void)
{
	static uint64_t seen_ns;
	static unsigned int silent;
	uint64_t ticks;

	if (read(memory.timer, &ticks, sizeof(ticks)) != sizeof(ticks) || sampled->verdict != NONE)
		return NULL;
	if (sampled->alive_ns != 0) { /* else the first one starts now, of a watch that only records */
		silent = sampled->alive_ns == seen_ns ? silent + 1 : 0;
		seen_ns = sampled->alive_ns;
		if (silent < STUCK_CHECKS)
			return NULL;
		silent = 0;
		for (unsigned int i = nwatchers; i-- > 0;)
			if (end_reader(&watchers[i], 0))
				watchers[i] = watchers[--nwatchers];
		sampled->cpu_untracked = true; /* the next one does not know what this one knew */
	}
	return add_watcher() < 0 ? "lost" : NULL;
}

/* One more sample of processor time, before every process is killed. It is waited for only ANSWER_MS. */
void ask_watcher(void)
{
	static bool has_asked;
	struct pollfd answer = { .fd = memory.link, .events = POLLIN };

	if (has_asked || !sampled->cpu_sampled || sampled->verdict != NONE)
		return;
	has_asked = true;
	if (send(memory.link, "", 1, MSG_NOSIGNAL) == 1)
		(void)poll(&answer, 1, ANSWER_MS);
}

/* The watcher may have something to say: NULL, or why the run must end. */
const char *hear_watcher(void)
{
	static const char *const why[] = { [NONE] = NULL, [MEMORY] = "memory", [CPU] = "cpu", [LOST] = "lost" };
	char bytes[64];
	ssize_t got = memory.link < 0 ? -1 : recv(memory.link, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (got == 0)
		memory.link = -1; /* it has ended; if it had no verdict, it is replaced when its time is over */
	if (got <= 0)
		return NULL;
	if (sampled->verdict == CPU) /* what was judged: the sums of the end are taken another way */
		record_numbers("spent", sampled->cpu_used_us);
	else if (sampled->verdict == NONE && sampled->cpu_over)
		start_thread_dump();
	return why[sampled->verdict];
}

void end_watch(int wait_ms)
{
	for (unsigned int i = 0; i < nwatchers; i++)
		if (!end_reader(&watchers[i], wait_ms))
			wait_ms = 0;
}

/* Every process inside is dead: what is on the tmpfs, and what samples saw (most tasks, the largest process). */
void record_room(void)
{
	struct statfs fs;

	if (sampled->most_tasks > 0)
		record_numbers("tasks", sampled->most_tasks, sampled->largest_kib, sampled->files_kib);
	if (sampled->plain_kib > 0)
		record_numbers("plain-sum", sampled->plain_kib);
	if (memory.tmpfs >= 0 && fstatfs(memory.tmpfs, &fs) == 0)
		record_numbers("disk", (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize,
		    (uint64_t)fs.f_bfree * (uint64_t)fs.f_bsize, (uint64_t)(fs.f_files - fs.f_ffree), fs.f_ffree);
}
