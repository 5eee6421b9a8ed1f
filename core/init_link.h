/* SPDX-License-Identifier: MIT
 *
 * The link between launcher and init: one binary, so a struct; both sides check length and kind.
 */
#ifndef CAPSULE_INIT_LINK_H
#define CAPSULE_INIT_LINK_H

#include "capsule-core.h"
#include <sys/ioctl.h>
#include <termios.h>

enum link_kind {
	LINK_ROOM = 1,
	LINK_JOINED,
	LINK_SOURCES,
	LINK_PAYLOAD,
	LINK_SIGNAL,
	LINK_RESIZE,
	LINK_END,
	LINK_READY,
	LINK_FAILED,
	LINK_STARTED,
	LINK_EXITED
};

struct failure {
	int32_t half, step, error;
};

struct link_message {
	uint32_t kind;
	union {
		/* with a stdin; how many groups to enter; its command comes later; what its terminal begins with */
		struct {
			int32_t has_stdin, groups, waits, has_terminal;
			struct winsize size;
			struct termios modes;
		} payload;
		struct winsize size;
		struct {
			int32_t number;
		} signal;
		struct {
			int32_t is_copied;
		} ready;
		struct failure failed;
		/* processor time of the set-up */
		struct {
			int32_t landlock_abi, user_us, system_us, before_cgroups_us;
		} started;
		/* is_last: all are reaped, and this is what they have used; init ends now */
		struct {
			int32_t wait_status, is_last;
			struct rusage usage;
		} exited;
	};
	struct attested attested; /* ROOM: the caller's; STARTED: the payload's */
};

#endif
