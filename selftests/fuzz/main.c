// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fuzz - random operations of several processes on arenas of /dev/meshhelper.
 *
 * The supervisor starts processes, reaps them and their orphans, replaces those that are
 * done, and looks at what is left in the module when all are gone. One TAP test for
 * each seed.
 */
#include "fuzz.h"
#include "slow.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_SEEDS	16
#define HANG_SECONDS	120

static struct {
	uint64_t seed[MAX_SEEDS];
	unsigned int nr_seeds;
	double seconds;
	unsigned int ops;
	unsigned int processes;
	bool verbose;
} options = {
	.seconds = 10,
	.processes = 10,
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: fuzz [OPTIONS]\n"
		"  --seed N|random   may be given several times; random without\n"
		"  --seconds S       of all seeds together (10)\n"
		"  --ops N           each process ends after N operations\n"
		"  --processes N     at the same time, at most %u (10)\n"
		"  --verbose         print every operation\n", MAX_PROCESSES);
	exit(2);
}

static unsigned long long number(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 0);

	if (!*text || *end)
		usage();
	return n;
}

static void add_seed(const char *text)
{
	uint64_t seed;

	if (options.nr_seeds == MAX_SEEDS)
		usage();
	if (strcmp(text, "random"))
		seed = number(text);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		die("getrandom");
	else
		seed >>= 32;
	options.seed[options.nr_seeds++] = seed;
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ "ops", required_argument, NULL, 'o' },
		{ "processes", required_argument, NULL, 'p' },
		{ "verbose", no_argument, NULL, 'v' },
		{ }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (c == 's')
			add_seed(optarg);
		else if (c == 't')
			options.seconds = number(optarg);
		else if (c == 'o')
			options.ops = number(optarg);
		else if (c == 'p')
			options.processes = number(optarg);
		else if (c == 'v')
			options.verbose = true;
		else
			usage();
	}
	if (optind < argc || !options.processes || options.processes > MAX_PROCESSES)
		usage();
	if (!options.nr_seeds)
		add_seed("random");
}

static void control_map(void)
{
	control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, control_fd, 0);
	if (control == MAP_FAILED) {
		perror("fuzz: control page");
		exit(2);
	}
}

/* Not closed on exec: a program that takes over from a process goes on with it. */
static void control_create(void)
{
	control_fd = memfd_create("fuzz", 0);
	if (control_fd < 0 || ftruncate(control_fd, sizeof(*control))) {
		perror("fuzz: memfd_create");
		exit(2);
	}
	control_map();
}

static void control_reset(uint64_t seed)
{
	memset(control, 0, sizeof(*control));
	control->seed = seed;
	control->max_ops = options.ops;
	control->max_processes = options.processes;
	control->verbose = options.verbose;
	control->next_ordinal = 1;
}

/* A memory cgroup of our own, for op_reclaim(); without one that has no effect. */
static void cgroup_enter(void)
{
	write_text(CGROUP_ROOT "/cgroup.subtree_control", "+memory");
	mkdir(CGROUP, 0755);
	write_text(CGROUP "/cgroup.procs", "0");
}

static void cgroup_leave(void)
{
	write_text(CGROUP_ROOT "/cgroup.procs", "0");
	rmdir(CGROUP);
}

static void start_process(uint64_t seed)
{
	pid_t pid;

	control->live++;
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		worker_start(seed);
		worker_run();
	}
}

/* Children, and the orphans of those. False if there is none. */
static bool reap_all(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		reaped(pid);
		if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
			printf("# FOUND seed %llu: process %d died of signal %d\n",
			       (unsigned long long)control->seed, pid, WTERMSIG(status));
			control->failed = true;
		}
		/* It has said why, or someone else is about to. */
		if (WIFEXITED(status) && WEXITSTATUS(status) && !control->reporting)
			control->failed = true;
	}
	return pid == 0;
}

/* Until time is over, or somebody finds something, or all have done their operations. */
static void supervise(uint64_t seed, double end)
{
	unsigned int i, roots = (options.processes + 1) / 2;

	for (i = 0; i < roots; i++)
		start_process(next_random(&seed));
	while (now() < end && !control->failed) {
		usleep(10000);
		if (!reap_all() && options.ops)
			break;
		if (!options.ops && control->live < (int)roots)
			start_process(next_random(&seed));
	}
}

static void print_file(const char *path)
{
	char line[256];
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f))
		printf("#     %s", line);
	if (f)
		fclose(f);
}

static void print_hanging(void)
{
	unsigned int i;
	char path[64];

	printf("# FOUND seed %llu: processes do not end\n", (unsigned long long)control->seed);
	for (i = 0; i < MAX_PROCESSES; i++) {
		int pid = control->process[i].pid;

		if (!pid)
			continue;
		printf("#   process %u, pid %d, operation %u: %s\n", control->process[i].ordinal,
		       pid, control->process[i].op, operations[control->process[i].kind].name);
		snprintf(path, sizeof(path), "/proc/%d/stack", pid);
		print_file(path);
	}
}

static void kill_all(void)
{
	unsigned int i;

	for (i = 0; i < MAX_PROCESSES; i++)
		if (control->process[i].pid)
			kill(control->process[i].pid, SIGKILL);
}

/* Each process ends by itself; after something was found, at once. */
static void finish(void)
{
	double end = now() + HANG_SECONDS * slow_factor();

	control->stop = true;
	while (reap_all()) {
		if (control->failed)
			kill_all();
		if (!control->failed && now() > end) {
			print_hanging();
			control->failed = true;
			end = now() + HANG_SECONDS * slow_factor();
		} else if (now() > end) {
			printf("# processes cannot be killed\n");
			break;
		}
		usleep(10000);
	}
}

static bool leaked(const char *name, long long before)
{
	unsigned int try;

	for (try = 0; try < 100 && counter(name) != before; try++)
		usleep(20000);
	if (counter(name) == before)
		return false;
	printf("# FOUND seed %llu: %s was %lld and is %lld\n",
	       (unsigned long long)control->seed, name, before, counter(name));
	return true;
}

static void print_statistics(void)
{
	unsigned long sum = 0;
	unsigned int i;

	printf("# operations (of these with an effect):");
	for (i = 0; i < nr_operations; i++) {
		sum += control->done[i];
		printf("%s %s %lu (%lu)", i % 6 ? "," : "\n#  ", operations[i].name,
		       control->done[i], control->effective[i]);
	}
	printf("\n# %u processes, %lu operations, %lu pairs merged; refused:",
	       control->next_ordinal - 1, sum, control->merged);
	for (i = 1; i < MAX_ERRNO; i++)
		if (control->refused[i])
			printf(" %s %lu", strerrorname_np(i), control->refused[i]);
	printf("\n");
}

static bool run(uint64_t seed, double seconds)
{
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");

	printf("# seed %llu, %u processes, %.0f seconds\n", (unsigned long long)seed,
	       options.processes, seconds);
	fflush(stdout);
	control_reset(seed);
	supervise(seed, now() + seconds);
	finish();
	if (leaked("arenas", arenas) || leaked("pages_meshed", meshed))
		control->failed = true;
	if (!control->merged) {
		printf("# nothing was merged\n");
		control->failed = true;
	}
	print_statistics();
	return !control->failed;
}

int main(int argc, char **argv)
{
	unsigned int i, failed = 0;

	if (argc == 4 && !strcmp(argv[1], "--worker")) {
		control_fd = number(argv[2]);
		control_map();
		worker_start(number(argv[3]));
		worker_run();
	}
	control_create();
	parse_options(argc, argv);
	setlinebuf(stdout);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	cgroup_enter();
	printf("TAP version 13\n1..%u\n", options.nr_seeds);
	for (i = 0; i < options.nr_seeds; i++) {
		double start = now();
		bool ok = run(options.seed[i], options.seconds / options.nr_seeds);

		failed += !ok;
		printf("%s %u - seed %llu\n", ok ? "ok" : "not ok", i + 1,
		       (unsigned long long)options.seed[i]);
		printf("# %.1f seconds\n", now() - start);
	}
	cgroup_leave();
	return failed ? 1 : 0;
}
