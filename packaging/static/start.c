/* SPDX-License-Identifier: MIT
 *
 * The first instructions of the static file. It lies at a random address, and holds 25,000 pointers into itself. As
 * packed relocations (DT_RELR) they take a few kilobytes instead of a tenth of the file, but musl's start knows them
 * only since 1.2.4, and makes no table of a static program read-only; so both are done here.
 *
 * `relocate` runs before anything is set up: no libc, no stack protector, no pointer in static data.
 */
#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef DT_RELR
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

extern const ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));
void relocate(void);
void protect_tables(void);

#if defined(__x86_64__)
__asm__(".globl capsule_start\ncapsule_start:\n\tcall relocate\n\tjmp _start\n");
#elif defined(__aarch64__)
__asm__(".globl capsule_start\ncapsule_start:\n\tbl relocate\n\tb _start\n");
#endif

/* An even entry is the address of a pointer; each bit of an odd one, but the lowest, is one of the 63 pointers after
 * it. */
void relocate(void)
{
	uintptr_t base = (uintptr_t)&__ehdr_start, *where = 0;
	const uintptr_t *entry = 0;
	uintptr_t bytes = 0;

	for (const ElfW(Dyn) *part = _DYNAMIC; part->d_tag != DT_NULL; part++) {
		if (part->d_tag == DT_RELR)
			entry = (const uintptr_t *)(base + part->d_un.d_ptr);
		else if (part->d_tag == DT_RELRSZ)
			bytes = part->d_un.d_val;
	}
	for (const uintptr_t *end = entry + bytes / sizeof(*entry); entry < end; entry++) {
		if ((*entry & 1) == 0) {
			where = (uintptr_t *)(base + *entry);
			*where++ += base;
			continue;
		}
		for (uintptr_t bits = *entry >> 1, *next = where; bits != 0; bits >>= 1, next++)
			if (bits & 1)
				*next += base;
		where += 8 * sizeof(*entry) - 1;
	}
}

/* What was relocated and is not written again. */
void protect_tables(void)
{
	const ElfW(Ehdr) *file = &__ehdr_start;
	const ElfW(Phdr) *part = (const ElfW(Phdr) *)((const char *)file + file->e_phoff);

	for (const ElfW(Phdr) *end = part + file->e_phnum; part < end; part++) {
		uintptr_t start = (uintptr_t)file + part->p_vaddr, first = start & -getauxval(AT_PAGESZ);

		if (part->p_type == PT_GNU_RELRO
		    && mprotect((void *)first, start + part->p_memsz - first, PROT_READ) < 0)
			__builtin_trap();
	}
}
