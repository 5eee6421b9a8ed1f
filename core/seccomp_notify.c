/* SPDX-License-Identifier: MIT
 *
 * Denied calls, seen from outside. The filter does not answer a denied call itself: the kernel stops the caller and
 * notifies the launcher, which evaluates the same filter, records the call, and answers with an errno, or ends the run.
 *
 * Rule of this file: no call is continued on the strength of what it contains. Memory behind a pointer can change after
 * it was read, so none of the caller's is read, and only numbers that the kernel copied are judged. The two calls of
 * the ledger are continued, since the filter allows them whatever their arguments, and those that the overlay needs
 * help with if the rest of the filter allows them. We wait for no caller: one answer a round of the loop.
 */
#include "launcher.h"
#include <sys/socket.h>

struct instruction {
	uint16_t code;
	uint8_t yes, no;
	uint32_t k;
};
#define LOAD_WORD 0x20
#define KEEP_BITS 0x54
#define RETURN 0x06
#define JUMP 0x05
#define IF_EQUAL 0x15
#define IF_GREATER 0x25
#define IF_AT_LEAST 0x35
#define IF_ANY_BIT 0x45

#define ACTION 0xffff0000U
#define KILL_PROCESS 0x80000000U
#define ERRNO 0x00050000U
#define ASK 0x7fc00000U
#define ALLOW 0x7fff0000U
#define NEW_LISTENER 8U
#define WAIT_KILLABLE 32U

struct call {
	int32_t number;
	uint32_t architecture;
	uint64_t at, argument[6];
};
struct question {
	uint64_t id;
	uint32_t pid, flags;
	struct call call;
};
struct answer {
	uint64_t id;
	int64_t result;
	int32_t error;
	uint32_t flags;
};
_Static_assert(sizeof(struct question) == 80 && sizeof(struct answer) == 24, "as linux/seccomp.h has them");
#define RECEIVE 0xc0502100UL
#define SEND 0xc0182101UL
#define IS_VALID 0x40082102UL
#define SET_FLAGS 0x40082104UL
#define SYNC_WAKE_UP 1UL

#define GO_ON 0xfffeU /* in the place of an errno, from our own instructions alone: record it, and continue */
#define HELP 0xfffdU  /* as well: what follows is the filter for this call; if it allows it, see overlay_calls.c */
#define NEXT_INSTRUCTION ((struct instruction){ JUMP, 0, 0, 0 })
#define CONTINUE 1U
/* of refusals that are listed apart: room for each that the rules name; the rest is counted together */
#define KINDS 192
/* of these, answered ENOSYS: a payload can make as many as there are numbers, and must not crowd out the others */
#define UNKNOWN_KINDS 64

struct notify notify = { -1, -1, false, false, NULL };
static struct instruction program[4096];
static unsigned int length;
static struct {
	int32_t number;
	uint32_t errno_or_end;
	uint64_t count;
} kinds[KINDS];
static unsigned int nkinds, nunknown;
static uint64_t others;

static int ask(unsigned long request, void *about)
{
	/* C libraries differ on the type of a request */
	return (int)syscall(SYS_ioctl, notify.listener, request, about);
}

static unsigned int hex(char c)
{
	return (unsigned int)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* The text of the plan, which plan_check() found to be whole instructions and not too many of them. */
static void read_program(const char *digits)
{
	unsigned char *to = (unsigned char *)program;

	length = (unsigned int)(strlen(digits) / 16);
	for (size_t i = 0; i < length * sizeof(*program); i++)
		to[i] = (unsigned char)(hex(digits[2 * i]) << 4 | hex(digits[2 * i + 1]));
}

static int load(unsigned int flags)
{
	const struct {
		unsigned short length;
		const struct instruction *program;
	} filter = { (unsigned short)length, program };

	return (int)syscall(SYS_seccomp, 1, flags, &filter);
}

/*
 * In the payload, its last measure. If nothing can be notified (a process has one listener at most, and a container
 * around us may have it) the filter gives the same answers itself, and denied calls are not recorded.
 */
int put_on_filter(const char *digits, bool must_ask)
{
	int listener CLEANUP_CLOSE = -1;

	read_program(digits);
	listener = load(NEW_LISTENER | WAIT_KILLABLE);
	if (listener < 0 && errno == EINVAL) /* before 5.19 */
		listener = load(NEW_LISTENER);
	/* those are taken: the kernel did not say this, and `attest` will see why */
	if (listener >= 0 && listener <= LISTENER_FD) {
		listener = -1;
		return 0;
	}
	if (listener >= 0)
		return send_message(LISTENER_FD, "", 1, &listener, 1);
	if (must_ask || (errno != EBUSY && errno != EINVAL)) {
		errno = errno == EBUSY || errno == EINVAL ? EOPNOTSUPP : errno;
		return -1;
	}
	for (unsigned int i = 0; i < length; i++)
		if (program[i].code == RETURN && program[i].k == (ASK | HELP))
			program[i] = NEXT_INSTRUCTION;
		else if (program[i].code == RETURN && (program[i].k & ACTION) == ASK)
			program[i].k = (program[i].k & 0xffff) == GO_ON ? ALLOW :
			    (program[i].k & 0xffff) == END_OF_RUN       ? KILL_PROCESS :
									  ERRNO | (program[i].k & 0xffff);
	return load(0);
}

static bool jumps(const struct instruction *i, uint32_t word)
{
	switch (i->code) {
	case IF_EQUAL: return word == i->k;
	case IF_GREATER: return word > i->k;
	case IF_AT_LEAST: return word >= i->k;
	case IF_ANY_BIT: return (word & i->k) != 0;
	default: return false;
	}
}

/*
 * What the filter says of a call: the kernel took this very program, so every jump goes forward and stays inside.
 * `help` says that it passed the instruction that asks for help, as if that were not there.
 */
static uint32_t judge(const struct call *call, bool *help)
{
	uint32_t word = 0;

	for (unsigned int at = 0; at < length; at++) {
		const struct instruction *i = &program[at];

		if (i->code == RETURN && i->k == (ASK | HELP))
			*help = true;
		else if (i->code == RETURN)
			return i->k;
		else if (i->code == LOAD_WORD)
			memcpy(&word, (const char *)call + i->k, sizeof(word));
		else if (i->code == KEEP_BITS)
			word &= i->k;
		else
			at += i->code == JUMP ? i->k : jumps(i, word) ? i->yes : i->no;
	}
	return KILL_PROCESS;
}

/* Whether the caller still waits: else it has died, and its process id may be that of another. */
bool still_asks(uint64_t id)
{
	return ask(IS_VALID, &id) == 0;
}

/*
 * A new kind is recorded at once, with its process; of the others only the number is kept. So a flood costs us what it
 * costs the caller, and no more memory than this table.
 */
static void note(struct question *asked, uint32_t errno_or_end)
{
	const struct call *call = &asked->call;
	const uint64_t *a = call->argument;
	struct bytes who[2];

	for (unsigned int i = 0; i < nkinds; i++)
		if (kinds[i].number == call->number && kinds[i].errno_or_end == errno_or_end) {
			kinds[i].count++;
			return;
		}
	if (nkinds == KINDS || (errno_or_end == ENOSYS && nunknown == UNKNOWN_KINDS)) {
		others++;
		return;
	}
	nunknown += errno_or_end == ENOSYS;
	kinds[nkinds].number = call->number;
	kinds[nkinds].errno_or_end = errno_or_end;
	kinds[nkinds++].count = 1;
	read_name_and_words(asked->pid, who);
	if (!still_asks(asked->id))
		who[0].length = who[1].length = 0;
	record_texts("denied", who, 2, (uint32_t)call->number, errno_or_end, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static int send_answer(struct answer answer)
{
	return ask(SEND, &answer) < 0 && errno != ENOENT ? -1 : 0; /* ENOENT: the caller has died */
}

/* The overlay's helper has done what it could: let the call go on, or fail. */
int answer_overlay_call(uint64_t id, int error)
{
	return send_answer((struct answer){ .id = id, .error = error, .flags = error == 0 ? CONTINUE : 0 });
}

/* Allowed by the rest of the filter. */
static const char *answer_helped(const struct question *asked)
{
	struct overlay_call call = { .id = asked->id, .tid = asked->pid, .number = asked->call.number };

	memcpy(call.argument, asked->call.argument, sizeof(call.argument));
	if (help_overlay_call(&call) == 0 || answer_overlay_call(asked->id, 0) == 0)
		return NULL;
	return "lost";
}

/* One question. NULL, or why the run must end; then the caller is not answered any more. */
static const char *answer_one(void)
{
	struct question asked = { 0 };
	struct answer answer = { 0 };
	uint32_t verdict;
	bool help = false;

	if (ask(RECEIVE, &asked) < 0)
		return errno == ENOENT || errno == EINTR ? NULL : "lost"; /* the caller has died */
	verdict = judge(&asked.call, &help);
	if (help && (verdict & ACTION) == ALLOW)
		return answer_helped(&asked);
	if ((verdict & ACTION) != ASK)
		return "lost";
	answer.id = asked.id;
	if ((verdict & 0xffff) == GO_ON) {
		record_exec_event(asked.pid, asked.call.number == SYS_exit_group, asked.call.argument[0], asked.id);
		answer.flags = CONTINUE;
		return send_answer(answer) < 0 ? "lost" : NULL;
	}
	note(&asked, verdict & 0xffff);
	if ((verdict & 0xffff) == END_OF_RUN)
		return "syscall";
	answer.error = -(int32_t)(verdict & 0xffff);
	return send_answer(answer) < 0 ? "lost" : NULL;
}

static void close_socket(void)
{
	close_cleanup(&notify.socket);
	notify.socket = -1;
}

/* In the record, once there is one: a payload that waits has its filter before that. */
void record_listening(void)
{
	if (notify.listener >= 0)
		record_line("listening", NULL, 0, NULL, 0);
}

/* The payload sends the listener before exec, which closes the socket: nobody else can send one. */
static const char *take_listener(void)
{
	char byte;
	int fds[MAX_FDS];
	unsigned int nfds = 0;
	ssize_t got = receive_message(notify.socket, &byte, sizeof(byte), fds, &nfds);

	if (got == 0 || !notify.waits)
		close_socket();
	if (got == 0)
		return NULL; /* executed, and nobody to be asked */
	if (got != 1 || nfds != 1)
		return "lost";
	notify.listener = fds[0];
	/* since 6.6: the caller waits for us, so our processor may as well be its own; before, it is only slower */
	(void)syscall(SYS_ioctl, notify.listener, SET_FLAGS, SYNC_WAKE_UP);
	read_program(notify.program);
	for (unsigned int i = 0; i < length; i++)
		notify.records_exec |= program[i].code == RETURN && program[i].k == (ASK | GO_ON);
	record_listening();
	return NULL;
}

/* Something has come in. Returns NULL, or why the run must end. */
const char *on_notify(short events)
{
	if (notify.listener < 0)
		return take_listener();
	if (events & POLLIN)
		return answer_one();
	close_cleanup(&notify.listener); /* the last process under the filter is gone */
	notify.listener = -1;
	return NULL;
}

/* The launcher's end of a new pair; `inner` is what the payload sends the listener through. */
int start_notify(const struct plan *plan, int *inner)
{
	struct step step;
	int pair[2];

	if (!plan_find(plan, "filter", &step) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	notify.program = step.field[0];
	notify.socket = pair[0];
	*inner = pair[1];
	return 0;
}

/* To a payload that is confined, or about to be. */
int send_command(const struct bytes *rest)
{
	ssize_t sent = send(notify.socket, rest->at, rest->length, MSG_DONTWAIT | MSG_NOSIGNAL);

	notify.waits = false;
	if (notify.listener >= 0)
		close_socket();
	return sent == (ssize_t)rest->length ? 0 : -1;
}

void record_denied_calls(void)
{
	for (unsigned int i = 0; i < nkinds; i++)
		record_numbers("denied-count", (uint32_t)kinds[i].number, kinds[i].errno_or_end, kinds[i].count);
	if (others > 0)
		record_numbers("denied-others", others);
}
