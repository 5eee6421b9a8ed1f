/* SPDX-License-Identifier: MIT
 *
 * The launcher's part in the payload's half of a plan: the pipes, what init gets, and what is watched. The half comes
 * in one piece, or as a confinement and later the command.
 */
#include "launcher.h"

#define MAX_GIVEN (5 + MAX_CGROUPS)

/* Make the payload's pipes, and the socket for the listener of its filter; their inner ends are for init. */
static int open_pipes(const struct plan *plan, bool input, int give[static MAX_GIVEN])
{
	return start_notify(plan, &give[1]) < 0 || open_output(&run.pumps[OUT], &give[2]) < 0
		|| open_output(&run.pumps[ERR], &give[3]) < 0 || (input && open_input(&run.pumps[IN], &give[4]) < 0) ?
	    -1 :
	    0;
}

/* The launcher's own part in a whole payload, before that can start: streams, watches and clocks. */
static int serve_payload(const struct plan *plan)
{
	struct step step;

	run.has_payload = true;
	if (plan_find(plan, "memory-notice", &step))
		run.notice = plan->fds[number(step.field[0])];
	if (plan_find(plan, "drain", &step))
		run.drain_ms = number(step.field[0]);
	if (plan_find(plan, "clock", &step))
		run.clock_ms = number(step.field[0]);
	start_record(plan);
	record_listening();
	prepare_thread_dump(plan);
	if (set_output(&run.pumps[OUT], plan, "stdout") < 0 || set_output(&run.pumps[ERR], plan, "stderr") < 0)
		return -1;
	set_input(&run.pumps[IN], plan);
	if (prepare_watch(plan) < 0 || (memory.proc >= 0 && start_watcher() < 0))
		return -1;
	return run.ready_ns ? set_timer(run.setup_ms) : 0;
}

/* What init gets of a plan that was checked is in `give`. On failure `step` is what failed. */
static int give_payload(const struct plan *plan, bool waits, int give[static MAX_GIVEN], struct step *step)
{
	bool terminal = plan_find(plan, "terminal", step);
	bool input = waits || (!terminal && plan_find(plan, "stdin", step));
	struct link_message message = { .kind = LINK_PAYLOAD, .payload = { .has_stdin = input, .waits = waits } };

	notify.waits = waits;
	*step = no_step;
	if (open_pipes(plan, input, give) < 0 || (!waits && serve_payload(plan) < 0))
		return -1;
	if (take_terminal(plan, &message, step) < 0)
		return -1;
	message.payload.groups = open_cgroup_tasks(plan, &give[4 + input], step);
	if (message.payload.groups < 0)
		return -1;
	*step = no_step;
	return send_to_init(&message, give, 4U + input + (unsigned int)message.payload.groups);
}

/* `payload`, or `confinement`: check it, and give init its part. In any case that part does not stay open here. */
void take_payload(enum half half, int *fds, unsigned int nfds)
{
	struct plan plan;
	struct step step;
	int give[MAX_GIVEN], error;

	if (run.room.link < 0) { /* the room is gone: it has nobody to give this to */
		close_all(fds, nfds);
		return;
	}
	memset(give, -1, sizeof(give));
	give[0] = nfds > 0 ? fds[0] : -1;
	run.rejected_half = PAYLOAD;
	run.rejected = (struct rejection){ "descriptors", 0 };
	error = run.is_confined ? EBADMSG : plan_take(&plan, fds, nfds) < 0 ? errno : 0;
	if (error == 0 && plan_check(&plan, half, &run.rejected)) {
		run.is_confined = true;
		run.payload = plan;
		if (give_payload(&run.payload, half == CONFINEMENT, give, &step) < 0)
			fail(PAYLOAD, &step);
	} else if (error == 0 || error == EBADMSG) {
		kill_room("rejected");
	} else {
		run.rejected.reason = NULL;
		errno = error;
		fail(PAYLOAD, &no_step);
	}
	close_all(give, MAX_GIVEN);
}

/* What init does before it starts a payload, or knows of it, cannot come later. */
static bool needs_init(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "keep", &step) && !plan_find(plan, "terminal", &step))
		return false;
	run.rejected = (struct rejection){ "confinement", step.index };
	return true;
}

/* `command`: the rest of a payload whose confinement came ahead. The whole is checked, as any other. */
void take_command(const struct bytes *rest, const int *fds, unsigned int nfds)
{
	struct plan *plan = &run.payload;

	run.rejected_half = PAYLOAD;
	run.rejected = (struct rejection){ "descriptors", 0 };
	if (run.room.link < 0) {
		close_all(fds, nfds);
	} else if (!run.is_confined || run.has_payload || plan->nfds + nfds > MAX_FDS
	    || !plan_append(plan, rest->at, rest->length)) {
		close_all(fds, nfds);
		kill_room("rejected");
	} else {
		memcpy(&plan->fds[plan->nfds], fds, sizeof(*fds) * nfds);
		plan->nfds += nfds;
		if (!plan_check(plan, PAYLOAD, &run.rejected) || needs_init(plan))
			kill_room("rejected");
		else if (serve_payload(plan) < 0 || send_command(rest) < 0)
			fail(PAYLOAD, &no_step);
	}
}
