/* SPDX-License-Identifier: MIT
 *
 * Looks of the launcher into the room that are not about memory: the processor time of all that runs inside, and what is
 * left of the room at its end. Like the memory watch it reads init's procfs from outside the wall.
 */
#include "capsule-core.h"
#include <sys/timerfd.h>
#include <sys/vfs.h>

#define TICK_US 10000ULL        /* procfs counts processor time in ticks of USER_HZ, 100 on every architecture of ours */
#define SHORTEST_PAUSE_US 5000ULL
#define SECOND_LOOK_US 1000ULL
enum { STAT_UTIME = 14, STAT_STIME = 15, STAT_CUTIME = 16, STAT_CSTIME = 17 }; /* as proc(5) numbers the fields of stat */

struct look cpu = { -1, false, 0, 0, 0 };

/* A number of /proc/PID/stat. The name in it may hold anything, also brackets: what counts stands behind the last one. */
static uint64_t stat_number(const char *text, unsigned int field)
{
	const char *at = strrchr(text, ')');
	uint64_t n = 0;

	for (unsigned int i = 2; at != NULL && i < field; i++)
		at = strchr(at + 1, ' ');
	for (at = at != NULL ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	return n;
}

/*
 * All that has run inside since init was there, less what init itself needed: of each process its own time and that of
 * the children it has waited for. A child that is waited for between two readings may count twice, or not at all; the
 * next look knows better.
 */
static int used_us(uint64_t *used)
{
	_Alignas(uint64_t) char buffer[4096];
	char text[1024];
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got = 0, at = 0;
	const char *name;
	int more;

	*used = 0;
	if (dir < 0)
		return -1;
	while ((more = next_name(dir, buffer, sizeof(buffer), &got, &at, &name)) > 0) {
		if (*name < '0' || *name > '9' || read_proc(dir, name, "/stat", text, sizeof(text)) < 0)
			continue; /* it has just ended: its time is its parent's now */
		for (unsigned int field = strcmp(name, "1") == 0 ? STAT_CUTIME : STAT_UTIME; field <= STAT_CSTIME; field++)
			*used += stat_number(text, field) * TICK_US;
	}
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

static int pause_us(uint64_t us)
{
	const struct itimerspec when = { .it_value = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 } };

	return timerfd_settime(cpu.timer, 0, &when, NULL);
}

/* The next look is when the rest could be used up at the earliest, with every processor at work for it. */
static uint64_t next_us(void)
{
	uint64_t us = cpu.used_us < cpu.limit_us ? (cpu.limit_us - cpu.used_us) / cpu.processors : 0;

	return us < SHORTEST_PAUSE_US ? SHORTEST_PAUSE_US : us;
}

/* Returns NULL, or why the run must end. Over the limit is believed when the next look sees it, too. */
const char *watch_cpu(void)
{
	uint64_t used;
	bool again = cpu.over;

	if (used_us(&used) < 0)
		return "lost";
	cpu.used_us = used;
	cpu.over = used >= cpu.limit_us;
	if (cpu.over && again)
		return "cpu";
	return pause_us(cpu.over ? SECOND_LOOK_US : next_us()) < 0 ? "lost" : NULL;
}

int start_look(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "cpu-watch", &step))
		return 0;
	cpu.limit_us = number(step.field[0]) * 1000;
	cpu.processors = number(step.field[1]);
	cpu.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return cpu.timer < 0 || cpu.processors == 0 ? -1 : pause_us(next_us());
}

/* Everybody inside is dead: what lies on the tmpfs now, and the most processes and threads that a look has seen. */
void record_room(void)
{
	struct statfs fs;

	if (memory.most_tasks > 0)
		record_line("tasks", &memory.most_tasks, 1, NULL, 0);
	if (memory.tmpfs >= 0 && fstatfs(memory.tmpfs, &fs) == 0) {
		const uint64_t disk[] = {
			(uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize, (uint64_t)fs.f_bfree * (uint64_t)fs.f_bsize,
			(uint64_t)(fs.f_files - fs.f_ffree), (uint64_t)fs.f_ffree,
		};

		record_line("disk", disk, 4, NULL, 0);
	}
}
