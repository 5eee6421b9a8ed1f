/* SPDX-License-Identifier: MIT
 *
 * The launcher's pumps: bytes from one descriptor to another, counted and capped, by splice(2) where the pair allows
 * it. Nothing here may wait: the launcher's clock and kill depend on its loop coming round.
 */
#include "capsule-core.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define PIPE_BYTES (1 << 20)
#define CHUNK (1U << 20)
#define LONG_STREAM (1U << 20)
#define BREATH_NS 100000

#define TAIL_BYTES (4 * LONE_TEXT_BYTES)

/* The last bytes of stderr, also of what only passes through: its words say why a command failed. */
static struct {
	size_t length;
	char bytes[TAIL_BYTES];
	int pipe[2]; /* takes a copy of what is spliced; made for the first bytes */
} tail = { .pipe = { -1, -1 } };

static void keep_tail(const struct pump *p, const char *at, size_t length)
{
	size_t stays;

	if (!p->keeps_tail)
		return;
	if (length > TAIL_BYTES) {
		at += length - TAIL_BYTES;
		length = TAIL_BYTES;
	}
	stays = tail.length < TAIL_BYTES - length ? tail.length : TAIL_BYTES - length;
	memmove(tail.bytes, tail.bytes + tail.length - stays, stays);
	memcpy(tail.bytes + stays, at, length);
	tail.length = stays + length;
}

/* splice(2); of stderr a copy is made first, of which the part that was moved is kept. */
static ssize_t splice_and_keep(struct pump *p, size_t allowed)
{
	size_t copied = 0, got = 0;
	ssize_t moved, n = -1;

	if (p->keeps_tail && (tail.pipe[0] >= 0 || pipe2(tail.pipe, O_CLOEXEC | O_NONBLOCK) == 0))
		n = tee(p->from, tail.pipe[1], allowed, SPLICE_F_NONBLOCK);
	if (n > 0)
		allowed = copied = (size_t)n;
	moved = splice(p->from, NULL, p->to, NULL, allowed, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	for (int error = errno; got < copied; errno = error) {
		n = read(tail.pipe[0], p->buffer, sizeof(p->buffer));
		if (n <= 0)
			break;
		if (moved > (ssize_t)got)
			keep_tail(p, p->buffer, moved - (ssize_t)got < n ? (size_t)moved - got : (size_t)n);
		got += (size_t)n;
	}
	return moved;
}

void record_tail(void)
{
	for (size_t at = 0; at < tail.length; at += LONE_TEXT_BYTES)
		record_line("stderr-tail", NULL, 0, &(struct bytes){ &tail.bytes[at], tail.length - at }, 1);
}

static bool pump_end(struct pump *p)
{
	close_cleanup(&p->from);
	close_cleanup(&p->to);
	p->from = p->to = -1;
	return false;
}

/* Reading or writing failed with `errno`, which goes into the report; bytes that were not written are not kept. */
static bool pump_failed(struct pump *p)
{
	p->error = errno;
	p->kept -= p->have - p->done;
	return pump_end(p);
}

/* At the cap: bytes that wait now are the proof that there were more. A reader that has left wants none of them. */
static bool pump_over(struct pump *p)
{
	struct pollfd sink = { .fd = p->to }; /* no events: POLLERR is always reported */
	int waiting = 0;
	ssize_t got;

	if (poll(&sink, 1, 0) > 0 && sink.revents & POLLERR) {
		errno = EPIPE;
		return pump_failed(p);
	}
	if (ioctl(p->from, FIONREAD, &waiting) < 0 || waiting == 0)
		return pump_end(p);
	p->over = true;
	if (!p->truncate) {
		p->total += (uint64_t)waiting;
		return pump_end(p);
	}
	got = read(p->from, p->buffer, sizeof(p->buffer));
	if (got <= 0)
		return pump_end(p);
	p->total += (uint64_t)got;
	keep_tail(p, p->buffer, (size_t)got);
	return true;
}

static bool pump_copy(struct pump *p, size_t allowed)
{
	ssize_t n;

	if (p->done == p->have) {
		n = read(p->from, p->buffer, allowed < sizeof(p->buffer) ? allowed : sizeof(p->buffer));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0)
			return n < 0 && !(p->terminal && errno == EIO) ? pump_failed(p) : pump_end(p);
		p->total += (uint64_t)n;
		p->kept += (uint64_t)n;
		p->have = (size_t)n;
		p->done = 0;
		keep_tail(p, p->buffer, p->have);
	}
	n = p->socket ? send(p->to, p->buffer + p->done, p->have - p->done, MSG_DONTWAIT | MSG_NOSIGNAL) :
			write(p->to, p->buffer + p->done, p->have - p->done);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return pump_failed(p);
	p->blocked = n < 0;
	if (n > 0)
		p->done += (size_t)n;
	return true;
}

/*
 * A command that writes a lot does so in small pieces, and would wake us for each. Once a stream is long, let some
 * gather: a tenth of a millisecond is nothing to who reads it, and less than a wake-up costs both.
 */
static void breathe(const struct pump *p, size_t moved)
{
	const struct timespec pause = { .tv_nsec = BREATH_NS };

	if (p->kept > LONG_STREAM && moved < PIPE_BYTES / 4)
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* Move what can be moved without waiting. Returns false when this pump has ended, for whatever reason. */
bool pump(struct pump *p)
{
	uint64_t left = p->cap - p->kept;
	size_t allowed = left < CHUNK ? (size_t)left : CHUNK;
	int waiting = 0;
	ssize_t n;

	if (p->copy && p->done < p->have)
		return pump_copy(p, allowed);
	if (allowed == 0)
		return pump_over(p);
	if (p->copy)
		return pump_copy(p, allowed);
	n = splice_and_keep(p, allowed);
	if (n < 0 && errno == EINVAL) {
		p->copy = true;
		return pump_copy(p, allowed);
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return pump_failed(p);
	/* the payload can read its own output back: an empty pipe must not pass for a full sink, or we would spin */
	p->blocked = n < 0 && ioctl(p->from, FIONREAD, &waiting) == 0 && waiting > 0;
	if (n > 0) {
		p->kept += (uint64_t)n;
		p->total += (uint64_t)n;
		breathe(p, (size_t)n);
	}
	return n != 0 || pump_end(p);
}

/* A pipe for the command. Larger pipes mean fewer wake-ups; an account at its limit for pipes keeps what it has. */
int open_output(struct pump *p, int *inner)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	p->from = ends[0];
	*inner = ends[1];
	(void)fcntl(p->from, F_SETPIPE_SZ, PIPE_BYTES);
	return fcntl(p->from, F_SETFL, O_NONBLOCK);
}

/* Where the plan wants what comes out of it, and how much. */
int set_output(struct pump *p, const struct plan *plan, const char *name)
{
	struct step step;
	struct stat st;

	if (!plan_find(plan, name, &step))
		return -1;
	p->to = plan->fds[number(step.field[0])];
	p->cap = number(step.field[1]);
	p->truncate = strcmp(step.field[2], "truncate") == 0;
	p->keeps_tail = strcmp(name, "stderr") == 0;
	if (fstat(p->to, &st) < 0)
		return -1;
	p->copy = p->socket = S_ISSOCK(st.st_mode);
	(void)fcntl(p->to, F_SETPIPE_SZ, PIPE_BYTES); /* fails where it is no pipe */
	return 0;
}

int open_input(struct pump *p, int *inner)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	p->to = ends[1];
	p->cap = UINT64_MAX;
	*inner = ends[0];
	return fcntl(p->to, F_SETFL, O_NONBLOCK);
}

/* What the command reads through the pipe, if there is one; without a `stdin` step nobody writes to it. */
void set_input(struct pump *p, const struct plan *plan)
{
	struct step step;

	if (p->to < 0)
		return;
	if (plan_find(plan, "stdin", &step)) {
		p->from = plan->fds[number(step.field[0])];
	} else {
		close_cleanup(&p->to);
		p->to = -1;
	}
}
