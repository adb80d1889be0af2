// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * One process of the fuzzer: its beginning, its loop and its end.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct worker self;
struct control *control;
int control_fd = -1;

/**
 * stamp - a word to write that tells who wrote it, when, and where in the page
 * @number: tells apart what one operation writes
 * @word: number of the word in its page
 *
 * Return: never 0.
 */
uint64_t stamp(unsigned int number, unsigned int word)
{
	return (uint64_t)(self.ordinal & 0x3fff) << 50 | (uint64_t)(self.op & 0x3fffff) << 28 |
	       (number & 0x7ffff) << 9 | word;
}

/* Get a line in the table of processes, for whoever wants to know what hangs. */
void worker_enlist(void)
{
	int i, none;

	for (i = 0; i < MAX_PROCESSES; i++) {
		none = 0;
		if (atomic_compare_exchange_strong(&control->process[i].pid, &none, getpid()))
			break;
	}
	self.slot = i < MAX_PROCESSES ? i : -1;
	if (self.slot >= 0)
		control->process[self.slot].ordinal = self.ordinal;
}

/* @pid has been waited for: it is gone from the table and makes room for another. */
void reaped(pid_t pid)
{
	unsigned int i;

	for (i = 0; i < MAX_PROCESSES; i++) {
		int expected = pid;

		atomic_compare_exchange_strong(&control->process[i].pid, &expected, 0);
	}
	control->live--;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fail("signal %d (%s) at %p", sig, strsignal(sig), info->si_addr);
}

static void on_alarm(int sig)
{
	(void)sig;
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct sigaction alarm = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGALRM, &alarm, NULL);
}

/**
 * worker_start - become a process without arenas
 * @seed: of its random stream
 */
void worker_start(uint64_t seed)
{
	memset(&self, 0, sizeof(self));
	self.random = seed;
	self.ordinal = control->next_ordinal++;
	self.uffd = -1;
	self.uring.fd = -1;
	self.last_op = control->max_ops ? control->max_ops : 400 + below(800);
	self.device = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (self.device < 0)
		die("open " DEVICE);
	worker_enlist();
	catch_signals();
}

static void begin_operation(unsigned int kind)
{
	struct record *record;

	self.op++;
	record = &self.ring[self.op % RING];
	record->op = self.op;
	record->text[0] = 0;
	note("%s", operations[kind].name);
	control->done[kind]++;
	if (self.slot >= 0) {
		control->process[self.slot].op = self.op;
		control->process[self.slot].kind = kind;
	}
}

static void end_operation(unsigned int kind, bool effective)
{
	control->effective[kind] += effective;
	if (!effective)
		note(" -");
	if (control->verbose)
		dprintf(STDOUT_FILENO, "# %u.%u %s\n", self.ordinal, self.op,
			self.ring[self.op % RING].text);
}

/* Child and parent both come out of an operation that forks. */
static void step(void)
{
	unsigned int kind = choose_operation(self.burst);

	if (self.burst)
		self.burst--;
	begin_operation(kind);
	end_operation(kind, operations[kind].run());
	if (self.op % 16 == 0)
		check_all();
}

/* Leave with everything still mapped: the kernel has to take it down. */
void worker_end(void)
{
	check_all();
	_exit(0);
}

void worker_run(void)
{
	while (!control->stop && self.op < self.last_op)
		step();
	worker_end();
}
