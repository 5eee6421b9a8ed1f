/* SPDX-License-Identifier: MIT
 *
 * Text in memory of bounded size, and the numbers in it.
 */
#include "capsule-core.h"

/* Bounded building of text: what does not fit is cut, and the result always ends. Returns the new length. */
size_t append(char *to, size_t at, size_t size, const char *text)
{
	while (*text != '\0' && at + 1 < size)
		to[at++] = *text++;
	to[at] = '\0';
	return at;
}

size_t append_number(char *to, size_t at, size_t size, uint64_t n)
{
	char digits[21];
	size_t first = sizeof(digits) - 1;

	digits[first] = '\0';
	do
		digits[--first] = (char)('0' + n % 10);
	while (n /= 10);
	return append(to, at, size, digits + first);
}

uint64_t number(const char *digits)
{
	uint64_t n = 0;

	for (; *digits; digits++)
		n = n * 10 + (uint64_t)(*digits - '0');
	return n;
}

unsigned int octal(const char *digits)
{
	unsigned int n = 0;

	for (; *digits; digits++)
		n = n * 8 + (unsigned int)(*digits - '0');
	return n;
}
