// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * stopped STOPS: malloc and free go on while the meshing thread is stopped in a pass.
 *
 * A child makes heaps full of holes, one after the other, while threads of it allocate and
 * free. The parent traces the child's meshing thread and stops it at random moments, as a
 * processor that has something better to do would. If that happens in a pass, the threads
 * must get on nevertheless: were a lock held for a whole pass, they would not in most
 * cases. The few moments in which it has the lock of a list are allowed for.
 *
 * The threads do not touch what they allocate: a page that is being merged may be waited for.
 * What is shared by parent and child is struct shared only.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "heap.h"

#define THREADS		2
#define BATCH		500
#define OBJECTS		60000
#define PROGRESS	(10 * BATCH)
#define MSEC		1000000L
#define PATIENCE_MS	3000

struct shared {
	atomic_ulong done[THREADS];
	atomic_int stop;
};

static struct shared *shared;

static void rest(long ns)
{
	const struct timespec ts = { .tv_nsec = ns };

	nanosleep(&ts, NULL);
}

/* The child */

static void *churn(void *arg)
{
	static __thread void *object[BATCH];
	size_t t = (size_t)arg, i;
	uint64_t r = t;

	while (!atomic_load(&shared->stop)) {
		for (i = 0; i < BATCH; i++) {
			r = mix(r);
			object[i] = malloc(16 + r % 497);
		}
		for (i = 0; i < BATCH; i++)
			free(object[i]);
		atomic_fetch_add(&shared->done[t], BATCH);
	}
	return NULL;
}

static int work(void)
{
	pthread_t thread[THREADS];
	struct heap heap;
	size_t t, wrong = 0;

	for (t = 0; t < THREADS; t++) {
		if (pthread_create(&thread[t], NULL, churn, (void *)t))
			die("cannot start a thread");
	}
	for (t = 0; !atomic_load(&shared->stop); t++) {
		heap_make(&heap, OBJECTS, 80, t);
		rest(100 * MSEC);
		wrong += heap_wrong(&heap, 0);
		heap_drop(&heap);
	}
	for (t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	if (wrong)
		fprintf(stderr, "stopped: %zu objects wrong\n", wrong);
	return wrong != 0;
}

/* The parent */

static void read_file(char *to, size_t size, pid_t pid, pid_t tid, const char *name)
{
	char path[64];
	ssize_t len = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		len = read(fd, to, size - 1);
		close(fd);
	}
	to[len > 0 ? len : 0] = '\0';
}

static pid_t meshing_thread_now(pid_t pid)
{
	char path[64], comm[32];
	struct dirent *entry;
	pid_t tid = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && !tid && (entry = readdir(dir))) {
		read_file(comm, sizeof(comm), pid, atoi(entry->d_name), "comm");
		if (!strcmp(comm, "mesh\n"))
			tid = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return tid;
}

static pid_t meshing_thread(pid_t pid)
{
	pid_t tid = 0;
	int i;

	for (i = 0; i < 2000 && !tid; i++) {
		rest(10 * MSEC);
		tid = meshing_thread_now(pid);
	}
	return tid;
}

/* Is it doing something, as opposed to waiting for its time? */
static int is_busy(pid_t pid, pid_t tid)
{
	char stat[512], *state;

	read_file(stat, sizeof(stat), pid, tid, "stat");
	state = strrchr(stat, ')');
	return state && state[1] && state[2] == 'R';
}

static void stop_thread(pid_t tid)
{
	int status;

	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) || waitpid(tid, &status, __WALL) != tid ||
	    !WIFSTOPPED(status))
		die("cannot stop the thread: %s", strerror(errno));
}

/* Do all threads get on? */
static int get_on(void)
{
	unsigned long before[THREADS];
	int t, ms = 0;

	for (t = 0; t < THREADS; t++)
		before[t] = atomic_load(&shared->done[t]);
	for (t = 0; t < THREADS; t++) {
		while (atomic_load(&shared->done[t]) - before[t] < PROGRESS) {
			if (ms++ == PATIENCE_MS)
				return 0;
			rest(MSEC);
		}
	}
	return 1;
}

/* Is the thread stopped without effect on the others, but for one time in three at most? */
static bool stop_often(pid_t pid, pid_t tid, int stops)
{
	int n = 0, held_up = 0;
	double end = now() + 60;
	uint64_t r = 1;

	while (n < stops && held_up < stops / 3 && now() < end) {
		r = mix(r);
		rest((long)(r % (unsigned long)(2 * MSEC)));
		if (!is_busy(pid, tid))
			continue;
		stop_thread(tid);
		held_up += !get_on();
		ptrace(PTRACE_CONT, tid, NULL, NULL);
		n++;
	}
	printf("stopped: held up by %d of %d stops\n", held_up, n);
	if (n < stops / 4)
		die("the meshing thread has hardly been busy");
	return held_up * 3 <= n;
}

static int trace(pid_t pid, int stops)
{
	pid_t tid = meshing_thread(pid);
	int status;
	bool ok;

	if (!tid)
		die("no meshing thread");
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL)) {
		printf("stopped: no tracing: %s\n", strerror(errno));
		return 4;
	}
	ok = stop_often(pid, tid, stops);
	stop_thread(tid);
	ptrace(PTRACE_DETACH, tid, NULL, NULL);
	atomic_store(&shared->stop, 1);
	if (waitpid(pid, &status, 0) != pid || status)
		die("the child has failed (status %x)", status);
	return !ok;
}

int main(int argc, char **argv)
{
	pid_t pid;

	if (argc != 2)
		die("usage: stopped STOPS");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	return pid ? trace(pid, atoi(argv[1])) : work();
}
