/* SPDX-License-Identifier: MIT
 *
 * The memory limit on hosts that give us no cgroup, where memory can only be sampled: when to sample, and how to judge
 * it. A part of the watcher (watcher.c). The watcher takes plain samples itself; a child with a deadline takes exact
 * ones, since they wait for locks and walk page tables.
 */
#include "watcher.h"

#define KIB_PER_MS                                                                                                     \
	8192 /* what a tree of processes can touch, as measured with room to spare; sets how often to sample */
#define SECOND_SAMPLE (4 * MS)
#define WHILE_SAMPLING (2 * MS)
/*
 * What one pause between plain samples counts at most towards a deadline. A longer one means that we had no processor,
 * or that everything was paused (a frozen container, a virtual machine), and then the exact sample had none either.
 */
#define COUNTED_PAUSE (10 * MS)
/* Of an exact sample, without the time for which it waited for a processor, and with it. */
#define SAMPLE_DEADLINE (100 * MS)
#define SAMPLE_DEADLINE_WHEN_BUSY (500 * MS)
#define NEW_PEAK 16 /* a sum that is larger by one part of so many is worth an exact sample */

struct reader exact_sample = NO_READER;
static struct {
	bool failed, was_over;     /* the last one: gave no answer; was over the limit */
	uint64_t began_ns, due_ns; /* no new one before `due_ns`: they take half of a processor at most */
	uint64_t plain_kib;        /* the plain sum that the last one was taken for */
	struct sample last;
} exact;
static struct {
	bool waits;              /* the plain sum is over the limit, and no exact sample contradicts */
	uint64_t ns, counted_ns; /* for how long, and until when that is counted */
} over;

static void over_limit(uint64_t used_kib) __attribute__((noreturn));
static void over_limit(uint64_t used_kib)
{
	if (used_kib > sampled->peak_kib)
		sampled->peak_kib = used_kib;
	conclude(MEMORY);
}

/*
 * What is used at least, by the plain sum and the last exact sample. While the processes are the same, anonymous memory
 * can only become less shared, so what was counted twice may be subtracted; so is shared memory that came since. If two
 * have one address space, nothing is known. One process shares only shared memory, with itself.
 */
static uint64_t least_kib(const struct sample *plain)
{
	uint64_t shared = exact.last.shared_kib + plain->shmem_kib - least(plain->shmem_kib, exact.last.shmem_kib);

	if (plain->processes == 1)
		shared = plain->shmem_kib;
	else if (plain->set != exact.last.set || exact.last.one_space)
		return plain->floor_kib;
	shared = plain->used_kib - least(plain->used_kib, shared);
	return shared > plain->floor_kib ? shared : plain->floor_kib;
}

/* Without a process to take it (the one before may be stuck in the kernel) there is no answer until the deadline. */
static void start_exact(uint64_t plain_kib)
{
	int *const kept[] = { &memory.proc, &memory.tmpfs };
	struct sample sample;

	exact.failed = false;
	exact.began_ns = now_ns();
	exact.plain_kib = plain_kib;
	if (start_reader(&exact_sample, kept, 2) == 0)
		_exit(take_sample(true, &sample) < 0 || write(READER_LINK, &sample, sizeof(sample)) != sizeof(sample));
}

/* Until the rest of the limit could be used up at the earliest. */
static uint64_t pause_ns(uint64_t used_kib)
{
	uint64_t left = memory.limit_kib - least(memory.limit_kib, used_kib);

	return left > KIB_PER_MS * (LONGEST_PAUSE / MS) ? LONGEST_PAUSE :
	    left * MS / KIB_PER_MS < SHORTEST_PAUSE     ? SHORTEST_PAUSE :
							  left * MS / KIB_PER_MS;
}

/*
 * The exact sample is there, or has failed. One that is over the limit is believed if the next is, too: it is not of
 * one moment, and what one process gives up meanwhile may be counted for another.
 */
void end_exact(void)
{
	struct sample sample;
	uint64_t now = now_ns(), pause;
	bool is_over;

	exact.failed = read(exact_sample.link, &sample, sizeof(sample)) != sizeof(sample);
	(void)end_reader(&exact_sample, 0);
	if (exact.failed)
		return;
	is_over = over.waits && sample.used_kib > memory.limit_kib;
	if (is_over && exact.was_over)
		over_limit(sample.used_kib);
	if (!is_over && sample.used_kib > sampled->peak_kib)
		sampled->peak_kib = sample.used_kib;
	exact.was_over = is_over;
	over.waits = false;
	exact.last = sample;
	pause = is_over ? SECOND_SAMPLE : pause_ns(sample.used_kib);
	exact.due_ns = now + (pause > now - exact.began_ns ? pause : now - exact.began_ns);
}

/*
 * Whether the exact sample is late: it has failed, or has waited for a lock or computed for too long. The time for
 * which it waits for a processor does not count, up to a bound: then it is runnable now, or the kernel has counted it.
 */
static bool is_late(uint64_t waited_ns)
{
	char text[1024];
	const char *at = text;
	uint64_t ran_ns, delayed_ns;

	if (exact.failed || waited_ns > SAMPLE_DEADLINE_WHEN_BUSY)
		return true;
	if (waited_ns <= SAMPLE_DEADLINE)
		return false;
	(void)read_host_proc(exact_sample.pid, "/schedstat", text, sizeof(text));
	ran_ns = take_number(&at, 10);
	delayed_ns = take_number(&at, 10);
	(void)read_host_proc(exact_sample.pid, "/stat", text, sizeof(text));
	return stat_state(text) == 'R' ? ran_ns > SAMPLE_DEADLINE : waited_ns > SAMPLE_DEADLINE + delayed_ns;
}

/*
 * Whether to take an exact sample: the plain sum is over the limit, or so much above the last one as to be a new peak.
 * If it grew by more than was left then, it does not wait for its time.
 */
static bool wants_exact(const struct sample *plain, uint64_t now)
{
	uint64_t left = memory.limit_kib - least(memory.limit_kib, exact.last.used_kib);

	if (plain->used_kib > memory.limit_kib)
		return now >= exact.due_ns || plain->used_kib > exact.plain_kib + left;
	return plain->processes > 1 && now >= exact.due_ns && plain->used_kib > memory.limit_kib / NEW_PEAK
	    && plain->used_kib > exact.plain_kib + exact.plain_kib / NEW_PEAK;
}

/* Count the wait for an exact sample, from the first plain sum that was over the limit. */
static void count_wait(uint64_t now)
{
	over.ns = over.waits ? over.ns + least(now - over.counted_ns, COUNTED_PAUSE) : 0;
	over.counted_ns = now;
	over.waits = true;
}

/* Take the plain sample and judge it. Returns how long until the next one, in ns from the beginning of this one. */
uint64_t watch_memory(uint64_t now)
{
	struct sample plain;
	uint64_t known;
	bool is_over;

	if (take_sample(false, &plain) < 0)
		conclude(LOST);
	is_over = plain.used_kib > memory.limit_kib;
	known = least_kib(&plain);
	if (known > memory.limit_kib)
		over_limit(known);
	if (!is_over && (plain.processes == 1 || plain.used_kib <= memory.limit_kib / NEW_PEAK))
		known = plain.used_kib;
	if (known > sampled->peak_kib)
		sampled->peak_kib = known;
	if (exact_sample.link < 0 && wants_exact(&plain, now))
		start_exact(plain.used_kib);
	if (!is_over)
		over.waits = exact.was_over = false;
	else if (over.waits || exact_sample.link >= 0 || now >= exact.due_ns)
		count_wait(now);
	if (over.waits && is_late(over.ns)) {
		sampled->plain_kib = plain.used_kib;
		conclude(MEMORY);
	}
	return over.waits ? WHILE_SAMPLING : pause_ns(is_over ? exact.last.used_kib : plain.used_kib);
}
