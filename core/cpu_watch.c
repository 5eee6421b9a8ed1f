/* SPDX-License-Identifier: MIT
 *
 * The processor time watch of the launcher: what all that runs inside has used, against a limit and for the result. A
 * control group's own count is exact. Without one it is the sum over /proc of all processes, each with the children that
 * it has waited for; and what no sum has any more, the time of children that nobody waits for (SIGCHLD ignored, or
 * SA_NOCLDWAIT), is kept here from the last look at them. It reads `stat` and `schedstat` alone, which wait for no lock
 * that the payload can hold (docs/decisions/cpu-watch.md).
 */
#include "capsule-core.h"
#include <sys/timerfd.h>

#define TICK_US 10000ULL          /* procfs counts processor time in ticks of USER_HZ, 100 on every architecture of ours */
#define ROUNDING_US (2 * TICK_US) /* user and system time are each rounded down to a tick */
#define SHORTEST_PAUSE_US 5000ULL
#define LONGEST_PAUSE_US 10000ULL    /* with a limit: what is forgotten of a child is its time since the last look */
#define LOOK_ONLY_PAUSE_US 50000ULL
#define LOOK_ONLY_MS (1ULL << 53)
#define SECOND_LOOK_US 5000ULL
#define IDLE_SHARE 10 /* times as long as a look took there is none */
#define TRACKED 1024
#define MOST_AT_ONCE 2048 /* of one look, so that the launcher's clock does not wait for it */

struct cpu_watch cpu = { .timer = -1 };

/* One process, as the last look that saw it had it. Times in microseconds. */
static struct tracked {
	uint64_t pid, parent, start;
	uint64_t own, waited; /* used by itself, and by the children that it has waited for */
	uint64_t debt;        /* of children that are gone, and whose time has not arrived in `waited` */
	uint64_t due, gained; /* in this look: of children that are gone since the last one; what `waited` grew by */
	unsigned int look;
} tracked[TRACKED];
static unsigned int ntracked, look;
static uint64_t orphans_debt; /* as `debt`: of those whose parent is gone too, and that any ancestor may have waited for */

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
static uint64_t look_at_process(int dir, const char *pid)
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
	else if (read_proc(dir, pid, "/schedstat", precise, sizeof(precise)) == 0) { /* of its first thread, in nanoseconds */
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

/* What is owed, less what arrived; a debt is kept until the look after the next, beyond that only what rounding hides. */
static uint64_t unpaid(uint64_t due, uint64_t debt, uint64_t gained, uint64_t *surplus)
{
	uint64_t rest = due + debt > gained ? due + debt - gained : 0;

	*surplus += gained > due + debt ? gained - due - debt : 0;
	if (rest > due + ROUNDING_US) {
		cpu.lost_us += rest - due - ROUNDING_US;
		rest = due + ROUNDING_US;
	}
	return rest;
}

/*
 * Who is gone since the last look has been waited for, by its parent or, where that is gone too, by another ancestor: then
 * its time arrives there, in this look or, where the parent was read before it waited, in the next. What does not arrive
 * was used, and is in nobody's account.
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
			tracked[kept].debt = unpaid(tracked[kept].due, tracked[kept].debt, tracked[kept].gained, &surplus);
			kept++;
		}
	ntracked = kept;
	orphans_debt = unpaid(orphans_due, orphans_debt, surplus, &none);
}

/* All that has run inside since init was there. -1 where procfs cannot be read. */
static int used_us(uint64_t *used)
{
	_Alignas(uint64_t) char buffer[4096];
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got = 0, at = 0;
	unsigned int looked = 0;
	const char *name;
	int more;

	*used = 0;
	if (dir < 0)
		return -1;
	look++;
	while ((more = next_name(dir, buffer, sizeof(buffer), &got, &at, &name)) > 0 && looked < MOST_AT_ONCE)
		if (*name >= '0' && *name <= '9') {
			*used += look_at_process(dir, name);
			looked++;
		}
	cpu.untracked = cpu.untracked || *used > 0 || looked == MOST_AT_ONCE;
	settle();
	for (unsigned int i = 0; i < ntracked; i++)
		*used += tracked[i].own + tracked[i].waited + tracked[i].debt;
	*used += orphans_debt + cpu.lost_us;
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

static int pause_us(uint64_t us)
{
	const struct itimerspec when = { .it_value = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 } };

	return timerfd_settime(cpu.timer, 0, &when, NULL);
}

/* The next look is when the rest could be used up at the earliest, with every processor at work for it; without a group sooner. */
static uint64_t next_us(uint64_t spent_us, bool counted)
{
	uint64_t us = cpu.used_us < cpu.limit_us ? (cpu.limit_us - cpu.used_us) / cpu.processors : 0;
	uint64_t longest = cpu.limit_us == LOOK_ONLY_MS * 1000 ? LOOK_ONLY_PAUSE_US : LONGEST_PAUSE_US;

	us = counted || us < longest ? us : longest;
	us = us < spent_us * IDLE_SHARE ? spent_us * IDLE_SHARE : us;
	return us < SHORTEST_PAUSE_US ? SHORTEST_PAUSE_US : us;
}

/* Just before the end: of those that end now the kernel forgets the time where their parent ignores SIGCHLD. */
void look_at_cpu(const struct plan *plan)
{
	if (cpu.looked && group_cpu_us(plan) == 0)
		(void)used_us(&cpu.used_us);
}

/* Returns NULL, or why the run must end. Over the limit is believed when the next look sees it, too. */
const char *watch_cpu(const struct plan *plan)
{
	uint64_t began = now_ns(), counted = group_cpu_us(plan);
	bool again = cpu.over;

	if (counted > 0)
		cpu.used_us = counted > cpu.before_us ? counted - cpu.before_us : 0;
	else if (cpu.looked = true, used_us(&cpu.used_us) < 0)
		return "lost";
	cpu.over = cpu.used_us >= cpu.limit_us;
	if (cpu.over && again) {
		record_line("spent", &cpu.used_us, 1, NULL, 0); /* what was judged: the sums of the end are taken another way */
		return "cpu";
	}
	if (cpu.over)
		(void)start_mortem();
	return pause_us(cpu.over ? SECOND_LOOK_US : next_us((now_ns() - began) / 1000, counted > 0)) < 0 ? "lost" : NULL;
}

int start_cpu_watch(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "cpu-watch", &step))
		return 0;
	cpu.limit_us = number(step.field[0]) < LOOK_ONLY_MS ? number(step.field[0]) * 1000 : LOOK_ONLY_MS * 1000;
	cpu.processors = number(step.field[1]);
	cpu.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return cpu.timer < 0 || cpu.processors == 0 ? -1 : pause_us(next_us(0, false));
}

/* At the end: all that looks have seen, what of it is in no account of the kernel, and whether they did not see every process. */
void record_cpu(void)
{
	if (cpu.looked)
		record_line("cpu-seen", (const uint64_t[]){ cpu.used_us, cpu.lost_us, cpu.untracked }, 3, NULL, 0);
}
