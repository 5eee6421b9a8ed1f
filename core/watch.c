/* SPDX-License-Identifier: MIT
 *
 * The memory watch of the launcher, for hosts that give us no cgroup: there memory cannot be waited for, only looked at.
 * It reads init's procfs from outside the wall, where nothing inside can name, slow or starve it.
 */
#include "capsule-core.h"
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>

/* What a tree of processes can touch in a millisecond, as measured with room to spare; it sets how often we must look. */
#define KIB_PER_MS 8192
#define LONGEST_PAUSE_US 50000
#define SHORTEST_PAUSE_US 500
#define FIRST_LOOK_US 5000
#define SECOND_LOOK_US 4000
#define SAME_MEMORY 1 /* of kcmp(2): KCMP_VM */
#define PID_FROM_NAMESPACE _IOR(0xb7, 6, int) /* of a pid namespace, from Linux 6.11 on */
#define LARGE 16 /* parts of the peak: what has one of them is looked at for a twin */
#define MOST_LARGE 32
#define ALIKE 8 /* parts of the smaller: two that differ by less may be one memory */
#define BETWEEN_NS 1000000
#define KEEP_POLICY 0x08 /* of sched_setattr(2) */
#define TURN_NS 100000   /* the least that it takes */

struct watch memory = { .timer = -1, .proc = -1, .tmpfs = -1 };
static struct seen {
	uint64_t set, processes, tasks, shmem_kib, twice_kib; /* which there are, how many; counted more than once, as far as asked */
	unsigned int nlarge;
	struct {
		uint64_t pid, kib;
	} large[MOST_LARGE];
} seen; /* by this look */
static struct {
	uint64_t kib, set, shmem_kib;
} twice; /* what the last exact look found to be counted more than once, among whom, and with how much shared memory */
static uint64_t looked_ns, proven_kib; /* of an exact look: when the last plain one on its way was, and what that proved */
static int space = -1;         /* the pid namespace of the room, once somebody in it was large */
static bool doubled;           /* two large processes have one memory */
static bool twins;             /* two are alike, and the kernel does not say whether they have one */

/* Read a file of procfs: 0, or -1 with errno. A process that has ended is ENOENT or ESRCH. */
int read_proc(int dir, const char *pid, const char *name, char *text, size_t size)
{
	char path[64];
	int fd CLEANUP_CLOSE = -1;
	ssize_t got;

	append(path, append(path, 0, sizeof(path), pid), sizeof(path), name);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, size - 1);
	text[got < 0 ? 0 : got] = '\0';
	return got < 0 ? -1 : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The number behind a name at the start of a line, in the KiB that procfs gives; 0 where the line is not there. */
uint64_t status_number(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	uint64_t n = 0;

	if (at == NULL)
		return 0;
	for (at += strlen(name); *at == ' ' || *at == '\t'; at++)
		;
	for (; *at >= '0' && *at <= '9'; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	return n;
}

/* What a status file counts for one process; false where there is no memory behind it. */
static bool status_kib(const char *text, uint64_t *kib)
{
	*kib = status_number(text, "\nRssAnon:") + status_number(text, "\nRssShmem:") + status_number(text, "\nVmPTE:") + status_number(text, "\nVmSwap:");
	return strstr(text, "\nRssAnon:") != NULL;
}

/*
 * One process (or, where its first thread has ended, one of its others): anonymous, shared, swapped and page tables.
 * Shared by whom, only the slower smaps_rollup knows: it is asked when the plain sum, which counts pages after a fork
 * once for each process, would be too much. It is read first: what comes between the two readings may pass for shared,
 * and never be counted as what it is not.
 */
static int process_kib(int dir, const char *pid, bool exact, uint64_t *sum)
{
	char text[4096], rollup[4096];
	uint64_t kib, shared;

	rollup[0] = '\0';
	if (exact)
		(void)read_proc(dir, pid, "/smaps_rollup", rollup, sizeof(rollup));
	if (read_proc(dir, pid, "/status", text, sizeof(text)) < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	seen.tasks += status_number(text, "\nThreads:");
	if (!status_kib(text, &kib))
		return 1;
	seen.shmem_kib += status_number(text, "\nRssShmem:");
	if (status_number(text, "\nVmRSS:") > memory.largest_kib) {
		memory.largest_kib = status_number(text, "\nVmRSS:");
		memory.files_kib = status_number(text, "\nRssFile:");
	}
	if (*rollup != '\0') {
		shared = status_number(text, "\nRssAnon:") + status_number(text, "\nRssShmem:");
		shared -= least(shared, status_number(rollup, "\nPss_Anon:") + status_number(rollup, "\nPss_Shmem:"));
		seen.twice_kib += shared;
		kib -= shared;
	}
	*sum += kib;
	if (kib > memory.peak_kib / LARGE && seen.nlarge < MOST_LARGE) {
		seen.large[seen.nlarge].pid = number(pid);
		seen.large[seen.nlarge++].kib = kib;
	}
	return 0;
}

static bool is_proven(void);

/* All the numbers of a procfs directory: processes, or the threads of one until the first that still has memory. */
static int sum_kib(int parent, const char *name, bool exact, uint64_t *sum)
{
	_Alignas(uint64_t) char buffer[4096];
	char tasks[64];
	int dir CLEANUP_CLOSE = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got = 0, at = 0;
	uint64_t before = seen.tasks;
	int more, looked = 1;

	if (dir < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	while ((more = next_name(dir, buffer, sizeof(buffer), &got, &at, &name)) > 0) {
		bool threads = parent != memory.proc;

		if (*name < '0' || *name > '9' || (!threads && strcmp(name, "1") == 0))
			continue;
		if (!threads) {
			seen.set = seen.set * 31 + number(name);
			seen.processes++;
			if (exact && is_proven())
				return -1;
		}
		looked = process_kib(dir, name, exact, sum);
		append(tasks, append(tasks, 0, sizeof(tasks), name), sizeof(tasks), "/task");
		if (looked < 0 || (looked > 0 && !threads && sum_kib(dir, tasks, exact, sum) < 0))
			return -1;
		if (threads && looked == 0)
			break;
	}
	if (parent != memory.proc)
		seen.tasks = before; /* counted with their process */
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

static int look_once(bool exact, uint64_t *used)
{
	struct statfs fs;

	memset(&seen, 0, sizeof(seen));
	if (fstatfs(memory.tmpfs, &fs) < 0)
		return -1;
	*used = (uint64_t)(fs.f_blocks - fs.f_bfree) * ((uint64_t)fs.f_bsize >> 10);
	if (sum_kib(memory.proc, ".", exact, used) < 0)
		return -1;
	if (seen.tasks > memory.most_tasks)
		memory.most_tasks = seen.tasks;
	return 0;
}

/*
 * At least so much, from the plain sum. As long as nobody comes or goes, anonymous memory can only become less shared, so what
 * was counted twice may be taken off; shared memory that came since may be counted already, and is taken off too.
 */
static uint64_t least_kib(uint64_t plain)
{
	uint64_t off = twice.kib + (seen.shmem_kib > twice.shmem_kib ? seen.shmem_kib - twice.shmem_kib : 0);

	return plain - least(plain, off);
}

/* On the way of an exact look, which can be long: whether a plain one proves enough by now. */
static bool is_proven(void)
{
	const struct seen before = seen;
	uint64_t plain;

	if (now_ns() - looked_ns < BETWEEN_NS)
		return false;
	if (look_once(false, &plain) == 0 && seen.set == twice.set && least_kib(plain) > memory.limit_kib)
		proven_kib = least_kib(plain);
	looked_ns = now_ns();
	seen = before;
	return proven_kib > 0;
}

/* How much less than that a process has now: all of it where it has ended, and nothing where only its first thread has. */
static uint64_t shrunk_kib(uint64_t pid, uint64_t kib)
{
	char text[4096], name[24];
	uint64_t now;

	append_number(name, 0, sizeof(name), pid);
	if (read_proc(memory.proc, name, "/status", text, sizeof(text)) < 0)
		return errno == ENOENT || errno == ESRCH ? kib : 0;
	return status_kib(text, &now) || status_number(text, "\nThreads:") < 2 ? kib - least(kib, now) : 0;
}

/*
 * The pid namespace of the room, to have our numbers for those inside: that of a process of its procfs which has one number
 * only, and so is in no namespace further in. Init's own is not shown to us.
 */
static int open_space(uint64_t pid)
{
	char text[4096], name[24];
	const char *at;
	int dir CLEANUP_CLOSE = -1;

	append_number(name, 0, sizeof(name), pid);
	dir = openat(memory.proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || read_proc(dir, "", "status", text, sizeof(text)) < 0 || (at = strstr(text, "\nNSpid:\t")) == NULL)
		return -1;
	at += strlen("\nNSpid:\t");
	return at[strspn(at, "0123456789")] == '\n' ? openat(dir, "ns/pid", O_RDONLY | O_CLOEXEC) : -1;
}

/*
 * Between vfork and exec two processes show one memory, and as long as they like where a program wants it so. What the kernel
 * says is one is counted once. What it says are two is read again, since one of them may have been the other's when it was
 * read, and two never become one. Where it does not say, they are twins: both count, but the next look decides.
 */
static uint64_t once_each(uint64_t used)
{
	bool two[MOST_LARGE] = { false };
	long pids[MOST_LARGE];

	for (unsigned int j = 0; j < seen.nlarge; j++) {
		if (space < 0)
			space = open_space(seen.large[j].pid);
		pids[j] = syscall(SYS_ioctl, space, PID_FROM_NAMESPACE, seen.large[j].pid);
		for (unsigned int i = 0; i < j; i++) {
			uint64_t *one = &seen.large[i].kib, *other = &seen.large[j].kib, less = least(*one, *other);
			long differ;

			if (*one + *other - 2 * less >= less / ALIKE)
				continue;
			differ = syscall(SYS_kcmp, pids[i], pids[j], SAME_MEMORY, 0, 0);
			twins |= differ < 0;
			two[i] |= differ != 0;
			two[j] |= differ != 0;
			if (differ == 0) {
				*one = *one + *other - less;
				*other = 0;
				used -= less;
				doubled = true;
			}
		}
	}
	for (unsigned int i = 0; i < seen.nlarge; i++)
		used -= two[i] ? shrunk_kib(seen.large[i].pid, seen.large[i].kib) : 0;
	return used;
}

/*
 * An exact look takes its time, tens of milliseconds on a busy machine, in which others grow. So it is taken ahead, when the
 * plain sum is past half of the limit and nobody comes or goes; else only where the plain sum is over the limit and what the
 * last one found does not decide. One process shares nothing but shared memory, with itself.
 */
static int used_kib(uint64_t *used)
{
	static uint64_t before; /* which there were at the last look */
	uint64_t exact, among;
	bool ahead;

	twins = doubled = false;
	if (look_once(false, used) < 0)
		return -1;
	ahead = seen.set == before && seen.set != twice.set && seen.processes > 1 && *used > memory.limit_kib / 2;
	among = before = seen.set;
	if (*used > least(memory.limit_kib, memory.peak_kib + memory.peak_kib / LARGE))
		*used = once_each(*used);
	if (seen.processes == 1) {
		twice.kib = twice.shmem_kib = 0;
		twice.set = seen.set;
	}
	if (*used <= memory.limit_kib && !ahead)
		return 0;
	if (!doubled && seen.set == twice.set && least_kib(*used) > memory.limit_kib) {
		*used = least_kib(*used);
		twins = false;
		return 0;
	}
	looked_ns = now_ns();
	proven_kib = 0;
	if (look_once(true, &exact) < 0) {
		*used = proven_kib;
		return proven_kib > 0 ? 0 : -1;
	}
	exact = once_each(exact);
	if (*used > memory.limit_kib)
		*used = exact;
	twice.kib = seen.twice_kib;
	twice.shmem_kib = seen.shmem_kib;
	twice.set = among == seen.set && !doubled ? seen.set : 0;
	return 0;
}

static int look_in(uint64_t us)
{
	const struct itimerspec when = { .it_value.tv_nsec = (long)us * 1000 };

	return timerfd_settime(memory.timer, 0, &when, NULL);
}

/*
 * Look once. A look that is over the limit is believed at once, or where two large processes are alike when a second one is
 * over it, too. Returns NULL, or why the run must end; what cannot be looked at is not taken for nothing. The next look is
 * when the rest could be used up at the earliest, counted from the beginning of this one, which may itself have been long.
 */
const char *watch_memory(void)
{
	uint64_t began = now_ns(), used, us, spent;
	bool again = memory.over;

	if (used_kib(&used) < 0)
		return "lost";
	memory.over = used > memory.limit_kib;
	if (used > memory.peak_kib && (!memory.over || again || !twins))
		memory.peak_kib = used;
	if (memory.over && (again || !twins))
		return "memory";
	us = memory.over ? SECOND_LOOK_US : (memory.limit_kib - used) * 1000 / KIB_PER_MS;
	us = us > LONGEST_PAUSE_US ? LONGEST_PAUSE_US : us;
	spent = (now_ns() - began) / 1000;
	return look_in(us > spent + SHORTEST_PAUSE_US ? us - spent : SHORTEST_PAUSE_US) < 0 ? "lost" : NULL;
}

/*
 * End everybody inside but init, from here: a hog grows for as long as init, which is asked next, waits for a processor.
 * A directory of procfs stands for its process. Who is missed, or may not be reached, is init's.
 */
void strike(void)
{
	_Alignas(uint64_t) char buffer[4096];
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got = 0, at = 0;
	const char *name;

	while (dir >= 0 && next_name(dir, buffer, sizeof(buffer), &got, &at, &name) > 0)
		if (*name >= '1' && *name <= '9' && strcmp(name, "1") != 0) {
			int process CLEANUP_CLOSE = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			(void)syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
		}
}

/*
 * A session of our own, and short turns in it (from Linux 6.12 on): where processors are short, the kernel shares them out
 * among sessions (autogroups, sched(7)), and a look would wait for all that the caller's session does besides. It takes a
 * third of a millisecond, while init builds the room. Where either is refused, looks come later and no other.
 */
static void take_turns(void)
{
	const struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} turns = { .size = sizeof(turns), .flags = KEEP_POLICY, .nice = getpriority(PRIO_PROCESS, 0), .runtime = TURN_NS };

	(void)setsid();
	(void)syscall(SYS_sched_setattr, 0, &turns, 0);
}

int start_watch(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "memory-watch", &step))
		return 0;
	take_turns();
	memory.limit_kib = number(step.field[0]) >> 10;
	memory.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return memory.timer < 0 ? -1 : look_in(FIRST_LOOK_US);
}
