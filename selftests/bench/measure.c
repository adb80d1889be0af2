// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * measure [--preload LIB] [--pss] [--client PROGRAM] PROGRAM [ARG...]: run a program and print
 *
 *	wall_ms cpu_ms rss_kb pss_kb
 *
 * rss_kb is the most it has had resident, as the kernel has counted it; a program starts with that
 * of the process that starts it, so this one is small and linked statically. pss_kb is 0, or with
 * --pss the most that was seen by looking every few milliseconds, which takes time itself.
 *
 * With a client the program is a server: the client, a shell command, runs without the library,
 * and wall_ms is its time; then the server gets SIGTERM. The output of both is thrown away.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY_NS	5000000

static struct {
	const char *preload;
	const char *client;
	int pss;
} opt;

static pid_t start(const char *preload, char **argv)
{
	pid_t pid;
	int null;

	if (preload)
		setenv("LD_PRELOAD", preload, 1);
	else
		unsetenv("LD_PRELOAD");
	pid = vfork();

	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid)
		return pid;
	null = open("/dev/null", O_WRONLY);
	dup2(null, STDOUT_FILENO);
	execvp(argv[0], argv);
	_exit(127);
}

static double ms_of(struct timeval tv)
{
	return (double)tv.tv_sec * 1e3 + (double)tv.tv_usec / 1e3;
}

/* The most that @pid had, until it has ended; it is not reaped. */
static long watch_pss(pid_t pid)
{
	const struct timespec rest = { 0, LOOK_EVERY_NS };
	siginfo_t info = { 0 };
	struct memory m;
	long most = 0;

	do {
		memory_read_of(pid, &m);
		if (m.pss_kb > most)
			most = m.pss_kb;
		nanosleep(&rest, NULL);
	} while (!waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid);
	return most;
}

static void reap(pid_t pid, const char *what, int sig, struct rusage *usage)
{
	int status;

	if (wait4(pid, &status, 0, usage) != pid)
		die("wait: %s", strerror(errno));
	if (!(WIFEXITED(status) && !WEXITSTATUS(status)) &&
	    !(sig && WIFSIGNALED(status) && WTERMSIG(status) == sig))
		die("%s has failed (status %x)", what, status);
}

static double run_client(void)
{
	char *argv[] = { "sh", "-c", (char *)opt.client, NULL };
	double begun = now();
	struct rusage usage;

	reap(start(NULL, argv), "the client", 0, &usage);
	return now() - begun;
}

static int parse_options(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc && !strncmp(argv[i], "--", 2); i++) {
		if (!strcmp(argv[i], "--pss"))
			opt.pss = 1;
		else if (!strcmp(argv[i], "--preload") && i + 1 < argc)
			opt.preload = argv[++i];
		else if (!strcmp(argv[i], "--client") && i + 1 < argc)
			opt.client = argv[++i];
		else
			die("what is %s?", argv[i]);
	}
	if (i >= argc)
		die("no program to run");
	return i;
}

int main(int argc, char **argv)
{
	int first = parse_options(argc, argv);
	double begun = now(), seconds = 0;
	pid_t pid = start(opt.preload, argv + first);
	struct memory m = { 0 };
	struct rusage usage;

	if (opt.client) {
		seconds = run_client();
		memory_read_of(pid, &m);
		kill(pid, SIGTERM);
	} else if (opt.pss) {
		m.pss_kb = watch_pss(pid);
	}
	reap(pid, argv[first], opt.client ? SIGTERM : 0, &usage);
	if (!opt.client)
		seconds = now() - begun;
	printf("%.3f %.3f %ld %ld\n", seconds * 1e3,
	       ms_of(usage.ru_utime) + ms_of(usage.ru_stime), usage.ru_maxrss,
	       opt.pss ? m.pss_kb : 0);
	return 0;
}
