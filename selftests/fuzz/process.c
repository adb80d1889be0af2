// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Processes come and go: fork, raw clone, exec, exit, kill; and signals interrupt them.
 */
#include "fuzz.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not inherited are locks, and the contents of what this process has no mapping for. */
static void arena_inherit(struct arena *arena)
{
	unsigned int i;

	for (i = 0; i < arena->nr; i++) {
		struct page *page = &arena->page[i];

		page->locked = false;
		if (page->not_forked)
			page->addr = NULL;
		if (!page->addr)
			page_clear(page);
	}
	arena_forget_if_unmapped(arena);
}

/* Timers are not inherited, either; userfaultfd and ring of the parent are of no use. */
static void become_child(uint64_t seed)
{
	unsigned int i;

	self.random = seed;
	self.parent = self.ordinal;
	self.parent_op = self.op;
	self.ordinal = control->next_ordinal++;
	self.generation++;
	self.nr_children = 0;
	self.burst = 6 + below(16);
	self.timer = false;
	if (!control->max_ops)
		self.last_op = self.op + 30 + below(200);
	for (i = 0; i < MAX_ARENAS; i++)
		arena_inherit(&self.arena[i]);
	uffd_drop();
	uring_drop();
	worker_enlist();
}

/**
 * spawn - fork, if there is room for one process more
 * @raw: with a bare clone(), behind the C library's back
 *
 * The child has a copy of the model and goes on where its parent is, with a random
 * stream of its own.
 *
 * Return: the child's pid, 0 in the child, -1 if there is none.
 */
pid_t spawn(bool raw)
{
	uint64_t seed = next_random(&self.random);
	pid_t pid;

	if (self.nr_children == MAX_CHILDREN)
		return -1;
	if (++control->live > (int)control->max_processes) {
		control->live--;
		return -1;
	}
	pid = raw ? syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		become_child(seed);
	else
		self.children[self.nr_children++] = pid;
	return pid;
}

/* Who looks first makes a difference: neither, one, or both sides. */
static bool fork_once(bool raw)
{
	pid_t pid = spawn(raw);

	if (pid < 0)
		return false;
	if (pid)
		note(" child %d", pid);
	else
		note(" I am the child");
	if (pid)
		self.burst = 4 + below(8);
	if (one_in(2))
		check_all();
	return true;
}

bool op_fork(void)
{
	return fork_once(false);
}

bool op_clone(void)
{
	return fork_once(true);
}

/* Several children in a row, each with a parent that has changed since the last one. */
bool op_siblings(void)
{
	unsigned int i, n = 2 + below(3);
	pid_t pid;

	for (i = 0; i < n; i++) {
		pid = spawn(one_in(3));
		if (pid <= 0)
			break;
		op_write();
		if (one_in(2))
			op_merge_zap();
		if (one_in(3))
			op_remove();
	}
	check_all();
	return i;
}

/* A daemon's way: the parent is gone, the child has the heap to itself. */
bool op_chain(void)
{
	pid_t pid = spawn(one_in(3));

	if (pid < 0)
		return false;
	if (pid)
		worker_end();
	if (one_in(2))
		op_write();
	check_all();
	return true;
}

static void set_timer(unsigned int ms)
{
	struct itimerval timer = {
		.it_interval.tv_usec = ms * 1000,
		.it_value.tv_usec = ms * 1000,
	};

	setitimer(ITIMER_REAL, &timer, NULL);
	self.timer = ms;
}

/* A new program without arenas, in place of this one. */
void exec_anew(void)
{
	char seed[32], fd[16];

	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)next_random(&self.random));
	snprintf(fd, sizeof(fd), "%d", control_fd);
	set_timer(0);
	if (self.slot >= 0)
		control->process[self.slot].pid = 0;
	execl("/proc/self/exe", "fuzz", "--worker", fd, seed, NULL);
	die("exec");
}

bool op_exec(void)
{
	check_all();
	exec_anew();
}

bool op_exit(void)
{
	worker_end();
}

bool op_kill(void)
{
	pid_t pid;

	if (!self.nr_children)
		return false;
	pid = self.children[below(self.nr_children)];
	note(" %d", pid);
	kill(pid, SIGKILL);
	return true;
}

/* Whoever finds something says so itself: only deaths without a word are of interest. */
bool op_reap(void)
{
	unsigned int i = 0, n = self.nr_children;
	int status;

	while (i < self.nr_children) {
		pid_t pid = waitpid(self.children[i], &status, WNOHANG);

		if (pid != self.children[i]) {
			i++;
			continue;
		}
		reaped(pid);
		self.children[i] = self.children[--self.nr_children];
		if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
			fail("child %d died of signal %d", pid, WTERMSIG(status));
	}
	return n != self.nr_children;
}

/* Handlers run between, and system calls are interrupted, every few milliseconds. */
bool op_timer(void)
{
	set_timer(one_in(2) ? 0 : 3 + below(10));
	return true;
}
