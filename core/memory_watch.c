/* SPDX-License-Identifier: MIT
 *
 * The memory limit on hosts that give us no cgroup: there memory cannot be waited for, only sampled. When to sample,
 * and what to make of it; a part of the watcher (watcher.c).
 *
 * The watcher reads nothing that takes a lock or a walk: the exact sample is a child's of its own, with a deadline.
 */
#include "watcher.h"
#include <poll.h>

/* What a tree of processes can touch in a millisecond, as measured with room to spare; it sets how often to sample. */
#define KIB_PER_MS 8192
#define SECOND_SAMPLE (4 * MS)
#define WHILE_SAMPLING (2 * MS)
/* Of an exact sample, without what it waited for a processor, and with it: then the plain sum is believed. */
#define SAMPLE_DEADLINE (100 * MS)
#define SAMPLE_DEADLINE_WHEN_BUSY (500 * MS)
#define NEW_PEAK 16 /* a sum that is larger by one part of so many is worth an exact sample */

struct exact_sample exact_sample = { .from = -1 };
static uint64_t over_ns; /* since when the plain sum is over the limit, and no exact one says otherwise */
static bool over_before; /* so was the last exact sample */

void over_limit(uint64_t used_kib) __attribute__((noreturn));
void over_limit(uint64_t used_kib)
{
	if (used_kib > sampled->peak_kib)
		sampled->peak_kib = used_kib;
	conclude(MEMORY);
}

/*
 * At least so much, from the plain sum and the last exact sample. As long as nobody comes or goes, anonymous memory can
 * only become less shared, so what was counted twice may be taken off; shared memory that came since may be counted
 * already, and is taken off too. Where two have one address space, nothing is known. One process shares only shared
 * memory, with itself.
 */
static uint64_t least_kib(const struct sample *plain)
{
	uint64_t off = exact_sample.last.shared_kib;

	if (plain->processes == 1)
		off = plain->shmem_kib;
	else if (plain->set != exact_sample.last.set || exact_sample.last.one_space)
		return 0;
	else if (plain->shmem_kib > exact_sample.last.shmem_kib)
		off += plain->shmem_kib - exact_sample.last.shmem_kib;
	return plain->used_kib - least(plain->used_kib, off);
}

/* Without a process to take it (the one before may be stuck in the kernel) nothing answers until the deadline. */
static void start_exact(const struct sample *plain)
{
	int ends[2], *const kept[] = { &ends[1], &memory.proc, &memory.tmpfs };
	struct sample sample;

	if (!end_reader(&exact_sample.reader, 0) || pipe2(ends, O_CLOEXEC) < 0)
		return;
	exact_sample.failed = false;
	exact_sample.began_ns = now_ns();
	exact_sample.plain_kib = plain->used_kib;
	if (start_reader(&exact_sample.reader, kept, 3) == 0)
		_exit(take_sample(true, &sample) < 0 || write(ends[1], &sample, sizeof(sample)) != sizeof(sample));
	close_cleanup(&ends[1]);
	exact_sample.from = ends[0];
}

/* Until the rest of the limit could be used up at the earliest. */
static uint64_t pause_ns(uint64_t used_kib)
{
	uint64_t left = used_kib < memory.limit_kib ? memory.limit_kib - used_kib : 0, ns;

	if (left > KIB_PER_MS * (LONGEST_PAUSE / MS))
		return LONGEST_PAUSE;
	ns = left * MS / KIB_PER_MS;
	return ns < SHORTEST_PAUSE ? SHORTEST_PAUSE : ns;
}

/*
 * The exact sample is there, or has failed. One that is over the limit is believed when the next is over it, too, or a
 * plain sum proves it: it is not of one moment, and what one process gives up on the way may be another's part by then.
 */
void end_exact(void)
{
	struct sample sample;
	uint64_t now = now_ns(), pause;
	bool over;

	exact_sample.failed = read(exact_sample.from, &sample, sizeof(sample)) != sizeof(sample);
	close_cleanup(&exact_sample.from);
	exact_sample.from = -1;
	if (exact_sample.failed)
		return;
	over = over_ns && sample.used_kib > memory.limit_kib;
	if (over && over_before)
		over_limit(sample.used_kib);
	if (!over && sample.used_kib > sampled->peak_kib)
		sampled->peak_kib = sample.used_kib;
	over_before = over;
	over_ns = 0;
	exact_sample.last = sample;
	pause = over ? SECOND_SAMPLE : pause_ns(sample.used_kib);
	exact_sample.due_ns = now + (pause > now - exact_sample.began_ns ? pause : now - exact_sample.began_ns);
}

/*
 * Whether the exact sample is late: it has failed, has waited for a lock for too long, or has computed for too long.
 * That it waits for a processor is nobody's fault inside, for a while: then it is runnable now, or the kernel has
 * counted it.
 */
static bool is_late(uint64_t waited_ns)
{
	char text[1024], *state;
	uint64_t ran_ns, delayed_ns;

	if (exact_sample.failed || waited_ns > SAMPLE_DEADLINE_WHEN_BUSY)
		return true;
	if (waited_ns <= SAMPLE_DEADLINE)
		return false;
	text[read_of((uint32_t)exact_sample.reader.pid, "/schedstat", text, sizeof(text) - 1)] = '\0';
	ran_ns = status_number(text, "");
	delayed_ns = (state = strchr(text, ' ')) != NULL ? status_number(state, " ") : 0;
	text[read_of((uint32_t)exact_sample.reader.pid, "/stat", text, sizeof(text) - 1)] = '\0';
	state = strrchr(text, ')');
	if (state != NULL && strncmp(state, ") R", 3) == 0)
		return ran_ns > SAMPLE_DEADLINE;
	return waited_ns > SAMPLE_DEADLINE + delayed_ns;
}

/*
 * Whether an exact sample is due: the plain sum is over the limit, or so much above the one that the last was taken for
 * as to be a new peak. Where it grew by more than was left then, it does not wait for its time.
 */
static bool wants_exact(const struct sample *plain, uint64_t now)
{
	uint64_t left = memory.limit_kib - least(memory.limit_kib, exact_sample.last.used_kib);

	if (plain->used_kib > memory.limit_kib)
		return now >= exact_sample.due_ns || plain->used_kib > exact_sample.plain_kib + left;
	return plain->processes > 1 && now >= exact_sample.due_ns && plain->used_kib > memory.limit_kib / NEW_PEAK
	    && plain->used_kib > exact_sample.plain_kib + exact_sample.plain_kib / NEW_PEAK;
}

/* Take the plain sample and judge it. Returns how long until the next one, in ns from the beginning of this one. */
uint64_t watch_memory(uint64_t now)
{
	struct sample plain;
	uint64_t known;
	bool over;

	if (take_sample(false, &plain) < 0)
		conclude(LOST);
	over = plain.used_kib > memory.limit_kib;
	known = least_kib(&plain);
	known = known > plain.floor_kib ? known : plain.floor_kib;
	if (known > memory.limit_kib)
		over_limit(known);
	if (!over && (plain.processes == 1 || plain.used_kib <= memory.limit_kib / NEW_PEAK))
		known = plain.used_kib;
	if (known > sampled->peak_kib)
		sampled->peak_kib = known;
	if (exact_sample.from < 0 && wants_exact(&plain, now))
		start_exact(&plain);
	if (!over)
		over_ns = over_before = 0;
	else if (over_ns == 0 && (exact_sample.from >= 0 || now >= exact_sample.due_ns))
		over_ns = now;
	if (over_ns && is_late(now - over_ns)) {
		sampled->plain_kib = plain.used_kib;
		conclude(MEMORY);
	}
	return over_ns ? WHILE_SAMPLING : pause_ns(over ? exact_sample.last.used_kib : plain.used_kib);
}
