/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * daemon.c: the life of the daemon thread, and the requests of other threads.
 *
 *	ABSENT -> STARTING -> RUNNING -> OFF
 *	  ^___________|__________|		in a child of fork
 *
 * OFF is for ever: the daemon could not get a descriptor table of its own, or
 * the main thread has ended. What the daemon does while it runs is in pace.c.
 *
 * Requests are counters: a trim asks for pass number N and waits until the
 * daemon has announced that it is done. A request is followed by a kick: the
 * signal KICK, sent to the daemon only, which has it blocked and reads it from a
 * signalfd. No descriptor is visible to the program, and none is needed to kick.
 *
 * Locks: none here. state and the counters are atomic; the thread itself takes
 * the mesh lock in mesher.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "backend.h"
#include "daemon.h"
#include "fdtable.h"
#include "lock.h"
#include "mesher.h"
#include "message.h"
#include "options.h"
#include "os.h"
#include "pace.h"
#include "proc.h"
#include "tcache.h"

/*
 * A signal that nobody sends to a process as a whole: a signalfd also reads what
 * is pending for the process, and must not steal from the program.
 */
#ifdef SIGSTKFLT
#define KICK	SIGSTKFLT
#else
#define KICK	SIGURG
#endif

/* Of which a page or two are ever touched; thread-local data is in it, too. */
#define STACK_SIZE	(512 * 1024)

#define SECOND		1000000000ULL

/* Nanoseconds that the daemon's short sleeps may be too long, whatever is the program's. */
#define TIMER_SLACK	1000

/* How long a trim waits for its pass. */
#define TRIM_PATIENCE	(5 * SECOND)

/* How long a main thread that is about to end waits for the daemon's end. */
#define END_PATIENCE_MS	1000

/* Before malloc tries again to start a thread, and before a child has one. */
#define RETRY_AFTER	(10 * SECOND)
#define CHILD_AFTER	SECOND

enum daemon_state {
	ABSENT,
	STARTING,
	RUNNING,
	OFF,
};

MESH_EARLY atomic_bool daemon_wanted;
MESH_EARLY atomic_ulong daemon_frees;
atomic_ulong daemon_wake_at = ULONG_MAX;

static _Atomic enum daemon_state state;

/* The process whose daemon this is about: not that of a raw clone or a vfork. */
static atomic_int home;

/* In the former. It may have its parent's number, in a PID namespace of its own. */
#define NO_HOME	(-1)

/* Valid from RUNNING on. */
static atomic_int daemon_tid;
static pthread_t daemon_thread;

/* Trims that were asked for and that are done; the second is a futex. */
static _Atomic uint32_t trims_asked;
static _Atomic uint32_t trims_done;

/* Is this the thread that the process began with? To know it without a system call. */
static MESH_TLS bool is_main;

/* Until then only a trim starts a daemon. */
static _Atomic uint64_t start_after;

/* How often malloc has asked since, and when the time will be asked for, which takes longer. */
static atomic_uint pokes;
static atomic_uint pokes_until_asked;

#define MOST_POKES	64

static bool at_home(void)
{
	return atomic_load(&home) == os_getpid();
}

static void announce(uint32_t done)
{
	atomic_store(&trims_done, done);
	os_futex_wake(&trims_done, INT_MAX);
}

/* The end of all hopes; whoever waits for a trim must not wait in vain. */
static void turn_off(void)
{
	atomic_store(&state, OFF);
	atomic_store(&daemon_wanted, false);
	atomic_store(&daemon_wake_at, ULONG_MAX);
	announce(atomic_load(&trims_asked));
}

uint32_t daemon_trims_asked(void)
{
	return atomic_load(&trims_asked);
}

bool daemon_trim_pending(void)
{
	return atomic_load(&trims_asked) != atomic_load(&trims_done);
}

void daemon_trims_done(uint32_t asked)
{
	announce(asked);
}

/* A descriptor that is readable while a kick is pending. */
static int open_kick(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, KICK);
	return os_signalfd(&set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Get what a daemon cannot do without. Returns the kick descriptor or -errno. */
static int prepare(void)
{
	bool keep_stderr = options.verbose || options.dump_signals;
	int ret = fdtable_make_private(keep_stderr);

	message_borrow = !keep_stderr;
	if (ret < 0) {
		verbose("no meshing: no private descriptor table: %s",
			strerrordesc_np(-ret));
		return ret;
	}
	ret = mesher_open();
	if (ret < 0) {
		verbose("no meshing: out of memory");
		return ret;
	}
	ret = open_kick();
	if (ret < 0)
		verbose("no meshing: signalfd: %s", strerrordesc_np(-ret));
	return ret;
}

/*
 * If the main thread has ended by itself, this may be the last one: since Linux 5.18 its
 * status is that of the process.
 */
static void end_as_main(void)
{
	int status = proc_main_status();

	if (status >= 0)
		os_exit_thread(status);
}

static void *daemon_main(void *unused)
{
	int kick_fd;

	tcache_forgo();
	lock_only_in_mesh(true);
	atomic_store(&daemon_tid, os_gettid());
	/* What the thread that happened to start us was made is not for us. */
	os_leave_real_time();
	os_share_processors(os_getpid());
	os_prctl_timer_slack(TIMER_SLACK);
	os_prctl_name("mesh");
	kick_fd = prepare();
	if (kick_fd >= 0) {
		daemon_thread = pthread_self();
		atomic_store(&state, RUNNING);
		pace_run(kick_fd);
	}
	lock_only_in_mesh(false);
	turn_off();
	/* Only with a table of descriptors of its own: the program would see what that opens. */
	if (kick_fd >= 0)
		end_as_main();
	return unused;
}

/*
 * All signals are the program's. But SIGSYS is sent to the thread that makes a call which a
 * filter traps, for the program's handler; the kernel ends a process that has it blocked.
 * Returns 0 or an errno.
 */
static int create_thread(pthread_t *thread, pthread_attr_t *attr)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(thread, attr, daemon_main, NULL);
	/* The program's thread-local data may need more than our stack. */
	if (err == EINVAL)
		err = pthread_create(thread, NULL, daemon_main, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

/*
 * The thread stays joinable: the main thread may have to wait for its end.
 * pthread_create() allocates, so that start() may be called again; it then finds
 * the state STARTING.
 */
static int create_daemon(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err = pthread_attr_init(&attr);

	if (err)
		return err;
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	err = create_thread(&thread, &attr);
	pthread_attr_destroy(&attr);
	return err;
}

static void start_not_before(uint64_t ns)
{
	atomic_store(&start_after, os_now_ns() + ns);
	atomic_store(&pokes, 0);
	atomic_store(&pokes_until_asked, 0);
}

/* Start a daemon if there is none. */
static void start(void)
{
	enum daemon_state absent = ABSENT;
	int err;

	if (!atomic_compare_exchange_strong(&state, &absent, STARTING))
		return;
	atomic_store(&daemon_wanted, false);
	err = create_daemon();
	if (err) {
		verbose("no meshing for now: pthread_create: %s",
			strerrordesc_np(err));
		start_not_before(RETRY_AFTER);
		atomic_store(&daemon_wanted, true);
		atomic_store(&state, ABSENT);
	}
}

/* Asked for at ever longer distances, up to MOST_POKES: who rarely allocates waits less. */
static bool is_time(void)
{
	unsigned int until = atomic_load_explicit(&pokes_until_asked, memory_order_relaxed);
	unsigned int n = atomic_fetch_add_explicit(&pokes, 1, memory_order_relaxed);

	if (n < until)
		return false;
	/* Fails when start_not_before() came between: ask the next time, then. */
	atomic_compare_exchange_strong_explicit(&pokes_until_asked, &until,
						n + (n < MOST_POKES ? n + 1 : MOST_POKES),
						memory_order_relaxed, memory_order_relaxed);
	return at_home() && os_now_ns() >= atomic_load(&start_after);
}

void daemon_start(void)
{
	int saved_errno = errno;

	if (is_time())
		start();
	errno = saved_errno;
}

/* The state is also in children of a bare fork: the daemon is not theirs, and perhaps no more. */
void daemon_kick(void)
{
	if (atomic_load(&state) == RUNNING && at_home())
		os_tgkill(atomic_load(&home), atomic_load(&daemon_tid), KICK);
}

/* Of all that see enough freed, one kicks. A child of vfork() leaves that to its parent. */
void daemon_wake(void)
{
	if (at_home() && atomic_exchange(&daemon_wake_at, ULONG_MAX) != ULONG_MAX)
		daemon_kick();
}

void daemon_heap_grown(size_t bytes)
{
	int nobody = 0;

	atomic_compare_exchange_strong(&home, &nobody, os_getpid());
	if (options.daemon && bytes >> 10 >= options.start_kib &&
	    atomic_load(&state) == ABSENT)
		atomic_store(&daemon_wanted, true);
}

/* Is there a daemon that a trim can leave the work to? */
static bool daemon_serves(void)
{
	enum daemon_state s;

	if (!at_home())
		return false;
	if (options.daemon && backend_current()->mesh_open)
		start();
	s = atomic_load(&state);
	return s == STARTING || s == RUNNING;
}

/* Wait, with bounded patience, until trim number @asked is done. */
static void await_trim(uint32_t asked)
{
	uint64_t now = os_now_ns(), end = now + TRIM_PATIENCE;
	uint32_t done = atomic_load(&trims_done);

	while ((int32_t)(asked - done) > 0 && now < end) {
		struct timespec ts = {
			.tv_sec = (end - now) / SECOND,
			.tv_nsec = (end - now) % SECOND,
		};

		os_futex_wait(&trims_done, done, &ts);
		done = atomic_load(&trims_done);
		now = os_now_ns();
	}
}

static unsigned long pages_returned(void)
{
	return atomic_load(&mesh_stats.pages_merged) +
	       atomic_load(&mesh_stats.pages_purged);
}

bool daemon_trim(void)
{
	const struct backend_ops *ops = backend_current();
	unsigned long before = pages_returned();

	if (daemon_serves()) {
		uint32_t asked = atomic_fetch_add(&trims_asked, 1) + 1;

		daemon_kick();
		await_trim(asked);
	} else {
		mesher_purge(&heap_arena, ops, &loop_poll, SIZE_MAX);
		mesher_purge(&heap_anon, ops, &loop_poll, SIZE_MAX);
	}
	return pages_returned() != before;
}

/* No daemon is started any more. Returns whether there is one yet. */
static bool forgo(void)
{
	enum daemon_state s = ABSENT;

	/* One that is starting may fail to, and then be started again. */
	while (!atomic_compare_exchange_strong(&state, &s, OFF) && s == STARTING) {
		os_sleep_ns(1000000);
		s = ABSENT;
	}
	if (s == ABSENT)
		atomic_store(&daemon_wanted, false);
	return s == RUNNING;
}

static void send_away(void)
{
	atomic_store(&mesher_quit, true);
	daemon_kick();
}

/*
 * Only the main thread's end matters. Were the daemon left as the last thread,
 * the process would never end, or would run its exit handlers in a thread
 * without descriptors.
 */
void daemon_thread_exit(void)
{
	if (os_gettid() != os_getpid() || !at_home() || !forgo())
		return;
	send_away();
	pthread_join(daemon_thread, NULL);
}

/* The library is loaded with the program and not by dlopen(), so by that thread. */
__attribute__((constructor)) static void mark_main(void)
{
	is_main = true;
}

static bool has_ended(void)
{
	return atomic_load(&state) == OFF &&
	       os_tgkill(os_getpid(), atomic_load(&daemon_tid), 0) == -ESRCH;
}

/* Since Linux 5.18 a process has the status of the thread that ends last. */
static void await_end(void)
{
	for (unsigned int i = 0; i < END_PATIENCE_MS && !has_ended(); i++)
		os_sleep_ns(1000000);
}

void daemon_thread_leaves(void)
{
	enum daemon_state s = atomic_load(&state);

	if (!is_main || s == ABSENT || s == OFF || os_gettid() != atomic_load(&home))
		return;
	send_away();
	await_end();
}

/* There is nothing to be done at its end then. */
void daemon_thread_restricts(void)
{
	if (!is_main || os_gettid() != atomic_load(&home))
		return;
	is_main = false;
	if (!forgo())
		return;
	send_away();
	await_end();
}

void daemon_fork_prepare(void)
{
	mesher_fork_prepare();
}

void daemon_fork_parent(void)
{
	mesher_fork_parent();
}

/*
 * The daemon has stayed with the parent. Most children are short-lived: give
 * this one a second before it gets its own.
 */
void daemon_fork_child(void)
{
	enum daemon_state s = atomic_load(&state);

	mesher_fork_child(true);
	is_main = true;
	atomic_store(&home, os_getpid());
	atomic_store(&mesher_quit, false);
	atomic_store(&daemon_wake_at, ULONG_MAX);
	atomic_store(&trims_done, atomic_load(&trims_asked));
	start_not_before(CHILD_AFTER);
	if (s == STARTING || s == RUNNING) {
		atomic_store(&state, ABSENT);
		atomic_store(&daemon_wanted, true);
	}
}

/* There is nobody to be woken, nor to be waited for, nor will there be. */
void daemon_fork_bare_child(bool held)
{
	mesher_fork_child(held);
	if (atomic_load(&home))
		atomic_store(&home, NO_HOME);
	atomic_store(&daemon_wake_at, ULONG_MAX);
}
