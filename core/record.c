/* SPDX-License-Identifier: MIT
 *
 * The record: lines of text in a file of Python's, for whatever may be long or many (denied calls, processes, files of
 * a cgroup) and so has no place in the report, which is one message. It is bounded: lines that do not fit are counted.
 */
#include "capsule-core.h"

#define LINE_BYTES 16384
/* of one text, before it is escaped: of a line with some of them, all escaped, there is always room */
#define TEXT_BYTES 768

struct record record = { -1, 0, 0, 0 };

void start_record(const struct plan *plan)
{
	struct step step;

	if (!plan_find(plan, "record", &step))
		return;
	record.fd = plan->fds[number(step.field[0])];
	record.cap = number(step.field[1]);
}

/* One word: printable ASCII but `%` stays, every other byte is %XX; no byte at all is a lone `%`. */
static void put_escaped(struct text *to, const char *text, size_t length, size_t most)
{
	static const char digits[] = "0123456789abcdef";

	if (length == 0)
		put(to, "%");
	for (size_t i = 0; i < length && i < most; i++) {
		unsigned char c = (unsigned char)text[i];
		const char plain[2] = { (char)c, '\0' };
		const char escaped[4] = { '%', digits[c >> 4], digits[c & 15], '\0' };

		put(to, c > ' ' && c < 0x7f && c != '%' ? plain : escaped);
	}
}

/* Whole lines, or none of them. */
void record_lines(const char *lines, size_t length)
{
	if (record.fd < 0)
		return;
	if (record.kept + length > record.cap || write(record.fd, lines, length) != (ssize_t)length)
		record.lost++;
	else
		record.kept += length;
}

/* NAME NUMBER... TEXT...: one line. A text may hold any bytes: it is escaped here, and judged by Python. */
void record_line(
    const char *name, const uint64_t *numbers, size_t count, const struct bytes *texts, unsigned int ntexts)
{
	static char line[LINE_BYTES];
	struct text text = { line, sizeof(line) - 1, 0 }; /* and the end of the line */

	if (record.fd < 0)
		return;
	put(&text, name);
	put_numbers(&text, numbers, count);
	for (unsigned int i = 0; i < ntexts; i++) {
		put(&text, " ");
		put_escaped(&text, texts[i].at, texts[i].length, ntexts == 1 ? LONE_TEXT_BYTES : TEXT_BYTES);
	}
	line[text.length++] = '\n';
	record_lines(line, text.length);
}
