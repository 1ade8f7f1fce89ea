/* Preloaded into the second kernel: lets it run on a processor whose register state is larger than
 * it was built for.
 *
 * It saves and restores the floating point and vector registers of its processes with ptrace's
 * PTRACE_GETREGSET and PTRACE_SETREGSET of NT_X86_XSTATE, in a buffer of a size that was fixed when
 * it was built: enough up to AVX-512 and protection keys. A host writes as much as fits, but takes
 * back only what is whole (EFAULT otherwise, where the processor has AMX for instance), and the
 * second kernel ends in a panic as it starts its first process. Here the rest is added: what the
 * process has now in the components that the second kernel does not know.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/* More than any processor's: the host says how much of it there is. */
#define LARGEST 65536
/* Where the state's header begins, in its standard form: a bit for each component that is in use. */
#define HEADER 512
/* The components whose place is within what the second kernel keeps. */
#define KEPT (UINT64_C(0x3ff) | UINT64_C(1) << 19)

typedef long (*ptrace_function)(int request, pid_t pid, void *address, void *data);

static char whole[LARGEST] __attribute__((aligned(64)));

static long set_whole(ptrace_function real, pid_t pid, void *kind, const struct iovec *part)
{
	struct iovec all = {whole, sizeof whole};
	uint64_t used_now, used;

	if (real(PTRACE_GETREGSET, pid, kind, &all) < 0)
		return -1;
	if (part->iov_len >= all.iov_len || part->iov_len < HEADER + sizeof used)
		return real(PTRACE_SETREGSET, pid, kind, (void *)part);
	memcpy(&used_now, whole + HEADER, sizeof used_now);
	memcpy(whole, part->iov_base, part->iov_len);
	memcpy(&used, whole + HEADER, sizeof used);
	used = (used & KEPT) | (used_now & ~KEPT);
	memcpy(whole + HEADER, &used, sizeof used);
	return real(PTRACE_SETREGSET, pid, kind, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_function real;
	va_list arguments;
	pid_t pid;
	void *address, *data;

	va_start(arguments, request);
	pid = va_arg(arguments, pid_t);
	address = va_arg(arguments, void *);
	data = va_arg(arguments, void *);
	va_end(arguments);
	if (!real)
		real = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE)
		return set_whole(real, pid, address, data);
	return real((int)request, pid, address, data);
}
