/* SPDX-License-Identifier: MIT
 *
 * The record: what is worth telling besides how the run ended, in lines of text in a file that Python gave. The report is
 * one message of bounded size; whatever may be long or many (refusals, processes, files of a cgroup) goes here. It is
 * bounded too: what no longer fits is counted, and the count is in the report.
 */
#include "capsule-core.h"

#define LINE_BYTES 16384
#define TEXT_BYTES 768 /* of one text, before it is escaped: of a line with some of them, all escaped, there is always room */

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
static size_t append_text(char *to, size_t at, size_t size, const char *text, size_t length)
{
	static const char digits[] = "0123456789abcdef";

	if (length == 0)
		return append(to, at, size, "%");
	for (size_t i = 0; i < length && i < TEXT_BYTES; i++) {
		unsigned char c = (unsigned char)text[i];
		const char plain[2] = { (char)c, '\0' };
		const char escaped[4] = { '%', digits[c >> 4], digits[c & 15], '\0' };

		at = append(to, at, size, c > ' ' && c < 0x7f && c != '%' ? plain : escaped);
	}
	return at;
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

/*
 * NAME NUMBER... TEXT...: one line. A text is `length` bytes, which may be anything: what comes from inside the wall is
 * escaped here and judged nowhere in C.
 */
void record_line(const char *name, const uint64_t *numbers, unsigned int count, const struct text *texts, unsigned int ntexts)
{
	static char line[LINE_BYTES];
	size_t at = append(line, 0, sizeof(line) - 1, name);

	if (record.fd < 0)
		return;
	for (unsigned int i = 0; i < count; i++)
		at = append_number(line, append(line, at, sizeof(line) - 1, " "), sizeof(line) - 1, numbers[i]);
	for (unsigned int i = 0; i < ntexts; i++)
		at = append_text(line, append(line, at, sizeof(line) - 1, " "), sizeof(line) - 1, texts[i].at, texts[i].length);
	line[at++] = '\n';
	record_lines(line, at);
}
