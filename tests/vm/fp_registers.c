/* SPDX-License-Identifier: MIT
 *
 * Lets user-mode-linux before 6.13 boot on processors with a large register state, such as AMX: it keeps 2,696 bytes of it,
 * and ptrace(2) refuses to set less than the whole (EFAULT). What it sets is put over what the process has, and the whole is
 * set. Loaded into the guest's kernel with LD_PRELOAD by guest.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define STATE_BYTES (1 << 16)

typedef long (*ptrace_function)(enum __ptrace_request, ...);

long ptrace(enum __ptrace_request request, ...)
{
	static _Thread_local _Alignas(64) char state[STATE_BYTES];
	ptrace_function libc_ptrace = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
	struct iovec whole = { state, sizeof(state) };
	va_list arguments;
	long pid, address;
	void *data;

	va_start(arguments, request);
	pid = va_arg(arguments, long);
	address = va_arg(arguments, long);
	data = va_arg(arguments, void *);
	va_end(arguments);
	if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE) {
		const struct iovec *part = data;

		if (libc_ptrace(PTRACE_GETREGSET, pid, address, &whole) == 0 && part->iov_len < whole.iov_len) {
			memcpy(state, part->iov_base, part->iov_len);
			return libc_ptrace(request, pid, address, &whole);
		}
	}
	return libc_ptrace(request, pid, address, data);
}
