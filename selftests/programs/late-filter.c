// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * late-filter CALL errno|trap [MERGE [WORD]]: while the heap is being meshed, forbid a
 * system call to all threads, as programs do that enter a sandbox when they are set up. Then
 * go on: rewrite, verify and free.
 *
 * With trap the program has a handler for SIGSYS, which lets the call fail with ENOSYS. The
 * call is forbidden after a merge, which is waited for, for MERGE seconds at most. Then the
 * program goes on until there is another word on standard error, a file, and for WORD seconds
 * at most.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "bench.h"
#include "deny.h"
#include "heap.h"

#define OBJECTS		20000
#define GENERATIONS	4	/* of contents */

static const struct {
	const char *name;
	unsigned int nr;
} calls[] = {
#define CALL(name)	{ #name, SYS_##name }
	CALL(io_uring_enter), CALL(ppoll), CALL(ioctl), CALL(madvise), CALL(mmap),
	CALL(munmap), CALL(mremap), CALL(openat), CALL(read), CALL(close), CALL(pread64),
	CALL(pwrite64), CALL(process_vm_readv), CALL(fallocate), CALL(fcntl),
	CALL(memfd_create), CALL(clock_gettime), CALL(tgkill), CALL(membarrier),
};

static unsigned int number_of(const char *name)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!strcmp(calls[i].name, name))
			return calls[i].nr;
	die("%s is not in the list", name);
}

static void answer(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
}

static void forbid(unsigned int nr, bool trap)
{
	struct sigaction sa = { .sa_sigaction = answer, .sa_flags = SA_SIGINFO };

	if (trap) {
		sigaction(SIGSYS, &sa, NULL);
		trap_everywhere(nr);
	} else {
		deny_everywhere(nr, EPERM);
	}
}

/* Some time after a change for the meshing thread to do what it can. */
static void rewrite(struct heap *h, uint64_t generation)
{
	size_t wrong;

	for (size_t i = 0; i < h->objects; i++)
		heap_rewrite(h, i, generation);
	sleep_for(0.05);
	wrong = heap_wrong(h, generation);
	if (wrong)
		die("generation %u: %zu objects wrong", (unsigned int)generation, wrong);
}

/* Something to merge. */
static void thin_out(struct heap *h)
{
	for (size_t i = 0; i < h->objects; i += 2) {
		free(h->object[i]);
		h->object[i] = NULL;
	}
}

static off_t bytes_said(void)
{
	struct stat st;

	return fstat(STDERR_FILENO, &st) ? 0 : st.st_size;
}

int main(int argc, char **argv)
{
	double merge = argc > 3 ? strtod(argv[3], NULL) : 0;
	double word = argc > 4 ? strtod(argv[4], NULL) : 0;
	struct heap fixed, changing;
	off_t said;
	double end;

	if (argc < 3)
		die("usage: late-filter CALL errno|trap [MERGE [WORD]]");
	heap_make(&fixed, OBJECTS, 40, 1);
	heap_make(&changing, OBJECTS / 4, 70, 2);
	rewrite(&changing, 1);
	await_merge(merge);
	said = bytes_said();
	forbid(number_of(argv[1]), !strcmp(argv[2], "trap"));
	thin_out(&fixed);
	end = word > 0 ? now() + word : 0;
	for (uint64_t i = 2;
	     i < GENERATIONS || (word > 0 && bytes_said() == said && now() < end); i++)
		rewrite(&changing, i);
	if (heap_wrong(&fixed, 0))
		die("%zu objects wrong", heap_wrong(&fixed, 0));
	heap_drop(&changing);
	heap_drop(&fixed);
	return 0;
}
