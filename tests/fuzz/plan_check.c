/* SPDX-License-Identifier: MIT
 *
 * The fuzz target: all halves of the plan checker, and the walk that everybody else does behind it.
 *
 * The sanitizers watch the memory; this file watches the promises. An accepted plan has every field within its bytes and
 * of its kind, is walked to its end and no further, and is not below the floor. The input arrives in a buffer of exactly
 * its size, so reading one byte beyond it is a finding. The acts of the verbs are stubs, which `run` writes.
 */
#include "capsule-core.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void promise(bool kept)
{
	if (!kept)
		abort();
}

/* Each field lies within the plan with its NUL, and reading it as its kind says stays within bounds. */
static void read_fields(const struct plan *plan, const struct step *step, unsigned int sources)
{
	const char *kinds = step->verb->kinds;

	promise(strlen(kinds) <= MAX_FIELDS);
	for (size_t i = 0; i < strlen(kinds); i++) {
		const char *field = step->field[i];

		promise(field >= plan->text && field + strlen(field) < plan->text + plan->size);
		if (kinds[i] == 'n' || kinds[i] == 'i')
			promise(number(field) <= (kinds[i] == 'n' ? INT64_MAX : UINT32_MAX - 1));
		if (kinds[i] == 'f')
			promise(number(field) < plan->nfds);
		if (kinds[i] == 's')
			promise(number(field) < sources && sources <= MAX_SLOTS);
		if (kinds[i] == 'o')
			promise(octal(field) <= 01777);
		if (kinds[i] == 'p')
			promise(*field == '/' && strlen(field) < PATH_MAX && strstr(field, "/../") == NULL && strstr(field, "//") == NULL);
	}
}

static void walk(const struct plan *plan, enum half half)
{
	struct cursor at = plan_start(plan);
	unsigned int steps = 0, sources = 0, rank = 0, seen[MAX_VERBS] = { 0 };
	struct step step;
	bool holds;

	while (plan_next(&at, &step)) {
		promise(step.index == steps++ && step.verb->half == half && step.verb->rank >= rank);
		rank = step.verb->rank;
		seen[step.verb - verbs]++;
		read_fields(plan, &step, sources);
		sources += strcmp(step.verb->name, "source") == 0 || strcmp(step.verb->name, "inner-source") == 0;
	}
	promise(at.at + sizeof("end") == plan->text + plan->size);
	holds = plan_find(plan, "hold", &step);
	for (unsigned int i = 0; i < nverbs; i++) {
		if (verbs[i].half != half)
			continue;
		if (holds && (strcmp(verbs[i].name, "exe") == 0 || strcmp(verbs[i].name, "arg") == 0))
			promise(seen[i] == 0);
		else
			promise(seen[i] >= verbs[i].least && (verbs[i].many || seen[i] <= 1));
		promise(plan_find(plan, verbs[i].name, &step) == (seen[i] > 0));
	}
}

/* A payload may come in two: its beginning is accepted as a confinement, and with its rest behind it is what it was. */
static void split(const struct plan *plan)
{
	struct cursor next = plan_start(plan), at = next;
	struct plan begun = { .nfds = plan->nfds };
	struct rejection why;
	struct step step;
	size_t length;
	char *text;

	while (plan_next(&next, &step) && step.verb->rank <= CONFINEMENT_RANK)
		at = next;
	length = (size_t)(at.at - plan->text);
	text = malloc(length + sizeof("end"));
	promise(text != NULL);
	memcpy(text, plan->text, length);
	memcpy(text + length, "end", sizeof("end"));
	begun.text = text;
	begun.size = length + sizeof("end");
	promise(plan_check(&begun, CONFINEMENT, &why));
	promise(plan_append(&begun, at.at, plan->size - length));
	promise(begun.size == plan->size && memcmp(begun.text, plan->text, plan->size) == 0);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int half = ROOM; half <= JOIN; half++)
		for (unsigned int nfds = 0; nfds <= MAX_FDS; nfds += MAX_FDS) {
			struct plan plan = { .text = (const char *)data, .size = size, .nfds = nfds };
			struct rejection why = { 0 };

			if (plan_check(&plan, (enum half)half, &why)) {
				walk(&plan, (enum half)half);
				if (half == PAYLOAD)
					split(&plan);
			} else
				promise(why.reason != NULL && why.step <= MAX_STEPS);
		}
	return 0;
}
