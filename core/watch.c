/* SPDX-License-Identifier: MIT
 *
 * The memory watch of the launcher, for hosts that give us no cgroup: there memory cannot be waited for, only looked at.
 * It reads init's procfs from outside the wall, where nothing inside can name, slow or starve it.
 */
#include "capsule-core.h"
#include <sys/timerfd.h>
#include <sys/vfs.h>

/* What a tree of processes can touch in a millisecond, as measured with room to spare; it sets how often we must look. */
#define KIB_PER_MS 8192
#define LONGEST_PAUSE_US 50000
#define SHORTEST_PAUSE_US 500
#define FIRST_LOOK_US 5000
#define SECOND_LOOK_US 4000
#define LARGE 8 /* parts of the limit: what has one of them is looked at for a twin */

struct watch memory = { -1, -1, -1, false, 0, 0, 0, 0 };
static uint64_t large[LARGE];
static uint64_t set, shmem_kib; /* of this look: which processes there are, and what they have of shared memory */
static struct {
	uint64_t kib, set, shmem_kib;
} twice; /* what the last exact look found to be counted more than once, among whom, and with how much shared memory */
static unsigned int nlarge;
static bool twins;

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

/* The number behind a name at the start of a line, in the KiB that procfs gives; 0 where the line is not there. */
static uint64_t kib_of(const char *text, const char *name)
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

/* Between vfork and exec two processes show one memory, which is less than twice the limit: of those there are few. */
static void look_for_twin(uint64_t kib)
{
	if (kib < memory.limit_kib / LARGE)
		return;
	for (unsigned int i = 0; i < nlarge; i++)
		twins |= (kib > large[i] ? kib - large[i] : large[i] - kib) < kib / LARGE;
	if (nlarge < LARGE)
		large[nlarge++] = kib;
}

/*
 * One process (or, where its first thread has ended, one of its others): anonymous, shared, swapped and page tables.
 * Shared by whom, only the slower smaps_rollup knows: it is asked when the plain sum, which counts pages after a fork
 * once for each process, would be too much.
 */
static int process_kib(int dir, const char *pid, bool exact, uint64_t *sum)
{
	char text[4096];
	uint64_t before = *sum;

	if (read_proc(dir, pid, "/status", text, sizeof(text)) < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	memory.tasks += kib_of(text, "\nThreads:");
	if (strstr(text, "\nRssAnon:") == NULL)
		return 1;
	*sum += kib_of(text, "\nVmPTE:") + kib_of(text, "\nVmSwap:");
	shmem_kib += kib_of(text, "\nRssShmem:");
	if (exact && read_proc(dir, pid, "/smaps_rollup", text, sizeof(text)) == 0)
		*sum += kib_of(text, "\nPss_Anon:") + kib_of(text, "\nPss_Shmem:");
	else
		*sum += kib_of(text, "\nRssAnon:") + kib_of(text, "\nRssShmem:");
	look_for_twin(*sum - before);
	return 0;
}

/* All the numbers of a procfs directory: processes, or the threads of one until the first that still has memory. */
static int sum_kib(int parent, const char *name, bool exact, uint64_t *sum)
{
	_Alignas(uint64_t) char buffer[4096];
	char tasks[64];
	int dir CLEANUP_CLOSE = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long got = 0, at = 0;
	uint64_t before = memory.tasks;
	int more, looked = 1;

	if (dir < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	while ((more = next_name(dir, buffer, sizeof(buffer), &got, &at, &name)) > 0) {
		bool threads = parent != memory.proc;

		if (*name < '0' || *name > '9' || (!threads && strcmp(name, "1") == 0))
			continue;
		if (!threads)
			set = set * 31 + number(name);
		looked = process_kib(dir, name, exact, sum);
		append(tasks, append(tasks, 0, sizeof(tasks), name), sizeof(tasks), "/task");
		if (looked < 0 || (looked > 0 && !threads && sum_kib(dir, tasks, exact, sum) < 0))
			return -1;
		if (threads && looked == 0)
			break;
	}
	if (parent != memory.proc)
		memory.tasks = before; /* counted with their process */
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

static int look_once(bool exact, uint64_t *used)
{
	struct statfs fs;

	memory.tasks = set = shmem_kib = nlarge = twins = 0;
	if (fstatfs(memory.tmpfs, &fs) < 0)
		return -1;
	*used = (uint64_t)(fs.f_blocks - fs.f_bfree) * ((uint64_t)fs.f_bsize >> 10);
	if (sum_kib(memory.proc, ".", exact, used) < 0)
		return -1;
	if (memory.tasks > memory.most_tasks)
		memory.most_tasks = memory.tasks;
	return 0;
}

/*
 * At least so much, from the plain sum. As long as nobody comes or goes, anonymous memory can only become less shared, so what
 * was counted twice may be taken off; shared memory that came since may be counted already, and is taken off too.
 */
static uint64_t least_kib(uint64_t plain)
{
	uint64_t off = twice.kib + (shmem_kib > twice.shmem_kib ? shmem_kib - twice.shmem_kib : 0);

	return plain > off ? plain - off : 0;
}

/*
 * An exact look waits for every process that is about to get memory, tens of milliseconds on a busy machine, in which others
 * grow. So it is taken only where the plain sum is over the limit, and what the last one found does not decide.
 */
static int used_kib(uint64_t *used)
{
	uint64_t plain, among;

	if (look_once(false, &plain) < 0)
		return -1;
	*used = plain;
	if (plain <= memory.limit_kib)
		return 0;
	if (set == twice.set && (*used = least_kib(plain)) > memory.limit_kib) {
		twins = false;
		return 0;
	}
	among = set;
	if (look_once(true, used) < 0)
		return -1;
	if (*used > memory.limit_kib)
		return 0;
	if (look_once(false, &plain) < 0) /* behind it: what was got meanwhile may not pass for shared */
		return -1;
	twice.kib = plain > *used ? plain - *used : 0;
	twice.shmem_kib = shmem_kib;
	twice.set = among == set ? set : 0;
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
	if (used > memory.peak_kib)
		memory.peak_kib = used;
	memory.over = used > memory.limit_kib;
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

int start_watch(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "memory-watch", &step))
		return 0;
	memory.limit_kib = number(step.field[0]) >> 10;
	memory.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return memory.timer < 0 ? -1 : look_in(FIRST_LOOK_US);
}
