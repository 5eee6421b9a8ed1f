/* SPDX-License-Identifier: MIT
 *
 * Where the core starts. The same file has two names: as the core it runs plans (or, for tests and documents, lists
 * its verbs and checks plans); as `capsule-run` on PATH it execs the environment's Python.
 */
#include "capsule-core.h"
#include <sys/xattr.h>

int print(int fd, const char *text)
{
	size_t length = strlen(text);

	return write(fd, text, length) == (ssize_t)length ? 0 : 1;
}

/* One line a verb: half, phase, rank, least, most, name, kinds. docs/plan-format.md is tested against this. */
static int list_verbs(void)
{
	for (unsigned int i = 0; i < nverbs; i++) {
		char line[256];
		struct text text = TEXT_IN(line);

		put(&text, halves[verbs[i].half], " ", verbs[i].phase);
		put_numbers(&text, (const uint64_t[]){ verbs[i].rank, verbs[i].least }, 2);
		put(&text, verbs[i].many ? " many " : " 1 ", verbs[i].name, " ", *verbs[i].kinds ? verbs[i].kinds : "-",
		    "\n");
		if (print(1, line) != 0)
			return 1;
	}
	return 0;
}

/* Check the plan on standard input, as if 16 descriptors came with it. Says `ok`, or `rejected STEP REASON`. */
static int check_input(enum half half)
{
	static char text[MAX_PLAN_BYTES];
	struct plan plan = { .text = text, .nfds = MAX_FDS };
	struct rejection why = { 0 };
	char line[64];
	struct text answer = TEXT_IN(line);
	ssize_t got;

	while ((got = read(0, text + plan.size, sizeof(text) - plan.size)) > 0)
		plan.size += (size_t)got;
	if (got < 0)
		return 1;
	if (plan_check(&plan, half, &why))
		return print(1, "ok\n");
	put(&answer, "rejected ");
	put_number(&answer, why.step);
	put(&answer, " ", why.reason, "\n");
	return print(1, line) == 0 ? 3 : 1;
}

/*
 * Whether this file has more rights than its caller, for whom it would then open sources and write logs. AT_SECURE says
 * more than that: also that a security module changed the domain, as it does for a service.
 */
bool has_more_rights_than_its_caller(void)
{
	return getuid() != geteuid() || getgid() != getegid()
	    || getxattr("/proc/self/exe", "security.capability", NULL, 0) > 0;
}

int main(int argc, char **argv, char **envp)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = argc > 0 ? (slash ? slash + 1 : argv[0]) : "";

	if (has_more_rights_than_its_caller())
		return print(2, "capsule-run: refuses to run set-user-ID, set-group-ID or with file capabilities\n"),
		       125;
	if (is_command(name))
		return hand_over(argc, argv, envp);
	if (strcmp(name, "capsule-core") == 0 && argc == 1)
		return launch();
	if (argc == 2 && strcmp(argv[1], "--verbs") == 0)
		return list_verbs();
	if (argc == 3 && strcmp(argv[1], "--check") == 0)
		return check_input(strcmp(argv[2], "room") == 0 ? ROOM :
			strcmp(argv[2], "preamble") == 0        ? PREAMBLE :
			strcmp(argv[2], "confinement") == 0     ? CONFINEMENT :
			strcmp(argv[2], "join") == 0            ? JOIN :
								  PAYLOAD);
	return print(2,
		   "capsule-core: run by capsule-run; by hand: --verbs, --check "
		   "room|preamble|join|payload|confinement\n"),
	       2;
}
