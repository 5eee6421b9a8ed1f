/* SPDX-License-Identifier: MIT
 *
 * The ledger: a process is followed from the program that it executes to its end, whoever ends it
 * (docs/decisions/ledger.md). Nothing is judged here, and what is read are the kernel's words on a process, from
 * outside the wall.
 */
#include "capsule-core.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_PROCESS_LINES 2000
#define TOLD_BYTES 768
#define FOLLOWED 512
#define READ_MS 20
#define MOST_TRIES 10 /* of a look at a program that is not there yet */
/* descriptors that no process inside can make us use up: what all the rest of the launcher needs at a time */
#define KEPT_FREE 24
#define LOOKS 2 /* at a program that goes on, after the one at its beginning */
#define FIRST_SAMPLE_NS 5000000U
#define SECOND_SAMPLE_NS 100000000U
#define GET_INFO 0xc040ff0bUL /* of a pidfd, as Linux 6.13 first had it */
#define INFO_EXIT 8U          /* from Linux 6.15 on: of a process that its parent has waited for, too */

enum moment { EXECUTES, ENDS, LIVES };
struct exit_info {
	uint64_t mask;
	uint32_t who[13];
	int32_t wait_status;
};
_Static_assert(sizeof(struct exit_info) == 64, "as linux/pidfd.h has it");
struct said { /* by procfs of a process */
	char stat[TOLD_BYTES + 1], status[4096], words[TOLD_BYTES];
	size_t nwords;
	struct bytes name_and_words[2];
	pid_t pid; /* 0: nothing */
};
static struct {
	pid_t pid;
	int pidfd;
	uint64_t started; /* in ticks: with the number it is one process and no other */
	uint64_t words;   /* what it was called before it executed the program */
	unsigned int looks, tries;
	uint64_t look_ns; /* when the next look is due, of LOOKS */
} followed[FOLLOWED];
static unsigned int nfollowed, told;
int exec_ends = -1;

/* Exec events are easily made. Half of the record is kept for all other lines, the ends of processes included. */
static bool is_full(void)
{
	return told >= MAX_PROCESS_LINES || record.kept > record.cap / 2;
}

/* What `stat` says of the process that `pid` names: the name may hold anything, also brackets. */
static void find_name(struct said *said)
{
	const char *name = strchr(said->stat, '('), *behind = strrchr(said->stat, ')');

	if (name == NULL || behind == NULL)
		said->pid = 0;
	said->name_and_words[0] = said->pid > 0 ? (struct bytes){ name + 1, (size_t)(behind - name - 1) } :
						  (struct bytes){ "", 0 };
	said->name_and_words[1] = (struct bytes){ said->words, said->nwords };
}

/* ---- a child that reads, since whoever does may wait (see watcher.c) ---- */

static struct reader reader;
static int to_reader = -1;

/*
 * A thread may speak for its process, and then be it: who executes a program takes over the number and the start of the
 * first. What takes no lock is told first.
 */
static void read_for_launcher(int link) __attribute__((noreturn));
static void read_for_launcher(int link)
{
	static struct said said;
	uint32_t tid;

	use_short_time_slices();
	while (recv(link, &tid, sizeof(tid), 0) == sizeof(tid)) {
		said.nwords = 0;
		said.status[read_of(tid, "/status", said.status, sizeof(said.status) - 1)] = '\0';
		said.pid = (pid_t)status_number(said.status, "\nTgid:");
		said.stat[read_of((uint32_t)said.pid, "/stat", said.stat, TOLD_BYTES)] = '\0';
		if (send(link, &said, sizeof(said), MSG_NOSIGNAL) < 0)
			break;
		said.nwords = read_of(tid, "/cmdline", said.words, TOLD_BYTES);
		if (send(link, &said, sizeof(said), MSG_NOSIGNAL) < 0)
			break;
	}
	_exit(0);
}

static bool start_process_reader(void)
{
	int pair[2], *const kept[] = { &pair[1] };

	close_cleanup(&to_reader);
	to_reader = -1;
	if (!end_reader(&reader, 0) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	to_reader = pair[0];
	if (start_reader(&reader, kept, 1) == 0)
		read_for_launcher(pair[1]);
	close_cleanup(&pair[1]);
	return reader.pid > 0;
}

/* Whether the reader answers within READ_MS, or within twice that if it got no processor in the first. */
static bool has_answer(void)
{
	struct pollfd answer = { .fd = to_reader, .events = POLLIN };
	char text[TOLD_BYTES + 1], *state;

	if (poll(&answer, 1, READ_MS) > 0)
		return true;
	text[read_of((uint32_t)reader.pid, "/stat", text, TOLD_BYTES)] = '\0';
	state = strrchr(text, ')');
	return state != NULL && strncmp(state, ") R", 3) == 0 && poll(&answer, 1, READ_MS) > 0;
}

/*
 * Have a process read. Who can make that wait loses the words, and the reader is replaced; the launcher waits for at
 * most 2 READ_MS in any case, once a round of its loop. False where it was so.
 */
static bool read_process(uint32_t tid, struct said *said)
{
	bool answered = (to_reader >= 0 || start_process_reader())
	    && send(to_reader, &tid, sizeof(tid), MSG_NOSIGNAL) == sizeof(tid);

	said->pid = 0;
	said->nwords = 0;
	said->stat[0] = said->status[0] = '\0';
	for (int i = 0; i < 2 && answered; i++)
		answered = has_answer() && recv(to_reader, said, sizeof(*said), 0) == sizeof(*said);
	find_name(said);
	if (!answered) { /* by the next time it is gone */
		(void)end_reader(&reader, 0);
		close_cleanup(&to_reader);
		to_reader = -1;
	}
	return answered;
}

/* The name and the command line of a process that waits for us. */
void read_name_and_words(uint32_t tid, struct bytes texts[static 2])
{
	static struct said said;

	(void)read_process(tid, &said);
	texts[0] = said.name_and_words[0];
	texts[1] = said.name_and_words[1];
}

void end_process_reader(int wait_ms)
{
	(void)end_reader(&reader, wait_ms);
}

static uint64_t number_inside(const struct said *said)
{
	const char *row = strstr(said->status, "\nNStgid:"), *end = row != NULL ? strchr(row + 1, '\n') : NULL;

	while (end != NULL && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return end != NULL ? status_number(end - 1, "\t") : 0;
}

static void tell(enum moment moment, const struct said *said, uint64_t code)
{
	const uint64_t line[] = { moment, now_ns(), (uint64_t)said->pid, number_inside(said),
		stat_number(said->stat, STAT_PARENT), stat_number(said->stat, STAT_START),
		stat_number(said->stat, STAT_UTIME), stat_number(said->stat, STAT_STIME),
		status_number(said->status, "\nVmHWM:"), code };

	told += moment != LIVES; /* of those there are LOOKS at the most behind each beginning */
	record_line("process", line, 10, said->name_and_words, 2);
}

/* The command line, as a number. */
static uint64_t words_of(const struct said *said)
{
	uint64_t sum = said->nwords;

	for (size_t i = 0; i < said->nwords; i++)
		sum = sum * 31 + (unsigned char)said->words[i];
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
 * It is dead. A zombie still has its times and how it ended in procfs; of one that its parent has waited for the kernel
 * remembers the latter, as long as there is a pidfd. In this order no parent is too quick for both.
 */
static void record_end(unsigned int i)
{
	struct exit_info info = { .mask = INFO_EXIT };
	struct said said;
	bool zombie, known;

	said.pid = 0;
	said.nwords = 0;
	said.stat[0] = '\0';
	/* nobody has waited for it: the number is its own, and a dead process has no memory that reading waits for */
	if (syscall(SYS_pidfd_send_signal, followed[i].pidfd, 0, NULL, 0) == 0) {
		said.pid = followed[i].pid;
		said.stat[read_of((uint32_t)said.pid, "/stat", said.stat, TOLD_BYTES)] = '\0';
	}
	find_name(&said);
	zombie = said.pid > 0 && strncmp(strrchr(said.stat, ')'), ") Z", 3) == 0
	    && stat_number(said.stat, STAT_START) == followed[i].started;
	known = syscall(SYS_ioctl, followed[i].pidfd, GET_INFO, &info) == 0 && (info.mask & INFO_EXIT) != 0;
	if (zombie && !known)
		info.wait_status = (int32_t)stat_number(said.stat, STAT_EXIT);
	record_line("process-ended",
	    (const uint64_t[]){ now_ns(), (uint64_t)followed[i].pid, known || zombie, (uint64_t)info.wait_status,
		zombie, stat_number(said.stat, STAT_UTIME), stat_number(said.stat, STAT_STIME) },
	    7, said.name_and_words, 1);
	unfollow(i);
}

/* Who is followed under this number, or nobody: `nfollowed`. The end of one that had it before is told. */
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
static void follow(unsigned int i, const struct said *said, int *pidfd)
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
		followed[i].pid = said->pid;
		followed[i].started = stat_number(said->stat, STAT_START);
		followed[nfollowed++].pidfd = *pidfd;
		*pidfd = -1;
	}
	followed[i].looks = followed[i].tries = 0;
	followed[i].words = words_of(said);
	followed[i].look_ns = now_ns() + FIRST_SAMPLE_NS;
}

/* Some that are followed have ended. */
void on_exits(void)
{
	struct epoll_event ended[16];
	int some = epoll_wait(exec_ends, ended, 16, 0);

	if (some < 0 && errno != EINTR) { /* it would stay readable: from here on ends are told at the end of the run */
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
}

/* Everybody inside is dead, and waited for by init or the kernel. */
void record_ends(void)
{
	while (nfollowed > 0)
		record_end(0);
}

/*
 * A process that is about to execute a program, or to end: it stands still, so what procfs says is of this moment. The
 * two calls are allowed whatever their arguments. Who looks for its program in one place after another is told once.
 */
void record_exec_event(uint32_t tid, bool ends, uint64_t code, uint64_t id)
{
	struct said said;
	unsigned int i = place_of((pid_t)tid);
	int pidfd CLEANUP_CLOSE = -1;

	if (is_full() || (!ends && i < nfollowed && followed[i].looks == 0))
		return;
	(void)read_process(tid, &said);
	i = place_of(said.pid);
	if (!ends && i == nfollowed)
		pidfd = (int)syscall(SYS_pidfd_open, said.pid, 0);
	if (said.pid == 0 || !still_asks(id))
		return;
	tell(ends ? ENDS : EXECUTES, &said, code);
	if (!ends)
		follow(i, &said, &pidfd);
	else if (i < nfollowed) /* how it ends is known from here on */
		unfollow(i);
}

/*
 * A little after it executed a program, and once more where that may have taken long: what it is now, should it not end
 * by itself. NS from now until the next such look is due, or -1; those that are due are taken.
 */
int64_t sample_followed(void)
{
	uint64_t now = now_ns(), next = UINT64_MAX;
	struct said said;
	bool answered;

	for (unsigned int i = 0; i < nfollowed; i++) {
		if (followed[i].looks < LOOKS && followed[i].look_ns <= now) {
			followed[i].looks++;
			followed[i].look_ns = now + SECOND_SAMPLE_NS;
			answered = read_process((uint32_t)followed[i].pid, &said);
			if ((!answered || words_of(&said) == followed[i].words) && ++followed[i].tries < MOST_TRIES) {
				/* it has not executed the program yet, or cannot be read: a little later */
				followed[i].looks--;
				followed[i].look_ns = now + FIRST_SAMPLE_NS;
			}
			if (!answered)
				return 0; /* the others in the next round */
			/* no words at all: its first thread has ended, and another goes on */
			if (!is_full() && said.pid > 0 && said.name_and_words[1].length > 0
			    && !has_ended(followed[i].pidfd))
				tell(LIVES, &said, 0);
		}
		if (followed[i].looks < LOOKS && followed[i].look_ns < next)
			next = followed[i].look_ns;
	}
	return next == UINT64_MAX ? -1 : (int64_t)(next - now);
}
