// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * signals: every signal is the program's, while its heap is meshed.
 *
 * No signal has a handler that the program has not installed. Those that it installs run,
 * for signals sent to the process as a whole, also for SIGUSR1, SIGUSR2 and what faults
 * raise. The program ends by executing a shell that prints the signals blocked and ignored
 * in it: none. With an argument there must have been a merge before, for which the program
 * waits, for so many seconds at most.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "heap.h"

#define ROUNDS	50

static const int ours[] = {
	SIGUSR1, SIGUSR2, SIGSEGV, SIGBUS, SIGPROF, SIGURG, SIGALRM, SIGCHLD, SIGSYS,
};

#define NR_OURS	(sizeof(ours) / sizeof(*ours))

static volatile sig_atomic_t received[NSIG];

static void handler(int sig)
{
	received[sig]++;
}

static void all_are_default(void)
{
	struct sigaction sa;
	int sig;

	for (sig = 1; sig < NSIG; sig++) {
		if (sigaction(sig, NULL, &sa))
			continue;
		if (sa.sa_handler != SIG_DFL)
			die("signal %d has a handler", sig);
	}
}

static void expect(int sig, int n)
{
	const struct timespec rest = { 0, 1000000 };
	int i;

	for (i = 0; i < 10000 && received[sig] < n; i++)
		nanosleep(&rest, NULL);
	if (received[sig] != n)
		die("signal %d came %d times of %d", sig, (int)received[sig], n);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = handler };
	struct heap heap;
	size_t s;
	int i;

	heap_make(&heap, 50000, 80, 1);
	malloc_trim(0);
	all_are_default();
	for (s = 0; s < NR_OURS; s++)
		sigaction(ours[s], &sa, NULL);
	for (i = 1; i <= ROUNDS; i++) {
		for (s = 0; s < NR_OURS; s++) {
			kill(getpid(), ours[s]);
			expect(ours[s], i);
		}
	}
	if (argc > 1 && !await_merge(strtod(argv[1], NULL)))
		die("nothing was merged");
	if (heap_wrong(&heap, 0))
		die("objects are wrong");
	execl("/bin/sh", "sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status", NULL);
	die("no shell");
}
