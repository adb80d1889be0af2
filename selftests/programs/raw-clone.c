// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * raw-clone: forks that the C library does not know of, while the heap is meshed.
 *
 *	raw-clone [FORKS [SECONDS]]
 *
 * Each child must find every object as it was, and what it writes must not reach its
 * parent. It allocates, too: the only other thread is the library's, which holds no lock while
 * the program forks. Half of the forks come after a merge, which is waited for, for SECONDS at
 * most.
 */
#include "heap.h"

#include <linux/sched.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define OBJECTS	60000

static struct heap heap;

/* Objects of all sizes: the locks of all classes, and of the pages that are behind them. */
static void use_the_heap(void)
{
	void *p[16];
	size_t size, i;

	for (size = 8; size <= (64 << 10); size += size / 8 + 8) {
		for (i = 0; i < 16; i++)
			if (!(p[i] = malloc(size)))
				die("out of memory");
		for (i = 0; i < 16; i++)
			free(p[i]);
	}
}

static int child(void *unused)
{
	size_t i, wrong = heap_wrong(&heap, 0);

	(void)unused;
	alarm(60);
	use_the_heap();
	if (wrong)
		dprintf(2, "raw-clone: child: %zu objects wrong\n", wrong);
	for (i = 0; i < heap.objects; i += 5)
		heap_rewrite(&heap, i, 7);
	_exit(wrong != 0);
}

/* In one of three ways. */
static pid_t clone_raw(unsigned int way)
{
	static char stack[256 << 10] __attribute__((aligned(16)));
	struct clone_args args = { .exit_signal = SIGCHLD };

	switch (way) {
	case 0:
		return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	case 1:
		return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	default:
		return clone(child, stack + sizeof(stack), SIGCHLD, NULL);
	}
}

static int clone_one(unsigned int way)
{
	int status;
	pid_t pid = clone_raw(way);

	if (pid < 0)
		die("clone failed");
	if (!pid)
		child(NULL);
	if (waitpid(pid, &status, 0) != pid || status) {
		fprintf(stderr, "raw-clone: a child ended with status 0x%x\n", status);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long forks = argc > 1 ? strtoul(argv[1], NULL, 10) : 50, n;
	double patience = argc > 2 ? strtod(argv[2], NULL) : 0;
	struct heap more;
	int bad = 0;

	heap_make(&heap, OBJECTS, 80, 1);
	for (n = 0; n < forks && !bad; n++) {
		/* something new to be merged, all the time */
		heap_make(&more, OBJECTS / 8, 70, n);
		if (n == forks / 2)
			await_merge(patience);
		bad = clone_one(n % 3);
		if (heap_wrong(&heap, 0)) {
			fprintf(stderr, "raw-clone: the parent's objects are wrong\n");
			bad = 1;
		}
		heap_drop(&more);
	}
	return bad;
}
