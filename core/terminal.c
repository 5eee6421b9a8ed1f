/* SPDX-License-Identifier: MIT
 *
 * A terminal for the payload: init makes it in the room, and the launcher, which gets its other side, moves bytes
 * between that and Python. The caller's own terminal is the launcher's and Python's, and is never sent to init.
 *
 * Each of the two that have it restores the caller's terminal when the other is killed (docs/decisions/terminal.md).
 */
#include "init.h"
#include "launcher.h"

/* ---- init ---- */

/* Returns the other side of a new terminal of the room's, unlocked and as the caller's is; itself it is the room's. */
static int open_terminal(struct room *room, const struct termios *modes, const struct winsize *size)
{
	int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), unlocked = 0;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0)
		return -1;
	room->terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC); /* by no path */
	if (room->terminal < 0 || tcsetattr(room->terminal, TCSANOW, modes) < 0
	    || ioctl(room->terminal, TIOCSWINSZ, size) < 0)
		return -1;
	return master;
}

/* The payload's streams are a terminal, if the plan says so. Returns its other side, or -1. */
int make_terminal(struct room *room, const struct plan *plan, const struct link_message *given, int stdio[static 3])
{
	struct step step;
	int master;

	if (given->payload.has_terminal != 1 || !plan_find(plan, "terminal", &step))
		return -1;
	master = open_terminal(room, &given->payload.modes, &given->payload.size);
	if (master < 0)
		leave(room, PAYLOAD, step.index);
	stdio[0] = stdio[1] = stdio[2] = room->terminal;
	return master;
}

/* ---- the launcher ---- */

static struct {
	int caller, master; /* -1: there is none */
	struct termios before;
} terminal = { -1, -1, { 0 } };

/* What a program may leave behind: the other screen, reports of mouse, focus and pastes, keys, colours, no cursor. */
static const char plain_screen[] = "\033[?1047l\033[?9;1000;1002;1003;1004;1005;1006;1015;2004l\033[?1;66l\033>"
				   "\033[?7;25h\0337\033[r\0338\033(B\033[0m\017";

/*
 * terminal FD: the caller's terminal. Its state is remembered before Python changes it, which waits for our `started`.
 * A session of our own keeps us when all of the caller's job is killed, and lets us set the terminal at any time.
 */
int take_terminal(const struct plan *plan, struct link_message *message, struct step *step)
{
	if (!plan_find(plan, "terminal", step))
		return 0;
	(void)setsid(); /* fails where the watch has begun one */
	terminal.caller = plan->fds[number(step->field[0])];
	message->payload.has_terminal = 1;
	if (tcgetattr(terminal.caller, &terminal.before) < 0
	    || ioctl(terminal.caller, TIOCGWINSZ, &message->payload.size) < 0)
		return -1;
	message->payload.modes = terminal.before;
	errno = EINVAL; /* a sink that can block would stop the loop */
	return fcntl(run.pumps[OUT].to, F_GETFL) & O_NONBLOCK ? 0 : -1;
}

/*
 * The pumps go to the terminal, and not to pipes: stdout has all of its output, stderr none. `master` stays open till
 * we end: closing the last waits for a reader inside, whose memory the payload can lock. For the same reason it is init
 * that sets the size.
 */
void connect_terminal(int *fds, unsigned int nfds)
{
	static const char started[] = "started";
	struct pump *in = &run.pumps[IN], *out = &run.pumps[OUT];
	struct step step;

	if (terminal.caller < 0)
		return;
	errno = EPROTO;
	if (nfds != 1)
		return fail_at_no_step();
	terminal.master = fds[0];
	fds[0] = -1;
	close_cleanup(&out->from);
	out->from = fcntl(terminal.master, F_DUPFD_CLOEXEC, 3);
	out->copy = out->terminal = true;
	if (out->from >= 0 && plan_find(&run.payload, "stdin", &step)) {
		in->from = run.payload.fds[number(step.field[0])];
		in->to = fcntl(terminal.master, F_DUPFD_CLOEXEC, 3);
		in->copy = true;
		in->cap = UINT64_MAX;
	}
	if (out->from < 0 || (in->from >= 0 && in->to < 0)
	    || (send_message(CONTROL, started, sizeof(started) - 1, NULL, 0) < 0 && errno != EPIPE))
		fail_at_no_step();
}

void resize_terminal(void)
{
	struct link_message message = { .kind = LINK_RESIZE };

	/* a terminal that is gone has no size, and Python ends next */
	if (terminal.caller >= 0 && ioctl(terminal.caller, TIOCGWINSZ, &message.size) == 0
	    && send_to_init(&message, NULL, 0) < 0)
		fail_at_no_step();
}

/*
 * Python is gone. If it has left the terminal raw, which no shell does that waits for a line, undo that. The screen is
 * only written to where that cannot wait.
 */
void restore_terminal(void)
{
	struct termios now;

	if (terminal.caller < 0 || tcgetattr(terminal.caller, &now) < 0 || now.c_oflag & OPOST || now.c_lflag & ISIG)
		return;
	(void)tcsetattr(terminal.caller, TCSANOW, &terminal.before);
	(void)tcflush(terminal.caller, TCIFLUSH);
	if (fcntl(terminal.caller, F_GETFL) & O_NONBLOCK)
		(void)!write(terminal.caller, plain_screen, sizeof(plain_screen) - 1);
}

/* The report is sent. Python closes its end when it has restored the terminal, or because it is dead. */
void await_restored_terminal(void)
{
	const char *word;
	int fds[MAX_FDS];
	unsigned int nfds;

	if (terminal.caller < 0)
		return;
	while (wait_for_either(run.maker, CONTROL) == 0 && receive_control(&word, fds, &nfds) > 0)
		close_all(fds, nfds);
}
