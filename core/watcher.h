/* SPDX-License-Identifier: MIT
 *
 * What the files of the memory watch share: watcher.c, memory_watch.c and memory_sample.c.
 */
#ifndef CAPSULE_WATCHER_H
#define CAPSULE_WATCHER_H

#include "capsule-core.h"

#define MS 1000000ULL /* in nanoseconds, as all times of the watcher */
#define LONGEST_PAUSE (50 * MS)
#define SHORTEST_PAUSE (MS / 2)
#define FIRST_SAMPLE (5 * MS)

/* A sample of all processes: the plain one adds up `status`, the exact one divides what processes share. */
struct sample {
	uint64_t used_kib, floor_kib; /* the second: what one process has for itself, with the files in memory */
	uint64_t set, processes, tasks, shmem_kib; /* the first: a hash of the process ids */
	uint64_t shared_kib;          /* exact: what the plain sum counted more than once */
	bool one_space;               /* exact: two processes have one address space, or nobody says that they have not */
};

struct exact_sample {
	struct reader reader;
	int from;                  /* -1: none is under way */
	bool failed;
	uint64_t began_ns, due_ns; /* the second: none before, so that they take half of a processor and no more */
	uint64_t plain_kib;        /* the plain sum that the last one was taken for */
	struct sample last;
};
extern struct exact_sample exact_sample;

static inline uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* memory_sample.c */
int take_sample(bool exact, struct sample *sample);

/* memory_watch.c */
void over_limit(uint64_t used_kib) __attribute__((noreturn));
void end_exact(void);
uint64_t watch_memory(uint64_t now);

#endif
