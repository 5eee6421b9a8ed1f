/* SPDX-License-Identifier: MIT
 *
 * Exec events: a process is followed from the program that it executes to its end, however it ends
 * (docs/decisions/ledger.md). Nothing is judged here: what procfs says is read from outside the sandbox, and recorded.
 */
#include "capsule-core.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_PROCESS_LINES 2000
#define WORDS_BYTES 768
#define FOLLOWED 512
#define KEPT_FREE 24 /* descriptors that following processes must leave for the rest of the launcher */
#define READ_MS 40
#define SAMPLES 6 /* of a program after it began, each after twice the time of the one before */
#define FIRST_SAMPLE_NS 5000000U
#define PIDFD_GET_INFO 0xc040ff0bUL /* as Linux 6.13 first had it */
#define PIDFD_INFO_EXIT 8U          /* from Linux 6.15 on: also of a process that its parent has waited for */

enum moment { EXECUTES, ENDS, LIVES };
struct exit_info {
	uint64_t mask;
	uint32_t who[13];
	int32_t wait_status;
};
_Static_assert(sizeof(struct exit_info) == 64, "as linux/pidfd.h has it");
/* What procfs says of a process. */
struct process {
	char stat[WORDS_BYTES + 1], status[4096], words[WORDS_BYTES + 1];
	size_t nwords;
	struct bytes name_and_words[2];
	pid_t pid; /* 0: nothing */
};
static struct {
	pid_t pid;
	int pidfd;
	uint64_t started; /* in ticks: with the number it is one process and no other */
	uint64_t words;   /* a hash of the command line that was recorded last */
	unsigned int samples;
	uint64_t sample_ns; /* when the next one is due, of SAMPLES */
} followed[FOLLOWED];
static unsigned int nfollowed, nlines;
int exec_ends = -1;

/* Exec events are easily made. Half of the record is kept for all other lines, the ends of processes included. */
static bool is_full(void)
{
	return nlines >= MAX_PROCESS_LINES || record.kept > record.cap / 2;
}

/* The name in `stat` is between the first bracket and the last one, and may hold anything, also brackets. */
static void find_name(struct process *p)
{
	const char *name = strchr(p->stat, '('), *end = strrchr(p->stat, ')');

	if (name == NULL || end == NULL)
		p->pid = 0;
	p->name_and_words[0] = p->pid > 0 ? (struct bytes){ name + 1, (size_t)(end - name - 1) } :
					    (struct bytes){ "", 0 };
	p->name_and_words[1] = (struct bytes){ p->words, p->nwords };
}

/* ---- a child that reads, since reading may wait (see watcher.c) ---- */

static struct reader reader = NO_READER;

/*
 * `tid` may be a thread that speaks for its process, and then becomes it: a thread that executes a program takes over
 * the id and the start time of the first. What can be read without a lock is sent first.
 */
static void read_for_launcher(void) __attribute__((noreturn));
static void read_for_launcher(void)
{
	static struct process p;
	pid_t tid;

	use_short_time_slices();
	while (recv(READER_LINK, &tid, sizeof(tid), 0) == sizeof(tid)) {
		p.nwords = 0;
		(void)read_host_proc(tid, "/status", p.status, sizeof(p.status));
		p.pid = (pid_t)status_number(p.status, "\nTgid:");
		(void)read_host_proc(p.pid, "/stat", p.stat, sizeof(p.stat));
		if (send(READER_LINK, &p, sizeof(p), MSG_NOSIGNAL) < 0)
			break;
		p.nwords = read_host_proc(tid, "/cmdline", p.words, sizeof(p.words));
		if (send(READER_LINK, &p, sizeof(p), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

/*
 * Have a process read, and wait READ_MS for each of two answers, once a round of the launcher's loop. A process that
 * delays the second keeps its words to itself, and the reader is replaced. Returns whether both came.
 */
static bool read_process(pid_t tid, struct process *p)
{
	bool answered;

	p->pid = 0;
	p->nwords = 0;
	p->stat[0] = p->status[0] = '\0';
	if (reader.link < 0 && start_reader(&reader, NULL, 0) == 0)
		read_for_launcher();
	answered = reader.link >= 0 && send(reader.link, &tid, sizeof(tid), MSG_NOSIGNAL) == sizeof(tid);
	for (int i = 0; i < 2 && answered; i++)
		answered = poll(&(struct pollfd){ .fd = reader.link, .events = POLLIN }, 1, READ_MS) > 0
		    && recv(reader.link, p, sizeof(*p), MSG_WAITALL) == sizeof(*p);
	find_name(p);
	if (!answered)
		(void)end_reader(&reader, 0); /* it is gone by the next time */
	return answered;
}

/* The name and the command line of a process that waits for us. */
void read_name_and_words(uint32_t tid, struct bytes texts[static 2])
{
	static struct process p;

	(void)read_process((pid_t)tid, &p);
	texts[0] = p.name_and_words[0];
	texts[1] = p.name_and_words[1];
}

void end_process_reader(int wait_ms)
{
	(void)end_reader(&reader, wait_ms);
}

/* The process id inside: the last number of its line. */
static uint64_t id_inside(const struct process *p)
{
	const char *row = strstr(p->status, "\nNStgid:"), *end = row != NULL ? strchr(row + 1, '\n') : NULL;

	while (end != NULL && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return end != NULL ? number(end) : 0;
}

static void record_process(enum moment moment, const struct process *p, uint64_t code)
{
	nlines += moment != LIVES; /* of those there are SAMPLES at the most after each beginning */
	record_texts("process", p->name_and_words, 2, moment, now_ns(), (uint64_t)p->pid, id_inside(p),
	    stat_number(p->stat, STAT_PARENT), stat_number(p->stat, STAT_START), stat_number(p->stat, STAT_UTIME),
	    stat_number(p->stat, STAT_STIME), status_number(p->status, "\nVmHWM:"), code);
}

static uint64_t hash_of_words(const struct process *p)
{
	uint64_t sum = p->nwords;

	for (size_t i = 0; i < p->nwords; i++)
		sum = sum * 31 + (unsigned char)p->words[i];
	return sum;
}

static bool has_ended(int pidfd)
{
	return poll(&(struct pollfd){ .fd = pidfd, .events = POLLIN }, 1, 0) > 0;
}

static void unfollow(unsigned int i)
{
	/* closing is not enough: a post-mortem under way has a copy, and its end would be reported again and again */
	(void)epoll_ctl(exec_ends, EPOLL_CTL_DEL, followed[i].pidfd, NULL);
	close_cleanup(&followed[i].pidfd);
	followed[i] = followed[--nfollowed];
}

/*
 * It is dead. A zombie still has its times and its wait status in procfs; of a process that its parent has waited for,
 * the kernel knows the latter as long as there is a pidfd. In this order no parent is too quick for both.
 */
static void record_end(unsigned int i)
{
	struct exit_info info = { .mask = PIDFD_INFO_EXIT };
	struct process p = { .pid = followed[i].pid };
	bool is_zombie, is_known;

	/* nobody has waited for it: the number is its own, and a dead process has no memory that reading waits for */
	if (syscall(SYS_pidfd_send_signal, followed[i].pidfd, 0, NULL, 0) == 0)
		(void)read_host_proc(p.pid, "/stat", p.stat, sizeof(p.stat));
	find_name(&p);
	is_zombie = stat_state(p.stat) == 'Z' && stat_number(p.stat, STAT_START) == followed[i].started;
	is_known = syscall(SYS_ioctl, followed[i].pidfd, PIDFD_GET_INFO, &info) == 0 && info.mask & PIDFD_INFO_EXIT;
	if (is_zombie && !is_known)
		info.wait_status = (int32_t)stat_number(p.stat, STAT_EXIT);
	record_texts("process-ended", p.name_and_words, 1, now_ns(), (uint64_t)followed[i].pid, is_known || is_zombie,
	    (uint64_t)info.wait_status, is_zombie, stat_number(p.stat, STAT_UTIME), stat_number(p.stat, STAT_STIME));
	unfollow(i);
}

/* The place of the process with this id, or `nfollowed`. If the one that had it has ended, its end is recorded. */
static unsigned int place_of(pid_t pid)
{
	unsigned int i = 0;

	while (i < nfollowed && followed[i].pid != pid)
		i++;
	if (i < nfollowed && has_ended(followed[i].pidfd)) {
		record_end(i);
		i = nfollowed;
	}
	return i;
}

/* Whether a new descriptor leaves enough free for the rest: the kernel gives the lowest number that is free. */
static bool leaves_enough(int fd)
{
	static struct rlimit files;

	if (files.rlim_cur == 0 && getrlimit(RLIMIT_NOFILE, &files) < 0)
		return false;
	return fd >= 0 && (rlim_t)fd + KEPT_FREE < files.rlim_cur;
}

/* Follow a process at place `i`. If there is no room or no pidfd for it, its end is counted as a lost line. */
static void follow(unsigned int i, const struct process *p, int *pidfd)
{
	struct epoll_event ended = { .events = EPOLLIN, .data.fd = *pidfd };

	if (exec_ends < 0)
		exec_ends = epoll_create1(EPOLL_CLOEXEC);
	if (i == nfollowed) {
		if (nfollowed == FOLLOWED || !leaves_enough(*pidfd)
		    || epoll_ctl(exec_ends, EPOLL_CTL_ADD, *pidfd, &ended) < 0) {
			record.lost++;
			return;
		}
		followed[i].pid = p->pid;
		followed[i].started = stat_number(p->stat, STAT_START);
		followed[nfollowed++].pidfd = *pidfd;
		*pidfd = -1;
	}
	followed[i].samples = 0;
	followed[i].words = hash_of_words(p);
	followed[i].sample_ns = now_ns() + FIRST_SAMPLE_NS;
}

/* Some of those that are followed have ended. Returns NULL: this is never why the run must end. */
const char *on_exits(void)
{
	struct epoll_event ended[16];
	int some = epoll_wait(exec_ends, ended, 16, 0);

	if (some < 0
	    && errno != EINTR) { /* it would stay readable: from here on ends are recorded at the end of the run */
		close_cleanup(&exec_ends);
		exec_ends = -1;
		record.lost++;
	}
	for (int n = 0; n < some; n++)
		for (unsigned int i = 0; i < nfollowed; i++)
			if (followed[i].pidfd == ended[n].data.fd) {
				record_end(i);
				break;
			}
	return NULL;
}

/* Every process inside is dead, and waited for by init or the kernel. */
void record_ends(void)
{
	while (nfollowed > 0)
		record_end(0);
}

/*
 * A process that is about to execute a program, or to end. It waits for us, so that procfs describes this moment. A
 * process that tries its program in one directory after another is recorded once.
 */
void record_exec_event(uint32_t tid, bool ends, uint64_t code, uint64_t id)
{
	struct process p;
	unsigned int i = place_of((pid_t)tid);
	int pidfd CLEANUP_CLOSE = -1;

	if (is_full() || (!ends && i < nfollowed && followed[i].samples == 0))
		return;
	(void)read_process((pid_t)tid, &p);
	i = place_of(p.pid);
	if (!ends && i == nfollowed)
		pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0);
	if (p.pid == 0 || !still_asks(id))
		return;
	record_process(ends ? ENDS : EXECUTES, &p, code);
	if (!ends)
		follow(i, &p, &pidfd);
	else if (i < nfollowed) /* how it ends is known from here on */
		unfollow(i);
}

/* One sample of a process at place `i`: recorded if it has become another program, and if it is the last. */
static bool sample_one(unsigned int i, uint64_t now)
{
	struct process p;
	bool answered = read_process(followed[i].pid, &p);

	followed[i].sample_ns = now + ((uint64_t)FIRST_SAMPLE_NS << ++followed[i].samples);
	/* no words at all: its first thread has ended, and another goes on */
	if (p.pid == 0 || p.nwords == 0 || is_full() || has_ended(followed[i].pidfd))
		return answered;
	if (followed[i].samples == SAMPLES || hash_of_words(&p) != followed[i].words)
		record_process(LIVES, &p, 0);
	followed[i].words = hash_of_words(&p);
	return answered;
}

/* Take the samples that are due: what a process is now, should it not end by itself. NS until the next one, or -1. */
int64_t sample_followed(void)
{
	uint64_t now = now_ns(), next = UINT64_MAX;

	for (unsigned int i = 0; i < nfollowed; i++) {
		if (followed[i].samples < SAMPLES && followed[i].sample_ns <= now && !sample_one(i, now))
			return 0; /* the others in the next round */
		if (followed[i].samples < SAMPLES && followed[i].sample_ns < next)
			next = followed[i].sample_ns;
	}
	return next == UINT64_MAX ? -1 : (int64_t)(next - now);
}
