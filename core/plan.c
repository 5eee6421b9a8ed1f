/* SPDX-License-Identifier: MIT
 *
 * The check that a plan must pass before its first effect, and the walk through one that passed. verbs.c has the
 * language.
 *
 * A plan is untrusted input to this file alone. After plan_check() every field is there, ends within the mapping and is
 * of its kind, so nothing else parses. The fuzzer (tests/fuzz) feeds this file.
 */
#include "capsule-core.h"
#include <sys/mman.h>

#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static const char *const namespaces[] = { "user", "mount", "pid", "ipc", "uts", "cgroup", NULL };
static const char *const joined[] = { "user", "mount", "pid", "ipc", "uts", "net", NULL };
#define ALL_NAMESPACES 0x3fU /* of these; a new one of the network has a verb of its own */
#define HOST_NET_NAMESPACES 0x1fU

/* One spelling for each number: no sign, no leading zero, at most 2^63-1. */
static bool is_number(const char *s, uint64_t limit)
{
	size_t length = strlen(s);

	if (length == 0 || length > 19 || (length > 1 && *s == '0') || strspn(s, "0123456789") != length)
		return false;
	return number(s) <= limit;
}

/* A component longer than NAME_MAX is the kernel's to refuse; what matters here is that none can climb. */
static bool is_component(const char *s, size_t length)
{
	return length > 0 && memchr(s, '/', length) == NULL && !(length == 1 && s[0] == '.')
	    && !(length == 2 && s[0] == '.' && s[1] == '.');
}

static bool is_path(const char *s)
{
	if (*s != '/' || strlen(s) >= PATH_MAX)
		return false;
	if (s[1] == '\0')
		return true;
	while (*s == '/') {
		size_t length = strcspn(++s, "/");

		if (!is_component(s, length))
			return false;
		s += length;
	}
	return true;
}

static bool is_filter(const char *s)
{
	size_t length = strlen(s);

	return length > 0 && length % 16 == 0 && length / 16 <= 4096 && strspn(s, "0123456789abcdef") == length;
}

/* The place of a word in a list that ends with NULL, counted from 1; 0 if it is not there. */
static unsigned int place_in(const char *const *words, const char *s)
{
	for (unsigned int i = 0; words[i] != NULL; i++)
		if (strcmp(s, words[i]) == 0)
			return i + 1;
	return 0;
}

struct tally {
	unsigned int sources, fds;
	unsigned int namespaces;       /* bit by index in the tables above */
	unsigned char seen[MAX_VERBS]; /* per verb, capped at 255 */
};

static bool is_field(char kind, const char *s, struct tally *tally)
{
	static const char *const modes[] = { "ro", "rw", "dev", NULL };
	static const char *const actions[] = { "kill", "truncate", NULL };
	/* of /proc/sys/kernel */
	static const char *const sysctls[] = { "shmall", "shmmax", "shmmni", "sem", "msgmni", "msgmnb", "msgmax",
		NULL };
	unsigned int bit;

	switch (kind) {
	case 'n': return is_number(s, INT64_MAX);
	case 'r': return is_number(s, 15); /* RLIMIT_RTTIME, the kernel's last */
	case 'l': return is_number(s, INT64_MAX) || strcmp(s, "unlimited") == 0;
	case 'i': return is_number(s, UINT32_MAX - 1);
	case 'o': return strlen(s) == 4 && strspn(s, "01234567") == 4 && s[0] <= '1';
	case 'p': return is_path(s);
	case 'c': return strlen(s) <= NAME_MAX && is_component(s, strlen(s));
	case 't': return true;
	case 'h': return is_filter(s);
	case 'f': return tally->fds > 0 && is_number(s, tally->fds - 1);
	case 's': return tally->sources > 0 && is_number(s, tally->sources - 1);
	case 'b': return place_in(modes, s) > 0;
	case 'a': return place_in(actions, s) > 0;
	case 'e': return *s != '=' && strchr(s, '=') != NULL;
	case 'y': return place_in(sysctls, s) > 0;
	case 'w':
	case 'j':
		bit = 1U << place_in(kind == 'w' ? namespaces : joined, s) >> 1;
		if (bit == 0 || tally->namespaces & bit)
			return false;
		tally->namespaces |= bit;
		return true;
	default: return false;
	}
}

/* Take one NUL-terminated word; NULL when the mapping ends first. */
static const char *take(const char **at, const char *end)
{
	const char *word = *at;
	const char *nul = word < end ? memchr(word, '\0', (size_t)(end - word)) : NULL;

	if (nul == NULL)
		return NULL;
	*at = nul + 1;
	return word;
}

/* The table is in the order of plans, so the search for what follows a verb starts there; NULL: from the start. */
static const struct verb *find_verb(enum half half, const char *name, const struct verb *from)
{
	while (from != NULL && from > verbs && from[-1].half == from->half && from[-1].rank == from->rank)
		from--;
	for (const struct verb *verb = from ? from : verbs; verb < verbs + nverbs; verb++)
		if (verb->half == half && verb->name[0] == name[0] && strcmp(verb->name, name) == 0)
			return verb;
	return NULL;
}

static const char *check_header(const char **at, const char *end, enum half half)
{
	const char *magic = take(at, end), *version = take(at, end), *which = take(at, end);

	if (magic == NULL || version == NULL || which == NULL || strcmp(magic, "capsule-plan") != 0)
		return "header";
	if (strcmp(version, "1") != 0)
		return "version";
	return strcmp(which, halves[half]) == 0 ? NULL : "half";
}

static const char *check_step(const struct verb *verb, const char **at, const char *end, struct tally *tally)
{
	unsigned char *seen = &tally->seen[verb - verbs];

	if (*seen > 0 && !verb->many)
		return "repeat";
	if (*seen < UCHAR_MAX)
		++*seen;
	for (const char *kind = verb->kinds; *kind; kind++) {
		const char *field = take(at, end);

		if (field == NULL)
			return "cut";
		if (!is_field(*kind, field, tally))
			return "field";
	}
	if (verb->act == act_source && ++tally->sources > MAX_SLOTS)
		return "repeat";
	return NULL;
}

/* Two are the beginning of another one: of a room, as far as it needs only namespaces, and of a payload. */
static enum half whole(enum half half)
{
	return half == PREAMBLE ? ROOM : half == CONFINEMENT ? PAYLOAD : half;
}

/* Whether a half may have this verb. */
static bool is_of(const struct verb *verb, enum half half)
{
	unsigned int last = half == PREAMBLE ? PREAMBLE_RANK : half == CONFINEMENT ? CONFINEMENT_RANK : UCHAR_MAX;

	return verb->half == whole(half) && verb->rank <= last;
}

static unsigned int seen(const struct tally *tally, enum half half, const char *verb)
{
	return tally->seen[find_verb(half, verb, NULL) - verbs];
}

/* Below the floor nothing runs: there is no way to ask for less than this. Where a payload holds, there is no command.
 */
static const char *check_floor(enum half half, const struct tally *tally)
{
	bool holds = seen(tally, PAYLOAD, "hold");
	unsigned int wanted = whole(half) == PAYLOAD ? 0 :
	    seen(tally, JOIN, "host-net")            ? HOST_NET_NAMESPACES :
						       ALL_NAMESPACES;

	for (unsigned int i = 0; i < nverbs; i++) {
		bool commands = strcmp(verbs[i].name, "exe") == 0 || strcmp(verbs[i].name, "arg") == 0;

		if (holds && commands && tally->seen[i] > 0)
			return "hold";
		if (is_of(&verbs[i], half) && tally->seen[i] < verbs[i].least && !(holds && commands))
			return verbs[i].name;
	}
	if (half == ROOM && seen(tally, ROOM, "host-net") == seen(tally, ROOM, "network"))
		return "namespace";
	return tally->namespaces != wanted ? "namespace" : NULL;
}

/*
 * Check the whole plan. Returns true, or false with the reason: `header`, `version`, `half`, `cut`, `verb`, `order`,
 * `repeat`, `field`, `end`, `long`, or the name of a verb that the floor misses.
 */
bool plan_check(const struct plan *plan, enum half half, struct rejection *why)
{
	const char *at = plan->text, *end = plan->text + plan->size;
	struct tally tally = { .fds = plan->nfds };
	const struct verb *last = NULL;
	enum half table = whole(half);

	why->step = 0;
	why->reason = check_header(&at, end, half);
	for (; why->reason == NULL; why->step++) {
		const char *word = take(&at, end);
		const struct verb *verb = word ? find_verb(table, word, last) : NULL;

		if (word != NULL && strcmp(word, "end") == 0) {
			why->reason = at == end ? check_floor(half, &tally) : "end";
			return why->reason == NULL;
		}
		if (word == NULL)
			why->reason = "cut";
		else if (verb == NULL || !is_of(verb, half))
			why->reason = (verb = find_verb(table, word, NULL)) != NULL && is_of(verb, half) ? "order" :
													   "verb";
		else if (why->step >= MAX_STEPS)
			why->reason = "long";
		else
			why->reason = check_step(verb, &at, end, &tally);
		if (why->reason != NULL)
			return false;
		last = verb;
	}
	return false;
}

/* A half that came in a message of its own, in the form in which all are mapped and handed on. */
int plan_seal(const char *text, size_t size)
{
	int memfd = (int)syscall(SYS_memfd_create, "capsule-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t written = memfd < 0 ? -1 : write(memfd, text, size);

	if (written == (ssize_t)size && fcntl(memfd, F_ADD_SEALS, SEALS) == 0)
		return memfd;
	if (written >= 0 && written < (ssize_t)size)
		errno = EFBIG; /* the caller's limit of a file's size */
	close_cleanup(&memfd);
	return -1;
}

/* Map a sealed memfd; an unsealed one could change after the check. EBADMSG: it is none, or too long. */
int plan_map(int memfd, struct plan *plan)
{
	struct stat st;
	int have = fcntl(memfd, F_GET_SEALS);
	void *text;

	if ((have < 0 && errno != EINVAL) || fstat(memfd, &st) < 0)
		return -1;
	if (have < 0 || (have & SEALS) != SEALS || st.st_size <= 0 || st.st_size > MAX_PLAN_BYTES) {
		errno = EBADMSG;
		return -1;
	}
	text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, memfd, 0);
	if (text == MAP_FAILED)
		return -1;
	plan->text = text;
	plan->size = (size_t)st.st_size;
	return 0;
}

/* Map a plan that came with its descriptors, its own first, which stays open. */
int plan_take(struct plan *plan, const int *fds, unsigned int nfds)
{
	errno = EBADMSG;
	if (nfds == 0 || plan_map(fds[0], plan) < 0)
		return -1;
	plan->nfds = nfds - 1;
	memcpy(plan->fds, fds + 1, sizeof(int) * plan->nfds);
	return 0;
}

struct cursor plan_start(const struct plan *plan)
{
	struct cursor at = { plan->text, 0, NULL, ROOM };

	for (int i = 0; i < 2; i++)
		at.at += strlen(at.at) + 1;
	at.half = place_in(halves, at.at) - 1;
	at.at += strlen(at.at) + 1;
	return at;
}

/* Walk a plan that was checked. */
bool plan_next(struct cursor *at, struct step *step)
{
	const char *word = at->at;

	if (strcmp(word, "end") == 0)
		return false;
	at->verb = step->verb = find_verb(at->half, word, at->verb);
	step->index = at->index++;
	word += strlen(word) + 1;
	for (size_t i = 0; i < strlen(step->verb->kinds); i++) {
		step->field[i] = word;
		word += strlen(word) + 1;
	}
	at->at = word;
	return true;
}

/* The next step of this verb. After its rank there is none, nor in a half that has no such verb. */
bool plan_next_of(struct cursor *at, const char *verb, struct step *step)
{
	const struct verb *wanted = find_verb(at->half, verb, NULL);

	while (wanted != NULL && plan_next(at, step) && step->verb->rank <= wanted->rank)
		if (step->verb == wanted)
			return true;
	return false;
}

bool plan_find(const struct plan *plan, const char *verb, struct step *step)
{
	struct cursor at = plan_start(plan);

	return plan_next_of(&at, verb, step);
}

/* Whether a room begins with exactly the steps of a preamble, and has no other that would belong there. */
bool plan_continues(const struct plan *room, const struct plan *preamble)
{
	struct cursor next = plan_start(room), at = next;
	struct step step;

	while (plan_next(&next, &step) && step.verb->rank <= PREAMBLE_RANK)
		at = next;
	return (size_t)(at.at - room->text) == preamble->size - sizeof("end")
	    && memcmp(room->text, preamble->text, preamble->size - sizeof("end")) == 0;
}

/*
 * Put the rest of a plan behind its beginning, which has been carried out. The whole is not checked yet. In one place:
 * a process does it once. Returns whether there was room.
 */
bool plan_append(struct plan *plan, const char *rest, size_t size)
{
	static char text[MESSAGE_BYTES * 4];
	size_t begun = plan->size - sizeof("end");

	if (begun > sizeof(text) - MESSAGE_BYTES || size > MESSAGE_BYTES)
		return false;
	memcpy(text, plan->text, begun);
	memcpy(text + begun, rest, size);
	plan->text = text;
	plan->size = begun + size;
	return true;
}
