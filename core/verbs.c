/* SPDX-License-Identifier: MIT
 *
 * The language of plans: the table of verbs.
 */
#include "capsule-core.h"

/* By enum half: the third word of a plan. */
const char *const halves[] = { "room", "payload", "join", "room", "payload", NULL };

/*
 * Kinds of fields: n number up to 2^63-1, r of a resource limit, l number or `unlimited`, i user or group id, o mode, p
 * absolute path without empty, `.` or `..` components, c one component, t any text, h filter in hexadecimal, f number
 * of a descriptor sent along, s of an earlier source, y sysctl, w namespace to make, j one to join, b bind mode, a
 * action at the output cap, e NAME=VALUE. A name may stand in several halves. `rank` is the order of operations
 * (docs/order-of-operations.md says why); `least` is the floor.
 */
const struct verb verbs[] = {
	{ "namespace", ROOM, 1, 6, true, "create", "w", NULL },
	{ "host-net", ROOM, 1, 0, false, "create", "", NULL },
	{ "drop-groups", ROOM, 2, 0, false, "create", "", NULL },
	{ "cgroup", ROOM, 3, 0, false, "create", "fc", NULL },
	{ "uid-map", ROOM, 4, 1, false, "create", "ii", NULL },
	{ "gid-map", ROOM, 5, 1, false, "create", "ii", NULL },
	{ "oom-score-adj", ROOM, 6, 0, false, "create", "n", NULL },
	{ "setup-clock", ROOM, 7, 1, false, "create", "n", NULL },
	{ "guard", ROOM, 8, 0, true, "create", "pnnp", act_guard },
	{ "source", ROOM, 8, 0, true, "create", "pnn", act_source },
	{ "idmap", ROOM, 9, 0, true, "create", "sii", act_idmap },
	{ "inner-source", ROOM, 10, 0, true, "build", "pnn", act_source },
	{ "root", ROOM, 11, 1, false, "build", "nn", act_root },
	{ "dir", ROOM, 13, 0, true, "build", "po", act_dir },
	{ "file", ROOM, 13, 0, true, "build", "pot", act_file },
	{ "copy", ROOM, 13, 0, true, "build", "pnnpo", act_copy },
	{ "fill", ROOM, 13, 0, true, "build", "fpon", act_fill },
	{ "symlink", ROOM, 13, 0, true, "build", "pt", act_symlink },
	{ "whiteout", ROOM, 13, 0, true, "build", "p", act_whiteout },
	{ "bind", ROOM, 14, 0, true, "build", "spb", act_bind },
	{ "inner-bind", ROOM, 14, 0, true, "build", "ppb", act_inner_bind },
	{ "copy-tree", ROOM, 14, 0, false, "build", "ppppnn", act_copy_tree },
	{ "overlay", ROOM, 14, 0, true, "build", "ppppp", act_overlay },
	{ "overlay-ro", ROOM, 14, 0, true, "build", "ppp", act_overlay },
	{ "proc", ROOM, 14, 1, false, "build", "pb", act_proc },
	{ "devpts", ROOM, 14, 0, false, "build", "p", act_devpts },
	{ "sysctl", ROOM, 15, 0, true, "build", "yt", act_sysctl },
	{ "network", ROOM, 15, 0, false, "build", "", act_network },
	{ "readonly", ROOM, 16, 1, false, "build", "", act_readonly },
	{ "pivot", ROOM, 17, 1, false, "enter", "", act_pivot },
	{ "hostname", ROOM, 18, 1, false, "enter", "t", act_hostname },
	{ "offer", ROOM, 19, 0, false, "enter", "p", NULL },
	{ "offer-layer", ROOM, 20, 0, false, "enter", "p", NULL },
	{ "share", ROOM, 21, 0, false, "enter", "", NULL },

	{ "host-net", JOIN, 1, 0, false, "create", "", NULL },
	{ "drop-groups", JOIN, 2, 0, false, "create", "", NULL },
	{ "cgroup", JOIN, 3, 0, false, "create", "fc", NULL },
	{ "join-cgroup", JOIN, 3, 0, false, "create", "fc", NULL },
	{ "oom-score-adj", JOIN, 4, 0, false, "create", "n", NULL },
	{ "setup-clock", JOIN, 5, 1, false, "create", "n", NULL },
	{ "join-namespace", JOIN, 6, 5, true, "join", "jf", act_join_namespace },
	{ "carry", JOIN, 7, 0, true, "build", "p", act_carry },
	{ "proc", JOIN, 8, 1, false, "build", "pb", act_join_proc },
	{ "inner-bind", JOIN, 9, 0, true, "build", "ppb", act_inner_bind },
	{ "rlimit", JOIN, 10, 0, true, "enter", "rll", act_rlimit },
	{ "overlay-at", JOIN, 11, 0, false, "run", "p", NULL },

	{ "cgroup-enter", PAYLOAD, 1, 0, true, "confine", "fc", NULL },
	{ "cgroup-join", PAYLOAD, 1, 0, true, "confine", "fc", NULL },
	{ "cgroup-file", PAYLOAD, 1, 0, true, "run", "fcc", NULL },
	{ "memory-notice", PAYLOAD, 1, 0, false, "run", "f", NULL },
	{ "id", PAYLOAD, 1, 1, false, "confine", "ii", act_id },
	{ "umask", PAYLOAD, 2, 1, false, "confine", "o", act_umask },
	{ "nice", PAYLOAD, 2, 0, false, "confine", "n", act_nice },
	{ "rlimit", PAYLOAD, 3, 1, true, "confine", "rll", act_rlimit },
	{ "cwd", PAYLOAD, 4, 1, false, "confine", "p", act_cwd },
	{ "new-keyring", PAYLOAD, 5, 1, false, "confine", "", act_new_keyring },
	{ "no-new-privs", PAYLOAD, 6, 1, false, "confine", "", act_no_new_privs },
	{ "no-capabilities", PAYLOAD, 7, 1, false, "confine", "", act_no_capabilities },
	{ "landlock", PAYLOAD, 8, 0, true, "confine", "nnn", act_landlock },
	{ "landlock-required", PAYLOAD, 9, 0, false, "confine", "", act_landlock_required },
	{ "landlock-allow", PAYLOAD, 9, 0, true, "confine", "pn", act_landlock_allow },
	{ "listener-required", PAYLOAD, 9, 0, false, "confine", "", act_listener_required },
	{ "filter", PAYLOAD, 10, 1, false, "confine", "h", act_filter },
	{ "attest", PAYLOAD, 11, 1, false, "confine", "", act_attest },
	{ "command-cwd", PAYLOAD, 12, 0, false, "run", "p", act_cwd },
	{ "hold", PAYLOAD, 12, 0, false, "run", "", NULL },
	{ "exe", PAYLOAD, 12, 1, true, "run", "p", NULL },
	{ "arg", PAYLOAD, 13, 1, true, "run", "t", NULL },
	{ "env", PAYLOAD, 14, 0, true, "run", "e", NULL },
	{ "stdin", PAYLOAD, 15, 0, false, "run", "f", NULL },
	{ "terminal", PAYLOAD, 15, 0, false, "run", "f", NULL },
	{ "stdout", PAYLOAD, 16, 1, false, "run", "fna", NULL },
	{ "stderr", PAYLOAD, 17, 1, false, "run", "fna", NULL },
	{ "clock", PAYLOAD, 18, 1, false, "run", "n", NULL },
	{ "drain", PAYLOAD, 19, 1, false, "run", "n", NULL },
	{ "keep", PAYLOAD, 19, 0, false, "run", "", NULL },
	{ "memory-watch", PAYLOAD, 20, 0, false, "run", "n", NULL },
	{ "cpu-watch", PAYLOAD, 20, 0, false, "run", "nn", NULL },
	{ "postmortem", PAYLOAD, 20, 0, false, "run", "", NULL },
	{ "record", PAYLOAD, 21, 0, false, "run", "fn", NULL },
};
const unsigned int nverbs = sizeof(verbs) / sizeof(verbs[0]);
_Static_assert(sizeof(verbs) / sizeof(verbs[0]) <= MAX_VERBS, "a counter for each verb");
