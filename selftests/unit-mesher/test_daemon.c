/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The daemon thread among a program that does not know of it. The heap and the
 * backend are fakes. TEST_LOOP chooses the loop.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "daemon.h"
#include "deny.h"
#include "fake_heap.h"
#include "mesher.h"
#include "options.h"
#include "os.h"
#include "park.h"
#include "pressure.h"
#include "tcache.h"
#include "urgent.h"

#define MIB	((size_t)1 << 20)

/* Exit status of a child that was not scheduled in time to tell anything. */
#define TOO_SLOW	2

/* The thread that calls itself mesh, or 0. */
static int daemon_tid(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int tid = 0;

	CHECK(d);
	while (!tid && (e = readdir(d))) {
		char path[300], comm[20] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			 e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f) && !strcmp(comm, "mesh\n"))
			tid = atoi(e->d_name);
		fclose(f);
	}
	closedir(d);
	return tid;
}

static bool wait_for_daemon(unsigned int ms)
{
	for (; ms && !daemon_tid(); ms--)
		usleep(1000);
	return daemon_tid() != 0;
}

/* A number from a line of the daemon's status file. */
static unsigned long long status(const char *key, int base)
{
	char path[64], line[200];
	unsigned long long value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", daemon_tid());
	f = fopen(path, "r");
	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			value = strtoull(line + strlen(key) + 1, NULL, base);
	fclose(f);
	return value;
}

/* May the daemon have a descriptor for pressure? */
static bool pressure_allowed;
static atomic_uint pressure_opens;

int pressure_open(void)
{
	atomic_fetch_add(&pressure_opens, 1);
	return pressure_allowed ? urgent_open() : -EPERM;
}

/* Slots in the caches of threads that sleep, and whether the daemon may look there. */
static atomic_uint cached;

/* Slots in transfer caches that nobody wants, and that somebody may want. */
static atomic_uint unwanted, wanted;

static bool park_allowed = true;

void tcache_forgo(void)
{
}

void tcache_thread_leaves(void)
{
}

bool backend_is_shared(const void *p)
{
	(void)p;
	return false;
}

int park_open(void)
{
	return park_allowed ? 0 : -EPERM;
}

size_t park_idle(void)
{
	unsigned int n = atomic_exchange(&cached, 0);

	if (n)
		daemon_note_free(n);
	return n;
}

size_t park_transfers(bool all)
{
	unsigned int n = atomic_exchange(&unwanted, 0);

	if (all)
		n += atomic_exchange(&wanted, 0);
	if (n)
		daemon_note_free(n);
	return n;
}

static void set_up(void)
{
	const char *loop = getenv("TEST_LOOP");

	options_init(NULL);
	options.period_ms = 10;
	options.loop = loop && !strcmp(loop, "uring") ? LOOP_URING : LOOP_POLL;
	options.verbose = 1;
	fake_reset();
}

static void start(void)
{
	daemon_heap_grown(4 * MIB);
	daemon_poke();
	CHECK(wait_for_daemon(5000));
}

static void add_spans(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		fake_add_span(CLASS_256, 1 + test_random() % 4);
}

static void starts_lazily(void)
{
	set_up();
	daemon_poke();
	daemon_heap_grown(4 * MIB - 1024);
	daemon_poke();
	CHECK(!wait_for_daemon(100));
	daemon_heap_grown(4 * MIB);
	CHECK(!wait_for_daemon(100));
	daemon_poke();
	CHECK(wait_for_daemon(5000));
	daemon_poke();
	CHECK(!daemon_wanted);
}

static void option_keeps_it_off(void)
{
	set_up();
	options.daemon = 0;
	daemon_heap_grown(64 * MIB);
	daemon_poke();
	daemon_trim();
	CHECK(!wait_for_daemon(100));
}

static void signals_are_the_programs(void)
{
	unsigned long long blocked;

	set_up();
	start();
	blocked = status("SigBlk:", 16);
	/* all but the two that glibc keeps for itself, SIGKILL, SIGSTOP, and SIGSYS */
	CHECK((blocked | 3ULL << 31 | 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1) |
	       1 << (SIGSYS - 1)) == ~0ULL);
	CHECK(!(blocked & 1 << (SIGSYS - 1)));
}

/* The program only sleeps, and is meshed. */
static void meshes_a_sleeper(void)
{
	unsigned int i;

	set_up();
	add_spans(1000);
	start();
	for (i = 0; i < 500 && mesh_stats.merged < 700; i++)
		usleep(10000);
	CHECK(mesh_stats.merged >= 700);
}

static void await_doze(void)
{
	unsigned int i;

	for (i = 0; i < 1000 && daemon_wake_at == ~0UL; i++)
		usleep(10000);
	CHECK(daemon_wake_at != ~0UL);
}

/* What could not be merged for a while is looked at again, although nothing is freed. */
static void refused_for_a_while(void)
{
	unsigned int i;

	set_up();
	fake_refusals = 100;
	add_spans(1000);
	start();
	await_doze();
	CHECK(mesh_stats.merged == 0);
	fake_refusals = 0;
	for (i = 0; i < 4000 && mesh_stats.merged < 700; i++)
		usleep(10000);
	CHECK(mesh_stats.merged >= 700);
}

static void idle_costs_nothing(void)
{
	unsigned long long before;

	set_up();
	/* it would wake up to look at the caches of threads */
	park_allowed = false;
	add_spans(1000);
	start();
	await_doze();
	usleep(100000);
	before = status("voluntary_ctxt_switches:", 10);
	usleep(500000);
	CHECK(status("voluntary_ctxt_switches:", 10) == before);
}

static void frees_end_a_doze(void)
{
	unsigned long passes, i;

	set_up();
	add_spans(100);
	start();
	await_doze();
	passes = mesh_stats.passes;
	daemon_note_free(1);
	usleep(100000);
	CHECK(mesh_stats.passes == passes);
	daemon_note_free(1000);
	for (i = 0; i < 500 && mesh_stats.passes == passes; i++)
		usleep(10000);
	CHECK(mesh_stats.passes > passes);
	await_doze();
}

/* Much in the caches of threads that sleep is like much that was freed; little is not. */
static void caches_end_a_doze(void)
{
	unsigned long passes, i;

	set_up();
	start();
	await_doze();
	add_spans(1000);
	passes = mesh_stats.passes;
	atomic_store(&cached, 1);
	for (i = 0; i < 500 && atomic_load(&cached); i++)
		usleep(10000);
	usleep(100000);
	CHECK(mesh_stats.passes == passes);
	atomic_store(&cached, 1000);
	for (i = 0; i < 1000 && mesh_stats.merged < 700; i++)
		usleep(10000);
	CHECK(mesh_stats.merged >= 700);
	CHECK(mesh_stats.taken_back == 1001);
	await_doze();
}

/* What waits in transfer caches comes back by itself, or when memory is asked for. */
static void transfers_are_emptied(void)
{
	unsigned int i;

	set_up();
	park_allowed = false;
	start();
	await_doze();
	add_spans(1000);
	atomic_store(&wanted, 1);
	atomic_store(&unwanted, 1000);
	for (i = 0; i < 1000 && mesh_stats.merged < 700; i++)
		usleep(10000);
	CHECK(mesh_stats.merged >= 700);
	CHECK(mesh_stats.taken_back == 1000);
	daemon_trim();
	CHECK(!atomic_load(&wanted));
	CHECK(mesh_stats.taken_back == 1001);
}

static void dirty_runs_are_purged(void)
{
	unsigned long purged;
	uint64_t begun;
	unsigned int i;

	set_up();
	for (i = 0; i < 300; i++)
		CHECK(fake_add_dirty(&heap_arena) && fake_add_dirty(&heap_anon));
	begun = os_now_ns();
	start();
	/* not at once, but after a second: the program may want them back */
	usleep(200000);
	purged = mesh_stats.pages_purged;
	CHECK(purged == 0 || os_now_ns() - begun > 900000000);
	for (i = 0; i < 500 && mesh_stats.pages_purged < 600; i++)
		usleep(10000);
	CHECK(mesh_stats.pages_purged == 600);
	await_doze();
}

static void trim_does_it_now(void)
{
	unsigned int i;

	set_up();
	options.period_ms = 3600000;
	start();
	/* the daemon is asleep for an hour */
	usleep(50000);
	add_spans(1000);
	CHECK(fake_add_dirty(&heap_anon));
	CHECK(daemon_trim());
	CHECK(mesh_stats.merged >= 700);
	CHECK(pageheap_dirty(&heap_anon) == 0);
	for (i = 0; i < 100 && daemon_trim(); i++)
		;
	/* there comes a time when nothing is left to give back */
	CHECK(i < 100);
}

static void trim_starts_a_daemon(void)
{
	set_up();
	daemon_heap_grown(MIB);
	add_spans(1000);
	CHECK(daemon_trim());
	CHECK(daemon_tid());
	CHECK(mesh_stats.merged >= 700);
}

static void *trim_often(void *unused)
{
	unsigned int i;

	for (i = 0; i < 200; i++)
		daemon_trim();
	return unused;
}

static void trims_from_many_threads(void)
{
	pthread_t t[8];
	unsigned int i;

	set_up();
	add_spans(200);
	start();
	for (i = 0; i < 8; i++)
		CHECK(!pthread_create(&t[i], NULL, trim_often, NULL));
	for (i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
}

/* Descriptors of this process, as a string. */
static void list_fds(char *out, size_t len)
{
	int fd;

	*out = '\0';
	for (fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			snprintf(out + strlen(out), len - strlen(out), "%d ", fd);
}

static void descriptors_are_private(void)
{
	char before[1000], after[1000];
	int fd;

	set_up();
	list_fds(before, sizeof(before));
	start();
	CHECK(daemon_trim() == false);
	list_fds(after, sizeof(after));
	CHECK(!strcmp(before, after));
	/* close all, reuse all: the daemon must not care */
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	while ((fd = open("/dev/null", O_RDWR)) < 100)
		CHECK(fd >= 0);
	add_spans(1000);
	CHECK(daemon_trim());
	CHECK(mesh_stats.merged >= 700);
	for (fd = 3; fd < 101; fd++)
		CHECK(fcntl(fd, F_GETFD) >= 0);
}

/* What the library's atfork handlers do. */
static void register_fork(void)
{
	pthread_atfork(daemon_fork_prepare, daemon_fork_parent,
		       daemon_fork_child);
}

static int exit_status(pid_t pid)
{
	int st;

	CHECK(waitpid(pid, &st, 0) == pid);
	CHECK(WIFEXITED(st));
	return WEXITSTATUS(st);
}

/* Groups that are left, while no pass is in the middle of something. */
static unsigned int groups_at_rest(void)
{
	unsigned int groups;

	mesher_fork_prepare();
	groups = fake_check(CLASS_256);
	mesher_fork_parent();
	return groups;
}

static void fork_starts_anew(void)
{
	unsigned int i;
	pid_t pid;

	set_up();
	register_fork();
	start();
	CHECK(!daemon_trim());
	pid = fork();
	if (!pid) {
		CHECK(!daemon_tid());
		daemon_poke();
		CHECK(!daemon_tid());
		usleep(1100000);
		daemon_poke();
		CHECK(wait_for_daemon(5000));
		add_spans(1000);
		CHECK(daemon_trim());
		CHECK(groups_at_rest() < 300);
		_exit(0);
	}
	CHECK(exit_status(pid) == 0);
	/* the parent's goes on */
	add_spans(1000);
	for (i = 0; i < 3; i++)
		daemon_trim();
	CHECK(mesh_stats.merged >= 700);
}

/* Forks in the middle of passes: the child finds its books in order. */
static void forks_during_passes(void)
{
	unsigned int i;

	set_up();
	register_fork();
	options.period_ms = 1;
	fake_refusals = 95;
	fake_merge_us = 100;
	add_spans(3000);
	start();
	for (i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (!pid) {
			fake_check(CLASS_256);
			if (i % 10 == 0)
				daemon_trim();
			_exit(0);
		}
		daemon_note_free(1000);
		CHECK(exit_status(pid) == 0);
	}
	CHECK(fake_batches > 0);
}

/* fork without handlers: no daemon there, and no waiting for one. */
static int bare_child(void *unused)
{
	uint64_t begun = os_now_ns();

	(void)unused;
	daemon_note_free(100000);
	CHECK(fake_add_dirty(&heap_anon));
	CHECK(daemon_trim());
	/* who waits does so for five seconds */
	_exit(os_now_ns() - begun > 4500000000);
}

static char child_stack[64 << 10] __attribute__((aligned(16)));

static void make_bare_children(int flags)
{
	pid_t pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

	if (!pid)
		bare_child(NULL);
	CHECK(exit_status(pid) == 0);
	pid = clone(bare_child, child_stack + sizeof(child_stack), flags | SIGCHLD, NULL);
	CHECK(exit_status(pid) == 0);
}

static void raw_clone(void)
{
	set_up();
	start();
	CHECK(!daemon_trim());
	make_bare_children(0);
}

/* Parent and child have the same number, which is 1. */
static void raw_clone_of_init(void)
{
	pid_t pid;

	set_up();
	if (unshare(CLONE_NEWPID))
		SKIP("no PID namespaces: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		CHECK(getpid() == 1);
		start();
		make_bare_children(CLONE_NEWPID);
		_exit(0);
	}
	CHECK(exit_status(pid) == 0);
}

static atomic_int in_step;

static void *make_step(void *unused)
{
	mesher_lock();
	atomic_store(&in_step, 1);
	usleep(300000);
	atomic_store(&in_step, 2);
	mesher_unlock();
	return unused;
}

static int look_at_step(void *unused)
{
	(void)unused;
	return atomic_load(&in_step) != 2;
}

static void await_step(pthread_t *t)
{
	atomic_store(&in_step, 0);
	CHECK(!pthread_create(t, NULL, make_step, NULL));
	while (!atomic_load(&in_step))
		usleep(1000);
}

/* A child has the heap as it is between two steps, however it was made. */
static void bare_forks_exclude_steps(void)
{
	pthread_t t;
	pid_t pid;

	set_up();
	await_step(&t);
	pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (!pid)
		_exit(look_at_step(NULL));
	pthread_join(t, NULL);
	CHECK(exit_status(pid) == 0);

	await_step(&t);
	pid = clone(look_at_step, child_stack + sizeof(child_stack), SIGCHLD, NULL);
	pthread_join(t, NULL);
	CHECK(exit_status(pid) == 0);
}

static atomic_bool got_lock;

static void *get_lock(void *unused)
{
	usleep(100000);
	mesher_lock();
	mesher_unlock();
	atomic_store(&got_lock, true);
	return unused;
}

static int sleep_a_while(void *unused)
{
	(void)unused;
	usleep(500000);
	return 0;
}

/* Who sleeps until the child ends keeps nobody from forking, nor the daemon from working. */
static void suspended_forks_hold_nothing(void)
{
	pthread_t t;
	pid_t pid;

	set_up();
	CHECK(!pthread_create(&t, NULL, get_lock, NULL));
	pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL);
	if (!pid)
		_exit(sleep_a_while(NULL));
	CHECK(atomic_load(&got_lock));
	pthread_join(t, NULL);
	CHECK(exit_status(pid) == 0);

	atomic_store(&got_lock, false);
	CHECK(!pthread_create(&t, NULL, get_lock, NULL));
	pid = clone(sleep_a_while, child_stack + sizeof(child_stack), CLONE_VFORK | SIGCHLD,
		    NULL);
	CHECK(atomic_load(&got_lock));
	pthread_join(t, NULL);
	CHECK(exit_status(pid) == 0);
}

static void no_threads_allowed(void)
{
	set_up();
	deny(SYS_clone3, ENOSYS);
	deny(SYS_clone, EAGAIN);
	daemon_heap_grown(4 * MIB);
	errno = 7;
	daemon_poke();
	CHECK(errno == 7);
	CHECK(!daemon_tid());
	CHECK(daemon_wanted);
	CHECK(fake_add_dirty(&heap_arena));
	CHECK(daemon_trim());
}

static void no_uring(void)
{
	set_up();
	deny(SYS_io_uring_setup, EPERM);
	options.loop = LOOP_AUTO;
	start();
	add_spans(1000);
	daemon_trim();
	CHECK(mesh_stats.merged >= 700);
}

/* What the daemon waits with has become forbidden: it ends, and leaves nobody waiting. */
static void ends_without(unsigned int nr)
{
	uint64_t begun;
	unsigned int i;
	pid_t pid = fork();

	if (pid) {
		CHECK(exit_status(pid) == 0);
		return;
	}
	alarm(20);
	set_up();
	start();
	CHECK(!daemon_trim());
	add_spans(100);
	begun = os_now_ns();
	deny_everywhere(nr, EPERM);
	daemon_trim();
	for (i = 0; i < 500 && daemon_tid(); i++)
		usleep(10000);
	_exit(daemon_tid() || (os_now_ns() && os_now_ns() - begun > 4000000000));
}

static void late_filters(void)
{
	set_up();
	ends_without(SYS_clock_gettime);
	ends_without(SYS_read);
	if (options.loop == LOOP_POLL)
		ends_without(SYS_ppoll);
}

static void answer_enosys(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
}

static unsigned int nr_answered;

static void count_and_answer(int sig, siginfo_t *info, void *context)
{
	nr_answered++;
	answer_enosys(sig, info, context);
}

/* In its first second each slow malloc of a child would start a daemon, and asks for the time. */
static void children_seldom_ask(void)
{
	struct sigaction sa = { .sa_sigaction = count_and_answer, .sa_flags = SA_SIGINFO };
	unsigned int i;
	pid_t pid;

	set_up();
	register_fork();
	start();
	CHECK(!sigaction(SIGSYS, &sa, NULL));
	pid = fork();
	if (!pid) {
		CHECK(daemon_wanted);
		filter(SYS_clock_gettime, true, 0, SECCOMP_RET_TRAP, 0);
		for (i = 0; i < 10000; i++)
			daemon_poke();
		CHECK(nr_answered > 100 && nr_answered < 200);
		_exit(0);
	}
	CHECK(exit_status(pid) == 0);
}

/* io_uring goes away while the daemon waits with it, by an error or by a trap. */
static void late_no_uring(void)
{
	struct sigaction sa = { .sa_sigaction = answer_enosys, .sa_flags = SA_SIGINFO };
	pid_t pid;

	CHECK(!sigaction(SIGSYS, &sa, NULL));
	pid = fork();
	set_up();
	start();
	CHECK(!daemon_trim());
	if (pid)
		deny_everywhere(SYS_io_uring_enter, EPERM);
	else
		trap_everywhere(SYS_io_uring_enter);
	add_spans(1000);
	daemon_trim();
	CHECK(mesh_stats.merged >= 700);
	CHECK(daemon_tid());
	if (pid)
		CHECK(exit_status(pid) == 0);
}

/* Without a table of its own the daemon does nothing, and says so. */
static void no_private_table(void)
{
	set_up();
	deny(SYS_close_range, EPERM);
	deny(SYS_unshare, EPERM);
	daemon_heap_grown(4 * MIB);
	daemon_poke();
	add_spans(100);
	daemon_trim();
	CHECK(mesh_stats.merged == 0);
	CHECK(fake_opens == 0);
	CHECK(fcntl(0, F_GETFD) >= 0);
}

static atomic_bool leave;

static void *stay_behind(void *unused)
{
	while (!atomic_load(&leave))
		usleep(1000);
	usleep(100000);
	/* the last thread: its end is the end of the process */
	return unused;
}

/*
 * The main thread leaves by pthread_exit(). The process must end with the last
 * thread of the program, which runs the exit handlers, and they can write.
 */
static void ends_with_the_program(void)
{
	int p[2];
	char c = 0;
	pid_t pid;

	set_up();
	CHECK(!pipe(p));
	CHECK(dup2(p[1], 50) == 50);
	pid = fork();
	if (!pid) {
		pthread_t t;

		alarm(20);
		close(p[0]);
		dup2(50, 1);
		daemon_heap_grown(4 * MIB);
		daemon_poke();
		CHECK(wait_for_daemon(5000));
		CHECK(!pthread_create(&t, NULL, stay_behind, NULL));
		printf("x");
		daemon_thread_exit();
		atomic_store(&leave, true);
		pthread_exit(NULL);
	}
	close(p[1]);
	close(50);
	CHECK(exit_status(pid) == 0);
	CHECK(read(p[0], &c, 1) == 1 && c == 'x');
}

/* The end of a process with a merge in progress neither hangs nor crashes. */
static void end_during_a_pass(void (*end)(void))
{
	unsigned int i;

	set_up();
	fake_refusals = 100;
	fake_merge_us = 1000;
	add_spans(3000);
	for (i = 0; i < 30; i++) {
		pid_t pid = fork();

		if (!pid) {
			alarm(20);
			options.period_ms = 1;
			start();
			usleep(i * 1000);
			end();
			_exit(99);
		}
		CHECK(exit_status(pid) == 0);
	}
}

static void by_exit(void)
{
	exit(0);
}

static void by_exec(void)
{
	execl("/bin/true", "true", NULL);
}

/* Threads that this one wants fail, after a while. */
static __thread bool no_threads;
static atomic_bool failing;

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	__typeof__(pthread_create) *create = dlsym(RTLD_NEXT, "pthread_create");

	if (!no_threads)
		return create(t, attr, fn, arg);
	atomic_store(&failing, true);
	usleep(300000);
	return EAGAIN;
}

static void *fail_to_start(void *unused)
{
	no_threads = true;
	daemon_heap_grown(4 * MIB);
	daemon_poke();
	return unused;
}

/* Nor does a daemon start later that the main thread's end has waited for in vain. */
static void exit_during_a_start(void)
{
	pthread_t t;

	set_up();
	CHECK(!pthread_create(&t, NULL, fail_to_start, NULL));
	while (!atomic_load(&failing))
		usleep(1000);
	daemon_thread_exit();
	pthread_join(t, NULL);
	daemon_trim();
	CHECK(!daemon_tid() && !daemon_wanted);
}

static void exit_during_a_pass(void)
{
	end_during_a_pass(by_exit);
}

static void exec_during_a_pass(void)
{
	end_during_a_pass(by_exec);
}

/* A child that asks for it is meshed at once. */
static void trim_in_a_child(void)
{
	pid_t pid;

	set_up();
	register_fork();
	/* the parent's daemon does not come to it */
	options.period_ms = 3600000;
	start();
	add_spans(1000);
	pid = fork();
	if (!pid) {
		daemon_trim();
		CHECK(daemon_tid());
		CHECK(mesh_stats.merged > 0);
		CHECK(groups_at_rest() < 300);
		_exit(0);
	}
	CHECK(exit_status(pid) == 0);
}

/* A daemon that would sleep for an hour, with work to do. Returns what can wake it. */
static int start_to_be_pressed(void)
{
	set_up();
	options.period_ms = 3600000;
	pressure_allowed = true;
	start();
	add_spans(1000);
	CHECK(fake_add_dirty(&heap_arena) && fake_add_dirty(&heap_anon));
	return urgent_other_end();
}

static void await_pressed(void)
{
	unsigned int i;

	for (i = 0; i < 500 && !mesh_stats.passes; i++)
		usleep(10000);
	CHECK(mesh_stats.passes == 1);
	CHECK(mesh_stats.pressed == 1);
}

static void pressure_starts_a_pass(void)
{
	int far = start_to_be_pressed();

	usleep(100000);
	CHECK(mesh_stats.passes == 0 && mesh_stats.pages_purged == 0);
	urgent_send(far);
	await_pressed();
	CHECK(mesh_stats.merged >= 700);
	CHECK(mesh_stats.pages_purged == 2);
}

/* One measurement, in a process and with a daemon of its own; true unless it was too slow. */
static bool pressed_in_time(void)
{
	uint64_t begun = os_now_ns();
	unsigned long long before, after;
	pid_t pid = fork();
	int st, far;

	if (pid) {
		st = exit_status(pid);
		CHECK(!st || st == TOO_SLOW);
		return !st;
	}
	far = start_to_be_pressed();
	urgent_send(far);
	await_pressed();
	usleep(100000);
	before = status("voluntary_ctxt_switches:", 10);
	usleep(500000);
	after = status("voluntary_ctxt_switches:", 10);
	/* after two seconds it may be answered again */
	if (os_now_ns() - begun > 1900000000)
		_exit(TOO_SLOW);
	CHECK(mesh_stats.pressed == 1);
	CHECK(after <= before + 1);
	_exit(0);
}

/* It goes on and on, but neither passes nor the daemon do so. */
static void pressure_is_answered_once(void)
{
	unsigned int i;

	for (i = 0; i < 10 && !pressed_in_time(); i++)
		;
	CHECK(i < 10);
}

/* The process is in another cgroup, whose descriptor takes over. */
static void pressure_group_goes(void)
{
	int far = start_to_be_pressed();

	urgent_hang_up(far);
	far = urgent_other_end();
	CHECK(pressure_opens == 2);
	CHECK(mesh_stats.passes == 0);
	urgent_send(far);
	await_pressed();
}

static void pressure_refused(void)
{
	set_up();
	start();
	add_spans(1000);
	daemon_trim();
	CHECK(mesh_stats.merged >= 700);
	CHECK(pressure_opens == 1);
}

static void pressure_option(void)
{
	set_up();
	options.pressure = 0;
	start();
	add_spans(1000);
	daemon_trim();
	CHECK(mesh_stats.merged >= 700);
	CHECK(pressure_opens == 0);
}

static void *start_it(void *unused)
{
	start();
	return unused;
}

/* Some processor, if there are others; false if this is the only one. */
static bool choose_processor(const cpu_set_t *all, cpu_set_t *one)
{
	int cpu = 0;

	while (!CPU_ISSET(cpu, all))
		cpu++;
	CPU_ZERO(one);
	CPU_SET(cpu, one);
	return !CPU_EQUAL(all, one);
}

/* A thread for one processor and of real time is what starts the daemon. */
static void started_by_real_time(void)
{
	const struct sched_param param = { .sched_priority = 1 };
	cpu_set_t all, one, its;
	pthread_attr_t attr;
	pthread_t t;

	CHECK(!sched_getaffinity(0, sizeof(all), &all));
	if (!choose_processor(&all, &one))
		SKIP("there is one processor only");
	set_up();
	CHECK(!pthread_attr_init(&attr));
	CHECK(!pthread_attr_setaffinity_np(&attr, sizeof(one), &one));
	CHECK(!pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED));
	CHECK(!pthread_attr_setschedpolicy(&attr, SCHED_FIFO));
	CHECK(!pthread_attr_setschedparam(&attr, &param));
	if (pthread_create(&t, &attr, start_it, NULL))
		SKIP("threads of real time are not allowed");
	pthread_join(t, NULL);
	await_doze();
	CHECK(sched_getscheduler(daemon_tid()) == SCHED_OTHER);
	CHECK(!sched_getaffinity(daemon_tid(), sizeof(its), &its));
	CHECK(CPU_EQUAL(&its, &all));
}

/* A process with a daemon, whose only other thread ends with status 7 without destructors. */
static void ends_by_exit_call(bool tell)
{
	pid_t pid;
	int st, i;

	set_up();
	pid = fork();
	if (!pid) {
		start();
		if (tell) {
			await_doze();
			usleep(1500000);
			daemon_thread_leaves();
		}
		os_syscall(SYS_exit, 7, 0, 0, 0, 0, 0);
	}
	for (i = 0; i < 1000 && !waitpid(pid, &st, WNOHANG); i++)
		usleep(10000);
	if (i == 1000)
		kill(pid, SIGKILL);
	CHECK(i < 1000);
	CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 7);
}

static void main_thread_leaves(void)
{
	ends_by_exit_call(true);
}

static void main_thread_is_gone(void)
{
	ends_by_exit_call(false);
}

/* The daemon that a child of a bare fork knows of is its parent's, or somebody else by now. */
/* Nor do they start one, when it is time for their parent to. */
static void raw_children_start_none(void)
{
	pid_t pid;

	set_up();
	daemon_heap_grown(4 * MIB);
	CHECK(atomic_load(&daemon_wanted));
	pid = os_syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
	if (!pid) {
		for (unsigned int i = 0; i < 100; i++)
			daemon_poke();
		_exit(!atomic_load(&daemon_wanted));
	}
	CHECK(exit_status(pid) == 0);
	start();
}

static void raw_children_do_not_kick(void)
{
	pid_t pid;

	set_up();
	start();
	await_doze();
	pid = os_syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
	if (!pid) {
		filter(SYS_tgkill, true, 0, SECCOMP_RET_KILL_PROCESS, 0);
		daemon_note_free(100000);
		daemon_kick();
		_exit(0);
	}
	CHECK(exit_status(pid) == 0);
}

static const struct test_case cases[] = {
	{ "starts_lazily", starts_lazily },
	{ "option_keeps_it_off", option_keeps_it_off },
	{ "signals_are_the_programs", signals_are_the_programs },
	{ "meshes_a_sleeper", meshes_a_sleeper },
	{ "refused_for_a_while", refused_for_a_while },
	{ "idle_costs_nothing", idle_costs_nothing },
	{ "frees_end_a_doze", frees_end_a_doze },
	{ "caches_end_a_doze", caches_end_a_doze },
	{ "transfers_are_emptied", transfers_are_emptied },
	{ "dirty_runs_are_purged", dirty_runs_are_purged },
	{ "trim_does_it_now", trim_does_it_now },
	{ "trim_starts_a_daemon", trim_starts_a_daemon },
	{ "trims_from_many_threads", trims_from_many_threads },
	{ "descriptors_are_private", descriptors_are_private },
	{ "fork_starts_anew", fork_starts_anew },
	{ "forks_during_passes", forks_during_passes },
	{ "children_seldom_ask", children_seldom_ask },
	{ "raw_clone", raw_clone },
	{ "raw_clone_of_init", raw_clone_of_init },
	{ "bare_forks_exclude_steps", bare_forks_exclude_steps },
	{ "suspended_forks_hold_nothing", suspended_forks_hold_nothing },
	{ "no_threads_allowed", no_threads_allowed },
	{ "no_uring", no_uring },
	{ "late_filters", late_filters },
	{ "late_no_uring", late_no_uring },
	{ "no_private_table", no_private_table },
	{ "ends_with_the_program", ends_with_the_program },
	{ "exit_during_a_start", exit_during_a_start },
	{ "exit_during_a_pass", exit_during_a_pass },
	{ "exec_during_a_pass", exec_during_a_pass },
	{ "trim_in_a_child", trim_in_a_child },
	{ "pressure_starts_a_pass", pressure_starts_a_pass },
	{ "pressure_is_answered_once", pressure_is_answered_once },
	{ "pressure_group_goes", pressure_group_goes },
	{ "pressure_refused", pressure_refused },
	{ "pressure_option", pressure_option },
	{ "raw_children_start_none", raw_children_start_none },
	{ "raw_children_do_not_kick", raw_children_do_not_kick },
	{ "main_thread_leaves", main_thread_leaves },
	{ "main_thread_is_gone", main_thread_is_gone },
	{ "started_by_real_time", started_by_real_time },
};

TEST_MAIN(cases)
