/* SPDX-License-Identifier: MIT
 *
 * The payload, before it is the command: forked by init into a user namespace of its own, it gives up everything that
 * the command must not have, puts the filter on, and execs. It reports by the status pipe, which closes on exec.
 *
 * Rule of this file: the steps run in the order of the plan, which plan_check() enforced; docs/order-of-operations.md
 * gives the reasons. Nothing is undone, nothing is retried, and the first failure is the last act.
 */
#include "capsule-core.h"
#include <linux/futex.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define KEYCTL_GET_ID 0
#define KEYCTL_JOIN 1
#define KEYRING_SESSION (-3)
#define CAP_LAST 63
/* keep-caps stays off; root gains nothing by exec or by a change of ids; no ambient set. All of them locked. */
#define SECUREBITS (0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x80)

/* One id each way. The namespace's own first process writes the map, and is dumpable for this alone. */
static int write_own_map(const struct room *room, const char *file, const char *id)
{
	char text[32];

	put(&TEXT_IN(text), id, " 0 1");
	return write_file(room->proc, file, text);
}

ACT(id)
{
	if (prctl(PR_SET_DUMPABLE, 1) < 0 || write_file(room->proc, "thread-self/setgroups", "deny") < 0)
		return -1;
	if (write_own_map(room, "thread-self/gid_map", step->field[1]) < 0
	    || write_own_map(room, "thread-self/uid_map", step->field[0]) < 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 0);
}

ACT(umask)
{
	umask(octal(step->field[0]));
	return 0;
}

/* Added to what the caller already has: nobody may ask for less of it. The kernel stops at 19. */
ACT(nice)
{
	int now = getpriority(PRIO_PROCESS, 0);
	uint64_t more = number(step->field[0]);

	return setpriority(PRIO_PROCESS, 0, now + (more > 39 ? 39 : (int)more));
}

static uint64_t limit_up_to(uint64_t most, const char *wanted)
{
	uint64_t limit = strcmp(wanted, "unlimited") == 0 ? UINT64_MAX : number(wanted);

	return limit < most ? limit : most;
}

/*
 * rlimit RESOURCE SOFT HARD. A hard limit of the caller's that is lower stays: it is the host's word, and nothing here
 * has the right to raise it.
 */
ACT(rlimit)
{
	struct {
		uint64_t soft, hard;
	} limit, now;
	int resource = (int)number(step->field[0]);

	if (syscall(SYS_prlimit64, 0, resource, NULL, &now) < 0)
		return -1;
	limit.hard = limit_up_to(now.hard, step->field[2]);
	limit.soft = limit_up_to(limit.hard, step->field[1]);
	return (int)syscall(SYS_prlimit64, 0, resource, &limit, NULL);
}

/* As the payload's own id, and beneath the new root: there is no other any more. */
ACT(cwd)
{
	return chdir(step->field[0]);
}

/*
 * A new, empty session keyring instead of the caller's. A kernel without keys has none to share. If a container's
 * filter denies the call, it must deny reading the old one as well, for then no process inside can.
 */
ACT(new_keyring)
{
	if (syscall(SYS_keyctl, KEYCTL_JOIN, NULL, 0, 0, 0) >= 0 || errno == ENOSYS)
		return 0;
	if (errno != EPERM)
		return -1;
	if (syscall(SYS_keyctl, KEYCTL_GET_ID, KEYRING_SESSION, 0, 0, 0) < 0 && errno == EPERM)
		return 0;
	errno = EPERM;
	return -1;
}

ACT(no_new_privs)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Reduce permitted and effective to `keep`; inheritable, and with it ambient, to nothing. */
int drop_capabilities(uint64_t keep)
{
	struct {
		uint32_t version;
		int pid;
	} head = { 0x20080522, 0 };
	const uint32_t low = (uint32_t)keep, high = (uint32_t)(keep >> 32);
	const uint32_t sets[2][3] = { { low, low, 0 }, { high, high, 0 } };

	return (int)syscall(SYS_capset, &head, sets);
}

/* Bounding set and securebits first, while the right to change them is there; then the sets themselves. */
ACT(no_capabilities)
{
	for (unsigned long cap = 0; cap <= CAP_LAST; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL && cap > 37)
				break; /* beyond this kernel's last; 37 is older than any kernel we run on */
			return -1;
		}
	if (prctl(PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0) < 0
	    || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -1;
	return drop_capabilities(0);
}

struct landlock_ruleset_v6 {
	uint64_t handled_fs, handled_net, scoped;
};
struct landlock_path {
	uint64_t allowed;
	int32_t parent;
} __attribute__((packed));

/*
 * landlock ABI RIGHTS SCOPES: the newest first. The first that this kernel knows is taken and the others are passed
 * over; where Landlock is off none is, and the report says so: it is one more layer, not one of the floor.
 */
ACT(landlock)
{
	struct landlock_ruleset_v6 rules = { number(step->field[1]), 0, number(step->field[2]) };
	size_t size = rules.scoped ? sizeof(rules) : sizeof(rules.handled_fs);
	long abi;

	if (room->landlock >= 0)
		return 0;
	abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	if (abi < (long)number(step->field[0]))
		return abi >= 0 || errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -1;
	room->landlock = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	room->landlock_handled = rules.handled_fs;
	room->landlock_abi = (int)number(step->field[0]);
	return room->landlock < 0 ? -1 : 0;
}

/* The request's word: without Landlock, nothing. */
ACT(landlock_required)
{
	errno = EOPNOTSUPP;
	return room->landlock < 0 ? -1 : 0;
}

ACT(landlock_allow)
{
	struct landlock_path rule = { number(step->field[1]) & room->landlock_handled, -1 };
	int place CLEANUP_CLOSE = -1;

	if (room->landlock < 0 || rule.allowed == 0) /* the kernel refuses a rule that allows nothing */
		return 0;
	place = open(step->field[0], O_PATH | O_CLOEXEC);
	rule.parent = place;
	return place < 0 ? -1 : (int)syscall(SYS_landlock_add_rule, room->landlock, 1, &rule, 0);
}

/*
 * The file to attest from takes the place of procfs, which has been used. Then there are 0, 1, 2, and three that close
 * on exec, on the places that the filter knows. Before the filter, which need not allow these calls.
 */
static int settle_descriptors(struct room *room)
{
	int attest = attest_begin(room);

	if (attest < 0 || dup2(attest, ATTEST_FD) < 0 || fcntl(ATTEST_FD, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return close_from(LISTENER_FD + 1 + (room->input >= 0));
}

/* The request's word: without a listener for refused calls, nothing. */
ACT(listener_required)
{
	room->must_ask = true;
	return 0;
}

/* The last measure: after it we can only call what the filter allows. Landlock goes on just before. */
ACT(filter)
{
	if (room->landlock >= 0 && syscall(SYS_landlock_restrict_self, room->landlock, 0) < 0)
		return -1;
	return settle_descriptors(room) < 0 ? -1 : put_on_filter(step->field[0], room->must_ask);
}

/* The three streams on their places; a session of its own, so that no terminal can be reached; no signal oddity. */
static int take_stdio(struct room *room, const int stdio[3], int status)
{
	bool has_terminal = room->terminal >= 0;
	int in = stdio[0] >= 0 && room->input < 0 ? stdio[0] : open("/dev/null", O_RDONLY | O_CLOEXEC);
	int moved = fcntl(status, F_DUPFD_CLOEXEC, 5);
	sigset_t none;

	/* every number here is above 2 or already right: init has 1, 2 (null), 3, 4 and what it was sent, but no 0 */
	if (in < 0 || moved < 0 || setsid() < 0 || sigemptyset(&none) < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return -1;
	room->status = moved;
	if ((in == 0 ? fcntl(0, F_SETFD, 0) : dup2(in, 0)) < 0 || dup2(stdio[1], 1) < 0 || dup2(stdio[2], 2) < 0)
		return -1;
	if (has_terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		return -1;
	/*
	 * The status pipe; procfs, until ATTEST_FD is needed; the way to the launcher, at LISTENER_FD. What only init
	 * needs is closed now, because the limit of open files, which may be 16, comes before the filter.
	 */
	return place_descriptors(
	    (int *const[]){ &room->status, &room->proc, &room->notified, &room->input }, room->input >= 0 ? 4 : 3, 3);
}

/* The steps of a plan with these ranks, here. */
static int act_all(struct room *room, const struct plan *plan, unsigned int first, unsigned int last, struct step *step)
{
	struct cursor at = plan_start(plan);

	while (plan_next(&at, step))
		if (step->verb->act != NULL && step->verb->rank >= first && step->verb->rank <= last
		    && step->verb->act(room, step) < 0)
			return -1;
	return 0;
}

static int confine(struct room *room, const struct plan *plan, struct step *step)
{
	return act_all(room, plan, 0, CONFINEMENT_RANK, step);
}

/*
 * Confined ahead of its command, which comes from the launcher. We check the whole, as it did. The filter is on: only
 * plans with one that allows what follows have a command sent later.
 */
static int await_command(struct room *room, struct plan *plan, struct step *step)
{
	static char rest[MESSAGE_BYTES];
	struct rejection why;
	ssize_t got = read(LISTENER_FD, rest, sizeof(rest));
	struct step in;

	if (got <= 0)
		_exit(1); /* the launcher is gone, and init with it */
	errno = EBADMSG;
	if (!plan_append(plan, rest, (size_t)got) || !plan_check(plan, PAYLOAD, &why))
		return -1;
	if (plan_find(plan, "stdin", &in) && dup2(INPUT_FD, 0) < 0)
		return -1;
	return act_all(room, plan, CONFINEMENT_RANK + 1, UCHAR_MAX, step);
}

/* The values of one verb as the NULL-terminated vector that execve wants. They stay where they are, in the plan. */
static char **vector(const struct plan *plan, const char *verb)
{
	struct cursor at = plan_start(plan);
	struct step step;
	size_t count = 0, used = 0;
	char **list;

	while (plan_next(&at, &step))
		count += strcmp(step.verb->name, verb) == 0;
	list = mmap(NULL, (count + 1) * sizeof(*list), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (list == MAP_FAILED)
		return NULL;
	at = plan_start(plan);
	while (plan_next(&at, &step))
		if (strcmp(step.verb->name, verb) == 0)
			list[used++] = (char *)(uintptr_t)step.field[0];
	return list; /* fresh anonymous memory: the last entry is NULL */
}

/* Try each place in turn. One that may not be executed is remembered, as shells do: it says more than "not found". */
static int exec_first(const struct plan *plan, char **argv, char **envp, struct step *step)
{
	struct cursor at = plan_start(plan);
	struct step candidate;
	int worst = ENOENT;

	while (plan_next(&at, &candidate)) {
		if (strcmp(candidate.verb->name, "exe") != 0)
			continue;
		*step = candidate;
		execve(candidate.field[0], argv, envp);
		if (errno == EACCES)
			worst = EACCES;
		else if (errno != ENOENT && errno != ENOTDIR)
			return -1;
	}
	errno = worst;
	return -1;
}

/*
 * hold: a payload that is no command. As init's read of the status ends with exec, so it does now; nothing is left open
 * but the streams. A futex that nobody wakes: each profile has the call.
 */
static void hold(void)
{
	static const uint32_t never;

	close_all((const int[]){ 3, ATTEST_FD, LISTENER_FD }, 3);
	while (syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, never, NULL) == 0 || errno == EINTR)
		;
}

/* Only returns on failure. Its vectors are made last by a payload that waits; no other needs memory under its filter.
 */
static void execute(const struct plan *plan, char **argv, char **envp, struct step *step)
{
	if (plan_find(plan, "hold", step))
		hold();
	if (argv != NULL && envp != NULL)
		exec_first(plan, argv, envp, step);
}

void payload_main(struct room *room, struct plan *plan, const int stdio[3], int status, int notified, bool waits)
{
	struct step step = { 0 };
	char **argv = waits ? NULL : vector(plan, "arg"), **envp = waits ? NULL : vector(plan, "env");
	struct payload_word word = { 0 };

	room->landlock = -1;
	room->status = status;
	room->notified = notified;
	room->input = waits ? stdio[0] : -1;
	(void)plan_find(plan, "id", &step);
	if (take_stdio(room, stdio, status) == 0 && confine(room, plan, &step) == 0) {
		word.landlock_abi = room->landlock_abi;
		word.attested = room->attested;
		if (write(room->status, &word, sizeof(word)) != sizeof(word))
			;
		else if (!waits)
			execute(plan, argv, envp, &step);
		else if (await_command(room, plan, &step) == 0)
			execute(plan, vector(plan, "arg"), vector(plan, "env"), &step);
	}
	word.has_failed = 1;
	word.step = (int)step.index;
	word.error = errno;
	/* if even this fails, init sees a status that is neither, and says so */
	(void)!write(room->status, &word, sizeof(word));
	_exit(1);
}
