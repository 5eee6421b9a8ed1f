/* SPDX-License-Identifier: MIT
 *
 * The processor time watch, a part of the watcher (watcher.c): what all that runs inside has used, against a limit and
 * for the result. A control group's own count is exact. Without one it is the sum over /proc of all processes, each
 * with the children that it has waited for; and what no sum has any more, the time of children that nobody waits for
 * (SIGCHLD ignored, or SA_NOCLDWAIT), is kept here from the last look at them. (docs/decisions/cpu-watch.md)
 */
#include "watcher.h"

/* procfs counts processor time in ticks of USER_HZ, 100 on every architecture of ours */
#define TICK_US 10000ULL
#define ROUNDING_US (2 * TICK_US) /* user and system time are each rounded down to a tick */
#define SHORTEST_PAUSE_US 5000ULL
#define LONGEST_PAUSE_US 10000ULL /* with a limit: what is forgotten of a child is its time since the last look */
#define SAMPLE_ONLY_PAUSE_US 50000ULL
#define SAMPLE_ONLY_MS (1ULL << 53)
#define SECOND_SAMPLE_US 5000ULL
#define IDLE_SHARE 10 /* times as long as a look took there is none */
#define TRACKED 1024
#define MOST_AT_ONCE 2048 /* of one look, so that the memory watch does not wait for it */

struct cpu_watch cpu = { .group = -1 };

/* One process, as the last look that saw it had it. Times in microseconds. */
static struct tracked {
	uint64_t pid, parent, start;
	uint64_t own, waited; /* used by itself, and by the children that it has waited for */
	uint64_t debt;        /* of children that are gone, and whose time has not arrived in `waited` */
	uint64_t due, gained; /* in this look: of children that are gone since the last one; what `waited` grew by */
	unsigned int look;
} tracked[TRACKED];
static unsigned int ntracked, look;
/* as `debt`: of those whose parent is gone too, and that any ancestor may have waited for */
static uint64_t orphans_debt;

static struct tracked *find(uint64_t pid)
{
	static unsigned int last; /* procfs lists in order, and so does the table mostly */

	for (unsigned int n = 0; n < ntracked; n++) {
		last = last + 1 < ntracked ? last + 1 : 0;
		if (tracked[last].pid == pid)
			return &tracked[last];
	}
	return NULL;
}

/* One process of procfs. Returns its time where there is no place for it in the table, else 0. */
static uint64_t sample_process_cpu(int dir, const char *pid)
{
	char text[1024], precise[64];
	uint64_t own, waited, start;
	struct tracked *one = find(number(pid));

	if (read_proc(dir, pid, "/stat", text, sizeof(text)) < 0)
		return 0; /* it has just ended */
	own = (stat_number(text, STAT_UTIME) + stat_number(text, STAT_STIME)) * TICK_US;
	waited = (stat_number(text, STAT_CUTIME) + stat_number(text, STAT_CSTIME)) * TICK_US;
	start = stat_number(text, STAT_START);
	if (strcmp(pid, "1") == 0)
		own = 0; /* what init itself needs is not the command's */
	else if (read_proc(dir, pid, "/schedstat", precise, sizeof(precise)) == 0) {
		/* of its first thread, in nanoseconds */
		precise[strspn(precise, "0123456789")] = '\0';
		own = number(precise) / 1000 > own ? number(precise) / 1000 : own;
	}
	if (one == NULL || one->start != start) { /* else the number has gone to another process */
		if (ntracked == TRACKED)
			return own + waited;
		one = &tracked[ntracked++];
		*one = (struct tracked){ .pid = number(pid), .start = start };
	}
	one->parent = stat_number(text, STAT_PARENT);
	one->own = own > one->own ? own : one->own;
	one->gained = waited > one->waited ? waited - one->waited : 0;
	one->waited += one->gained;
	one->due = 0;
	one->look = look;
	return 0;
}

/* What is owed, less what arrived. A debt is kept for two samples, and after that only as much as rounding hides. */
static uint64_t unpaid(uint64_t due, uint64_t debt, uint64_t gained, uint64_t *surplus)
{
	uint64_t rest = due + debt > gained ? due + debt - gained : 0;

	*surplus += gained > due + debt ? gained - due - debt : 0;
	if (rest > due + ROUNDING_US) {
		sampled->cpu_lost_us += rest - due - ROUNDING_US;
		rest = due + ROUNDING_US;
	}
	return rest;
}

/*
 * Who is gone since the last look has been waited for, by its parent or, where that is gone too, by another ancestor:
 * then its time arrives there, in this look or, where the parent was read before it waited, in the next. What does not
 * arrive was used, and is in nobody's account.
 */
static void settle(void)
{
	uint64_t orphans_due = 0, surplus = 0, none = 0;
	unsigned int kept = 0;

	for (unsigned int i = 0; i < ntracked; i++) {
		const struct tracked *gone = &tracked[i];
		struct tracked *parent = gone->look == look ? NULL : find(gone->parent);
		uint64_t *due = parent != NULL && parent->look == look ? &parent->due : &orphans_due;

		if (gone->look != look)
			*due += gone->own + gone->waited + gone->debt;
	}
	for (unsigned int i = 0; i < ntracked; i++)
		if (tracked[i].look == look) {
			tracked[kept] = tracked[i];
			tracked[kept].debt = unpaid(
			    tracked[kept].due, tracked[kept].debt, tracked[kept].gained, &surplus);
			kept++;
		}
	ntracked = kept;
	orphans_debt = unpaid(orphans_due, orphans_debt, surplus, &none);
}

/* All that has run inside since init was there. -1 where procfs cannot be read. */
static int used_us(uint64_t *used)
{
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct names pids = { .dir = dir };
	unsigned int looked = 0;
	int more;

	*used = 0;
	if (dir < 0)
		return -1;
	look++;
	for (; (more = next_pid(&pids)) > 0 && looked < MOST_AT_ONCE; looked++)
		*used += sample_process_cpu(dir, pids.name);
	if (*used > 0 || looked == MOST_AT_ONCE)
		sampled->cpu_untracked = true;
	settle();
	for (unsigned int i = 0; i < ntracked; i++)
		*used += tracked[i].own + tracked[i].waited + tracked[i].debt;
	*used += orphans_debt + sampled->cpu_lost_us;
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

/* Whether there is no limit, and the watch is for the result alone. */
bool cpu_records_only(void)
{
	return cpu.limit_us == SAMPLE_ONLY_MS * 1000;
}

/* Sample again when the rest could be used up at the earliest, by all processors; without a cgroup sooner. */
static uint64_t next_us(uint64_t spent_us, bool counted)
{
	uint64_t used = sampled->cpu_used_us, us = used < cpu.limit_us ? (cpu.limit_us - used) / cpu.processors : 0;
	uint64_t longest = cpu_records_only() ? SAMPLE_ONLY_PAUSE_US : LONGEST_PAUSE_US;

	us = counted || us < longest ? us : longest;
	us = us < spent_us * IDLE_SHARE ? spent_us * IDLE_SHARE : us;
	return us < SHORTEST_PAUSE_US ? SHORTEST_PAUSE_US : us;
}

/* Just before the end: of those that end now the kernel forgets the time where their parent ignores SIGCHLD. */
void sample_cpu(void)
{
	uint64_t used;

	if (sampled->cpu_sampled && used_us(&used) == 0)
		sampled->cpu_used_us = used;
}

/*
 * Over the limit is believed when the next sample is, too; in between the launcher begins the post-mortem. Returns how
 * long until the next one.
 */
uint64_t watch_cpu(void)
{
	uint64_t began = now_ns(), used, counted = cgroup_cpu_us(cpu.group);
	bool again = sampled->cpu_over;

	if (counted > 0) {
		used = counted > sampled->cpu_before_us ? counted - sampled->cpu_before_us : 0;
	} else {
		sampled->cpu_sampled = true;
		if (used_us(&used) < 0)
			conclude(LOST);
	}
	sampled->cpu_used_us = used;
	sampled->cpu_over = used >= cpu.limit_us;
	if (sampled->cpu_over && again)
		conclude(CPU);
	if (sampled->cpu_over)
		wake_launcher();
	return sampled->cpu_over ? SECOND_SAMPLE_US : next_us((now_ns() - began) / 1000, counted > 0);
}

int prepare_cpu_watch(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "cpu-watch", &step))
		return 0;
	cpu.limit_us = number(step.field[0]) < SAMPLE_ONLY_MS ? number(step.field[0]) * 1000 : SAMPLE_ONLY_MS * 1000;
	cpu.processors = number(step.field[1]);
	cpu.group = open_cgroup_cpu(plan);
	return cpu.processors == 0 ? -1 : 0;
}

/* What samples have seen, how much of it the kernel has in no account, and whether they missed processes. */
void record_cpu(void)
{
	if (sampled->cpu_sampled)
		record_line("cpu-seen",
		    (const uint64_t[]){ sampled->cpu_used_us, sampled->cpu_lost_us, sampled->cpu_untracked }, 3, NULL,
		    0);
}
