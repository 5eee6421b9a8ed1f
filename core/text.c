/* SPDX-License-Identifier: MIT
 *
 * Text in memory of bounded size, and the numbers in it.
 */
#include "capsule-core.h"

/* Append all of them, up to a NULL. What does not fit is cut, and the text always ends with a NUL byte. */
void put_all(struct text *to, const char *const *texts)
{
	for (; *texts != NULL; texts++)
		for (const char *text = *texts; *text != '\0' && to->length + 1 < to->size; text++)
			to->start[to->length++] = *text;
	to->start[to->length] = '\0';
}

void put_number(struct text *to, uint64_t n)
{
	char digits[21];
	size_t first = sizeof(digits) - 1;

	digits[first] = '\0';
	do
		digits[--first] = (char)('0' + n % 10);
	while (n /= 10);
	put(to, digits + first);
}

/* Append each with a space before it. */
void put_numbers(struct text *to, const uint64_t *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		put(to, " ");
		put_number(to, numbers[i]);
	}
}

/* /proc/PID and what `name` adds. */
void process_path(char path[static 64], uint64_t pid, const char *name)
{
	struct text text = { path, 64, 0 };

	put(&text, "/proc/");
	put_number(&text, pid);
	put(&text, name);
}

void fd_path(char path[static 64], int fd)
{
	struct text text = { path, 64, 0 };

	put(&text, "/proc/self/fd/");
	put_number(&text, (uint64_t)fd);
}

/* The number that `*at` begins with, after spaces and tabs; `*at` is after it then. 0 if there is none. */
uint64_t take_number(const char **at, unsigned int base)
{
	uint64_t n = 0;

	for (*at += strspn(*at, " \t"); (**at >= '0' && **at <= '9') || (base == 16 && **at >= 'a' && **at <= 'f');
	    ++*at)
		n = n * base + (uint64_t)(**at <= '9' ? **at - '0' : **at - 'a' + 10);
	return n;
}

uint64_t number(const char *digits)
{
	return take_number(&digits, 10);
}

unsigned int octal(const char *digits)
{
	return (unsigned int)take_number(&digits, 8);
}
