/* SPDX-License-Identifier: MIT
 *
 * The watcher: a child of the launcher that reads init's procfs from outside the sandbox, for the memory limit on hosts that
 * give us no cgroup (there memory cannot be waited for, only sampled), and for the limit of processor time.
 *
 * Law of this file: whoever reads a file of procfs may wait for the process that it tells of. `smaps_rollup` waits for its
 * mmap_lock and walks its page tables; even `status` and `stat` hold its memory for a moment, and who lets go of it last
 * takes it down, whatever that takes. So the launcher's thread reads none of them. It starts the watcher, and hears of it by
 * an eventfd and a shared page; a watcher that is stuck is replaced. The watcher in turn reads nothing that takes a lock or
 * a walk: the exact sample is a child's of its own, with a deadline.
 */
#include "capsule-core.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#define MS 1000000ULL /* in nanoseconds, as all times of the watcher */
/* What a tree of processes can touch in a millisecond, as measured with room to spare; it sets how often to sample. */
#define KIB_PER_MS 8192
#define LONGEST_PAUSE (50 * MS)
#define SHORTEST_PAUSE (MS / 2)
#define FIRST_SAMPLE (5 * MS)
#define SECOND_SAMPLE (4 * MS)
#define WHILE_SAMPLING (2 * MS)
/* Of an exact sample, without what it waited for a processor, and with it: then the plain sum is believed. */
#define SAMPLE_DEADLINE (100 * MS)
#define SAMPLE_DEADLINE_WHEN_BUSY (500 * MS)
#define STUCK (250 * MS)           /* a watcher that has done nothing for so long is replaced */
#define CHECK_MS 25                /* how often the launcher asks whether it is */
#define MOST_WATCHERS 8
#define ANSWER_MS 10
#define SAME_MEMORY 1 /* of kcmp(2): KCMP_VM */
#define PID_FROM_NAMESPACE _IOR(0xb7, 6, int) /* of a pid namespace, from Linux 6.11 on */
#define MOST_SPACES 128
#define NEW_PEAK 16      /* a sum that is larger by one part of so many is worth an exact sample */
#define KEEP_POLICY 0x08 /* of sched_setattr(2) */
#define SLICE_NS 100000  /* the shortest that it takes */

/* A sample of all processes: the plain one adds up `status`, the exact one divides what processes share. */
struct sample {
	uint64_t used_kib, floor_kib; /* the second: what one process has for itself, with the files in memory */
	uint64_t set, processes, tasks, shmem_kib; /* the first: a hash of the process ids */
	uint64_t shared_kib;          /* exact: what the plain sum counted more than once */
	bool one_space;               /* exact: two processes have one address space, or nobody says that they have not */
};

struct watch memory = { .wake = -1, .ask = -1, .timer = -1, .proc = -1, .tmpfs = -1 };
static struct sampled nothing_sampled;
struct sampled *sampled = &nothing_sampled;

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

/* ---- samples ---- */

/*
 * The pid namespace of the room, to have our numbers for those inside: that of a process of its procfs which has one number
 * only, and so is in no namespace further in. Init's own is not shown to us.
 */
static int open_pid_namespace(const char *pid)
{
	char text[4096];
	const char *at;
	int dir CLEANUP_CLOSE = openat(memory.proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 || read_proc(dir, "", "status", text, sizeof(text)) < 0 || (at = strstr(text, "\nNSpid:\t")) == NULL)
		return -1;
	at += strlen("\nNSpid:\t");
	return at[strspn(at, "0123456789")] == '\n' ? openat(dir, "ns/pid", O_RDONLY | O_CLOEXEC) : -1;
}

/*
 * Whether a process has the address space of one that this sample has counted: between vfork and exec, or for good where a
 * program wants it so. It is asked before the process is read: two that are different now were never one when they are read.
 */
static bool has_counted_space(const char *pid, struct sample *sample)
{
	static long counted[MOST_SPACES];
	static unsigned int ncounted;
	static int space = -1;
	long ours, differ;

	if (sample->processes == 1) /* the first of this sample */
		ncounted = 0;
	if (space < 0)
		space = open_pid_namespace(pid);
	ours = syscall(SYS_ioctl, space, PID_FROM_NAMESPACE, number(pid));
	if (ours < 0) {
		sample->one_space |= errno != ESRCH;
		return false;
	}
	for (unsigned int i = 0; i < ncounted; i++) {
		differ = syscall(SYS_kcmp, counted[i], ours, SAME_MEMORY, 0, 0);
		if (differ == 0)
			return true;
		sample->one_space |= differ < 0 && errno != ESRCH;
	}
	if (ncounted < MOST_SPACES)
		counted[ncounted++] = ours;
	return false;
}

/*
 * One process: anonymous, shared, swapped and page tables. By whom memory is shared, only `smaps_rollup` knows. It is read
 * first: what comes between the two readings may pass for shared, and never be counted as what it is not.
 * Returns 0, 1 where the first thread has ended and so has no memory, or -1.
 */
static int sample_process(int dir, const char *pid, bool exact, bool counted, struct sample *sample)
{
	char text[4096], rollup[4096];
	uint64_t own, shmem, twice = 0;

	rollup[0] = '\0';
	if (exact && !counted)
		(void)read_proc(dir, pid, "/smaps_rollup", rollup, sizeof(rollup));
	if (read_proc(dir, pid, "/status", text, sizeof(text)) < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	sample->tasks += status_number(text, "\nThreads:");
	if (strstr(text, "\nRssAnon:") == NULL)
		return 1;
	if (counted) { /* both have memory, so it is no missing one that they have in common */
		sample->one_space = true;
		return 0;
	}
	if (status_number(text, "\nVmRSS:") > sampled->largest_kib) {
		sampled->largest_kib = status_number(text, "\nVmRSS:");
		sampled->files_kib = status_number(text, "\nRssFile:");
	}
	own = status_number(text, "\nRssAnon:") + status_number(text, "\nVmPTE:") + status_number(text, "\nVmSwap:");
	shmem = status_number(text, "\nRssShmem:");
	if (*rollup != '\0') {
		twice = status_number(text, "\nRssAnon:") + shmem;
		twice -= least(twice, status_number(rollup, "\nPss_Anon:") + status_number(rollup, "\nPss_Shmem:"));
	}
	sample->floor_kib = own > sample->floor_kib ? own : sample->floor_kib;
	sample->shmem_kib += shmem;
	sample->shared_kib += twice;
	sample->used_kib += own + shmem - twice;
	return 0;
}

/* The threads of a process whose first one has ended, until one that still has memory. */
static int sample_threads(int parent, const char *pid, bool exact, struct sample *sample)
{
	_Alignas(uint64_t) char buffer[4096];
	char path[64];
	int dir CLEANUP_CLOSE = -1;
	long got = 0, at = 0;
	uint64_t tasks = sample->tasks; /* counted with their process */
	const char *name;
	int more, found = 1;

	append(path, append(path, 0, sizeof(path), pid), sizeof(path), "/task");
	dir = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT || errno == ESRCH ? 0 : -1;
	while (found > 0 && (more = next_name(dir, buffer, sizeof(buffer), &got, &at, &name)) > 0)
		if (*name >= '0' && *name <= '9')
			found = sample_process(dir, name, exact, false, sample);
	sample->tasks = tasks;
	return found < 0 ? -1 : 0;
}

static int take_sample(bool exact, struct sample *sample)
{
	_Alignas(uint64_t) char buffer[4096];
	int dir CLEANUP_CLOSE = openat(memory.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;
	long got = 0, at = 0;
	const char *name;
	uint64_t files;
	int more;

	memset(sample, 0, sizeof(*sample));
	if (dir < 0 || fstatfs(memory.tmpfs, &fs) < 0)
		return -1;
	while ((more = next_name(dir, buffer, sizeof(buffer), &got, &at, &name)) > 0) {
		int found;

		if (*name < '0' || *name > '9' || strcmp(name, "1") == 0)
			continue;
		sample->set = sample->set * 31 + number(name);
		sample->processes++;
		found = sample_process(dir, name, exact, exact && has_counted_space(name, sample), sample);
		if (found < 0 || (found > 0 && sample_threads(dir, name, exact, sample) < 0))
			return -1;
	}
	files = (uint64_t)(fs.f_blocks - fs.f_bfree) * ((uint64_t)fs.f_bsize >> 10);
	sample->used_kib += files;
	sample->floor_kib += files;
	if (sample->tasks > sampled->most_tasks)
		sampled->most_tasks = sample->tasks;
	return more < 0 && errno != ENOENT && errno != ESRCH ? -1 : 0;
}

/* ---- children of ours that read procfs ---- */

/*
 * A session of our own, and short turns in it (from Linux 6.12 on): where processors are short, the kernel shares them out
 * among sessions (autogroups, sched(7)), and a sample would wait for all that the caller's session does besides. It takes a
 * third of a millisecond, while init builds the room. Where either is refused, samples come later and no other.
 */
void take_turns(void)
{
	const struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} turns = { .size = sizeof(turns), .flags = KEEP_POLICY, .nice = getpriority(PRIO_PROCESS, 0), .runtime = SLICE_NS };

	(void)setsid();
	(void)syscall(SYS_sched_setattr, 0, &turns, 0);
}

/*
 * Start a process that reads procfs, and dies with its parent: 0 in the child, which has the descriptors that it is given,
 * moved to 0, 1 and so on, and no other; none of the caller's, of Python's or of the room's streams is kept open by it.
 */
int start_reader(struct reader *reader, int *const *kept, int nkept)
{
	pid_t parent = getpid();

	reader->pid = clone_process(0, &reader->pidfd, -1);
	if (reader->pid != 0)
		return reader->pid < 0 ? -1 : 1;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	for (int i = 0; i < nkept; i++) /* first out of the way of each other */
		if (*kept[i] >= 0 && (*kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, nkept)) < 0)
			_exit(1);
	for (int i = 0; i < nkept; i++)
		if (*kept[i] >= 0 && (*kept[i] = dup3(*kept[i], i, O_CLOEXEC)) < 0)
			_exit(1);
	if (close_from((unsigned int)nkept) < 0)
		_exit(1);
	return 0;
}

/* End it, and wait for so long: it may be in the middle of a walk that no signal ends. Whether it is gone. */
bool end_reader(struct reader *reader, int wait_ms)
{
	struct pollfd dead = { .fd = reader->pidfd, .events = POLLIN };

	if (reader->pid <= 0)
		return true;
	(void)syscall(SYS_pidfd_send_signal, reader->pidfd, SIGKILL, NULL, 0);
	if (poll(&dead, 1, wait_ms) <= 0)
		return false;
	(void)waitpid(reader->pid, NULL, __WALL);
	close_cleanup(&reader->pidfd);
	*reader = (struct reader){ 0, -1 };
	return true;
}

/* ---- the watcher ---- */

static struct {
	struct reader reader;
	int from;                  /* -1: none is under way */
	bool failed;
	uint64_t began_ns, due_ns; /* the second: none before, so that they take half of a processor and no more */
	uint64_t plain_kib;        /* the plain sum that the last one was taken for */
	struct sample last;
} exact = { .from = -1 };
static uint64_t over_ns; /* since when the plain sum is over the limit, and no exact one says otherwise */
static bool over_before; /* so was the last exact sample */

void wake_launcher(void)
{
	static const uint64_t one = 1;

	(void)!write(memory.wake, &one, sizeof(one)); /* its counter cannot be full */
}

/* End everybody inside but init, from here: a hog grows for as long as init, which is asked next, waits for a processor. */
static void kill_everybody(void)
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

/* The watcher's last word. */
void conclude(enum verdict verdict)
{
	sampled->verdict = verdict; /* before the first of them can be dead */
	wake_launcher();
	if (verdict == MEMORY)
		kill_everybody();
	_exit(0);
}

static void over_limit(uint64_t used_kib) __attribute__((noreturn));
static void over_limit(uint64_t used_kib)
{
	if (used_kib > sampled->peak_kib)
		sampled->peak_kib = used_kib;
	conclude(MEMORY);
}

/*
 * At least so much, from the plain sum and the last exact sample. As long as nobody comes or goes, anonymous memory can only
 * become less shared, so what was counted twice may be taken off; shared memory that came since may be counted already, and
 * is taken off too. Where two have one address space, nothing is known. One process shares only shared memory, with itself.
 */
static uint64_t least_kib(const struct sample *plain)
{
	uint64_t off = exact.last.shared_kib;

	if (plain->processes == 1)
		off = plain->shmem_kib;
	else if (plain->set != exact.last.set || exact.last.one_space)
		return 0;
	else if (plain->shmem_kib > exact.last.shmem_kib)
		off += plain->shmem_kib - exact.last.shmem_kib;
	return plain->used_kib - least(plain->used_kib, off);
}

/* Without a process to take it (the one before may be stuck in the kernel) nothing answers until the deadline. */
static void start_exact(const struct sample *plain)
{
	int ends[2], *const kept[] = { &ends[1], &memory.proc, &memory.tmpfs };
	struct sample sample;

	if (!end_reader(&exact.reader, 0) || pipe2(ends, O_CLOEXEC) < 0)
		return;
	exact.failed = false;
	exact.began_ns = now_ns();
	exact.plain_kib = plain->used_kib;
	if (start_reader(&exact.reader, kept, 3) == 0)
		_exit(take_sample(true, &sample) < 0 || write(ends[1], &sample, sizeof(sample)) != sizeof(sample));
	close_cleanup(&ends[1]);
	exact.from = ends[0];
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
 * The exact sample is there, or has failed. One that is over the limit is believed when the next is over it, too, or a plain
 * sum proves it: it is not of one moment, and what one process gives up on the way may be another's part by then.
 */
static void end_exact(void)
{
	struct sample sample;
	uint64_t now = now_ns(), pause;
	bool over;

	exact.failed = read(exact.from, &sample, sizeof(sample)) != sizeof(sample);
	close_cleanup(&exact.from);
	exact.from = -1;
	if (exact.failed)
		return;
	over = over_ns && sample.used_kib > memory.limit_kib;
	if (over && over_before)
		over_limit(sample.used_kib);
	if (!over && sample.used_kib > sampled->peak_kib)
		sampled->peak_kib = sample.used_kib;
	over_before = over;
	over_ns = 0;
	exact.last = sample;
	pause = over ? SECOND_SAMPLE : pause_ns(sample.used_kib);
	exact.due_ns = now + (pause > now - exact.began_ns ? pause : now - exact.began_ns);
}

/*
 * Whether the exact sample is late: it has failed, has waited for a lock for too long, or has computed for too long. That it
 * waits for a processor is nobody's fault inside, for a while: then it is runnable now, or the kernel has counted it.
 */
static bool is_late(uint64_t waited_ns)
{
	char text[1024], *state;
	uint64_t ran_ns, delayed_ns;

	if (exact.failed || waited_ns > SAMPLE_DEADLINE_WHEN_BUSY)
		return true;
	if (waited_ns <= SAMPLE_DEADLINE)
		return false;
	text[read_of((uint32_t)exact.reader.pid, "/schedstat", text, sizeof(text) - 1)] = '\0';
	ran_ns = status_number(text, "");
	delayed_ns = (state = strchr(text, ' ')) != NULL ? status_number(state, " ") : 0;
	text[read_of((uint32_t)exact.reader.pid, "/stat", text, sizeof(text) - 1)] = '\0';
	state = strrchr(text, ')');
	if (state != NULL && strncmp(state, ") R", 3) == 0)
		return ran_ns > SAMPLE_DEADLINE;
	return waited_ns > SAMPLE_DEADLINE + delayed_ns;
}

/*
 * Whether an exact sample is due: the plain sum is over the limit, or so much above the one that the last was taken for as
 * to be a new peak. Where it grew by more than was left then, it does not wait for its time.
 */
static bool wants_exact(const struct sample *plain, uint64_t now)
{
	uint64_t left = memory.limit_kib - least(memory.limit_kib, exact.last.used_kib);

	if (plain->used_kib > memory.limit_kib)
		return now >= exact.due_ns || plain->used_kib > exact.plain_kib + left;
	return plain->processes > 1 && now >= exact.due_ns && plain->used_kib > memory.limit_kib / NEW_PEAK
	       && plain->used_kib > exact.plain_kib + exact.plain_kib / NEW_PEAK;
}

/* Take the plain sample and judge it. Returns how long until the next one, in ns from the beginning of this one. */
static uint64_t watch_memory(uint64_t now)
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
	if (exact.from < 0 && wants_exact(&plain, now))
		start_exact(&plain);
	if (!over)
		over_ns = over_before = 0;
	else if (over_ns == 0 && (exact.from >= 0 || now >= exact.due_ns))
		over_ns = now;
	if (over_ns && is_late(now - over_ns))
		over_limit(plain.used_kib);
	return over_ns ? WHILE_SAMPLING : pause_ns(over ? exact.last.used_kib : plain.used_kib);
}

static void answer_launcher(void)
{
	uint64_t times;

	(void)!read(memory.ask, &times, sizeof(times));
	sample_cpu();
	sampled->answered = sampled->asked;
	wake_launcher();
}

static void watch_room(void) __attribute__((noreturn));
static void watch_room(void)
{
	uint64_t memory_ns = memory.limit_kib ? now_ns() + FIRST_SAMPLE : UINT64_MAX;
	uint64_t cpu_ns = cpu.limit_us ? now_ns() + FIRST_SAMPLE : UINT64_MAX;
	struct pollfd polls[2] = { { .events = POLLIN }, { .fd = memory.ask, .events = POLLIN } };

	for (;;) {
		uint64_t now = now_ns(), next;
		struct timespec pause;

		sampled->alive_ns = now;
		if (now >= memory_ns)
			memory_ns = now + watch_memory(now);
		if (now >= cpu_ns)
			cpu_ns = now + watch_cpu() * 1000;
		next = least(memory_ns, cpu_ns);
		now = now_ns();
		next = next > now + SHORTEST_PAUSE ? next - now : SHORTEST_PAUSE;
		next = least(next, LONGEST_PAUSE); /* a sign of life */
		pause = (struct timespec){ .tv_nsec = (long)next };
		polls[0].fd = exact.from;
		if (ppoll(polls, 2, &pause, NULL) <= 0)
			continue;
		if (polls[0].revents)
			end_exact();
		if (polls[1].revents)
			answer_launcher();
	}
}

/* ---- the launcher's side ---- */

static struct reader watchers[MOST_WATCHERS];
static unsigned int nwatchers;

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
	take_turns();
	page = mmap(NULL, sizeof(*sampled), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memory.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	memory.ask = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	memory.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (page == MAP_FAILED || memory.wake < 0 || memory.ask < 0 || memory.timer < 0)
		return -1;
	sampled = page;
	return 0;
}

/* Where a watch was asked for: start the watcher, or one in the place of one that is stuck. */
int start_watcher(void)
{
	const struct itimerspec often = { { 0, CHECK_MS * MS }, { 0, CHECK_MS * MS } };
	int *const kept[] = { &memory.wake, &memory.ask, &memory.proc, &memory.tmpfs, &cpu.group };

	if (memory.wake < 0)
		return 0;
	if (nwatchers == MOST_WATCHERS || timerfd_settime(memory.timer, 0, &often, NULL) < 0)
		return -1;
	sampled->alive_ns = now_ns();
	if (start_reader(&watchers[nwatchers], kept, 5) == 0)
		watch_room();
	return watchers[nwatchers].pid > 0 ? (int)nwatchers++ : -1;
}

/* Once in a while. A watcher that is stuck cannot be ended, but it can be replaced. */
const char *check_watcher(void)
{
	uint64_t ticks;

	if (read(memory.timer, &ticks, sizeof(ticks)) != sizeof(ticks) || sampled->verdict != NONE || now_ns() < sampled->alive_ns + STUCK)
		return NULL;
	for (unsigned int i = nwatchers; i-- > 0;)
		if (end_reader(&watchers[i], 0))
			watchers[i] = watchers[--nwatchers];
	sampled->cpu_untracked = true; /* the next one does not know what this one knew */
	return start_watcher() < 0 ? "lost" : NULL;
}

/* One more sample of processor time, before everybody is killed; who cannot take it in ANSWER_MS is not waited for. */
void ask_watcher(void)
{
	static const uint64_t one = 1;
	struct pollfd answer = { .fd = memory.wake, .events = POLLIN };

	if (sampled->cpu_sampled && sampled->verdict == NONE && sampled->asked++ == 0 && write(memory.ask, &one, sizeof(one)) == sizeof(one))
		(void)poll(&answer, 1, ANSWER_MS);
}

/* The watcher may have something to say: NULL, or why the run must end, once. */
const char *hear_watcher(void)
{
	static const char *const why[] = { [NONE] = NULL, [MEMORY] = "memory", [CPU] = "cpu", [LOST] = "lost" };
	uint64_t wakes;

	if (memory.wake < 0 || read(memory.wake, &wakes, sizeof(wakes)) != sizeof(wakes))
		return NULL;
	if (sampled->verdict == CPU) /* what was judged: the sums of the end are taken another way */
		record_line("spent", &(uint64_t){ sampled->cpu_used_us }, 1, NULL, 0);
	else if (sampled->verdict == NONE && sampled->cpu_over)
		(void)start_mortem();
	return why[sampled->verdict];
}

void end_watch(int wait_ms)
{
	for (unsigned int i = 0; i < nwatchers; i++)
		if (!end_reader(&watchers[i], wait_ms))
			wait_ms = 0;
}
