/* SPDX-License-Identifier: MIT
 *
 * The watcher: what the launcher asks of it, and what its files share: watcher.c, memory_watch.c, memory_sample.c and
 * cpu_watch.c.
 */
#ifndef CAPSULE_WATCHER_H
#define CAPSULE_WATCHER_H

#include "capsule-core.h"

/* ---- watcher.c: memory and processor time, read by a child ---- */

struct watch {
	int link;        /* to the watcher: a byte each way means news in the page, or a question */
	int timer;       /* by which the launcher asks whether it is stuck */
	int proc, tmpfs; /* procfs of the room, and a place on its writable tmpfs */
	uint64_t limit_kib;
};
extern struct watch memory;
enum verdict { NONE, MEMORY, CPU, LOST };
/* A page that the watcher writes and the launcher reads. */
struct sampled {
	_Atomic uint64_t alive_ns; /* when the watcher last began a round */
	_Atomic uint64_t verdict;  /* an enum verdict */
	_Atomic uint64_t peak_kib;
	_Atomic uint64_t plain_kib;   /* the plain sum that was believed at the deadline of the exact sample, or 0 */
	_Atomic uint64_t largest_kib; /* of one process, with what it has mapped of files */
	_Atomic uint64_t files_kib;   /* and how much of it that was */
	_Atomic uint64_t most_tasks;  /* processes and threads, of the sample that saw most */
	_Atomic uint64_t cpu_used_us, cpu_over, cpu_sampled;
	/* used by processes that nobody waited for; not every process was seen */
	_Atomic uint64_t cpu_lost_us, cpu_untracked;
	_Atomic uint64_t cpu_before_us; /* the launcher's: what the group had counted when the command began */
};
extern struct sampled *sampled;
int prepare_watch(const struct plan *plan);
int start_watcher(void);
const char *check_watcher(void);
const char *hear_watcher(void);
void ask_watcher(void);
void end_watch(int wait_ms);
void wake_launcher(void);
void conclude(enum verdict verdict) __attribute__((noreturn));
void record_room(void);

/* ---- cpu_watch.c: processor time ---- */

struct cpu_watch {
	int group; /* the file in which the run's group counts, or -1 */
	uint64_t limit_us, processors;
};
extern struct cpu_watch cpu;
int prepare_cpu_watch(const struct plan *plan);
bool cpu_records_only(void);
uint64_t watch_cpu(void);
void sample_cpu(void);
void record_cpu(void);

/* ---- memory_watch.c and memory_sample.c ---- */

#define MS 1000000ULL /* in nanoseconds, as all times of the watcher */
#define LONGEST_PAUSE (50 * MS)
#define SHORTEST_PAUSE (MS / 2)
#define FIRST_SAMPLE (5 * MS) /* after the room is ready */

/* A sample of all processes: the plain one adds up `status`, the exact one divides what processes share. */
struct sample {
	uint64_t used_kib, floor_kib; /* the second: what one process has for itself, with the files in memory */
	uint64_t set, processes, tasks, shmem_kib; /* the first: a hash of the process ids */
	uint64_t shared_kib;                       /* exact: what the plain sum counted more than once */
	/* exact: two processes have one address space, or nobody says that they have not */
	bool one_space;
};

extern struct reader exact_sample;

static inline uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* memory_sample.c */
int take_sample(bool exact, struct sample *sample);

/* memory_watch.c */
void end_exact(void);
uint64_t watch_memory(uint64_t now);

#endif
