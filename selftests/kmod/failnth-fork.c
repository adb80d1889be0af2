// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork, the writes after it and the exit of relatives, with each allocation and each user copy
 * failing in turn: see failnth.h. Whoever else sees something of the same memory says after each
 * failure whether he sees what he must.
 */
#include "failnth.h"

/* Answers of other processes. */
#define RIGHT	'r'
#define WRONG	'w'

/*
 * A child that looks through to the memory of the moment of its fork, and says whether it still is
 * what it was.
 */
static struct {
	pid_t pid;
	int ask;
	int answer;
} witness;

static void __attribute__((noreturn)) be_witness(struct world *w, int ask, int answer)
{
	char c;

	while (read(ask, &c, 1) == 1) {
		c = as_model(w) ? RIGHT : WRONG;
		if (write(answer, &c, 1) != 1)
			die("pipe");
	}
	_exit(0);
}

static void witness_start(struct world *w)
{
	int ask[2], answer[2];

	if (pipe(ask) || pipe(answer))
		die("pipe");
	witness.pid = fork();
	if (witness.pid < 0)
		die("fork");
	if (!witness.pid) {
		close(ask[1]);
		be_witness(w, ask[0], answer[1]);
	}
	close(ask[0]);
	close(answer[1]);
	witness.ask = ask[1];
	witness.answer = answer[0];
}

static bool witness_agrees(struct world *w)
{
	char c = WRONG;

	(void)w;
	if (write(witness.ask, &c, 1) != 1 || read(witness.answer, &c, 1) != 1)
		die("the witness is gone");
	return c == RIGHT;
}

static void witness_finish(struct world *w)
{
	(void)w;
	close(witness.ask);
	if (waitpid(witness.pid, NULL, 0) != witness.pid)
		die("waitpid");
	close(witness.answer);
}

static void prepare_witness(struct world *w)
{
	prepare_groups(w);
	witness_start(w);
}

/* A lone page, members of groups, a page that nobody has touched, and a hole. */
static const struct {
	size_t page;
	size_t alias;
} touched[] = {
	{ SRC, SRC_ALIAS }, { SRC + 1, SRC_ALIAS + 1 }, { DST_ALIAS + 1, DST + 1 },
	{ LONE, LONE }, { NEVER, NEVER },
};

#define TOUCHED	(sizeof(touched) / sizeof(*touched))

/* A write that finds no memory is tried again. */
static int run_touch(struct world *w)
{
	size_t i;

	for (i = 0; i < TOUCHED; i++)
		*(volatile char *)page_at(&w->a, touched[i].page) = 't';
	return 0;
}

static int run_touch_by_system_call(struct world *w)
{
	int result = 0;
	size_t i;

	for (i = 0; i < TOUCHED && !result; i++)
		result = store_by_system_call(page_at(&w->a, touched[i].page));
	/* All or nothing: what was written before the failure is undone. */
	if (result)
		while (i--)
			*page_at(&w->a, touched[i].page) = *model_at(w, touched[i].page);
	return result;
}

static void done_touch(struct world *w)
{
	size_t i;

	for (i = 0; i < TOUCHED; i++) {
		*model_at(w, touched[i].page) = 't';
		*model_at(w, touched[i].alias) = 't';
	}
}

/* In the child. It may have no arena at all (SIGBUS), but never a wrong one. */
static void child_compares(struct world *w)
{
	prctl(PR_SET_DUMPABLE, 0);
	_exit(as_model(w) ? 0 : 1);
}

static void ready_fork(struct world *w)
{
	w->orphan = false;
}

/* A child that was told that it has no arena is a failure, one that saw a wrong one a bug. */
static int run_fork(struct world *w)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (!child)
		child_compares(w);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	w->orphan = WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
	if (w->orphan)
		return -ENOMEM;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EPROTO;
}

FIXTURE(failnth_fork) {
};

FIXTURE_SETUP(failnth_fork)
{
	if (!can_fail())
		SKIP(return, "kernel has no fail-nth");
}

FIXTURE_TEARDOWN(failnth_fork)
{
}

TEST_F_TIMEOUT(failnth_fork, first_child, 300)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.ready = ready_fork,
		.run = run_fork,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* An older child sees what has been written to since: a snapshot goes between. */
static void prepare_second_child(struct world *w)
{
	prepare_witness(w);
	run_touch(w);
	done_touch(w);
}

TEST_F_TIMEOUT(failnth_fork, second_child, 300)
{
	static const struct operation op = {
		.prepare = prepare_second_child,
		.ready = ready_fork,
		.run = run_fork,
		.holds = witness_agrees,
		.finish = witness_finish,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* What the child sees has to be copied before the parent's write. */
TEST_F_TIMEOUT(failnth_fork, parent_writes, 120)
{
	static const struct operation op = {
		.prepare = prepare_witness,
		.run = run_touch,
		.done = done_touch,
		.holds = witness_agrees,
		.finish = witness_finish,
		.copies = true,
		.infallible = true,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

TEST_F_TIMEOUT(failnth_fork, parent_writes_by_system_call, 120)
{
	static const struct operation op = {
		.prepare = prepare_witness,
		.run = run_touch_by_system_call,
		.done = done_touch,
		.holds = witness_agrees,
		.finish = witness_finish,
		.copies = true,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* Here giving memory back needs some first. */
TEST_F_TIMEOUT(failnth_fork, parent_removes, 120)
{
	static const struct operation op = {
		.prepare = prepare_witness,
		.run = run_remove,
		.done = done_remove,
		.holds = witness_agrees,
		.finish = witness_finish,
		.copies = true,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* What a child that has done it tells its parent, as bits of its exit code. */
#define CHILD_FAILED	1
#define CHILD_WRONG	2

/* Do it with the n-th failure, then again without if need be. */
static int child_attempts(struct world *w, const struct operation *op, unsigned int n)
{
	bool failed, ignored;
	int result = run(w, op, n, &failed);

	if (!as_model(w) || (result && (!failed || op->infallible)))
		return CHILD_WRONG;
	if (result && run(w, op, 0, &ignored))
		return CHILD_WRONG;
	return (failed ? CHILD_FAILED : 0) | (as_model(w) ? 0 : CHILD_WRONG);
}

/* A child does it, in its own copy of the memory. */
static int in_child(struct world *w, const struct operation *op, unsigned int n, bool *failed)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid)
		_exit(child_attempts(w, op, n));
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	*failed = WEXITSTATUS(status) & CHILD_FAILED;
	return WIFEXITED(status) && !(WEXITSTATUS(status) & ~CHILD_FAILED) ? 0 : -EPROTO;
}

static int child_touches(struct world *w, unsigned int n, bool *failed)
{
	static const struct operation op = {
		.run = run_touch,
		.done = done_touch,
		.infallible = true,
	};

	return in_child(w, &op, n, failed);
}

TEST_F_TIMEOUT(failnth_fork, child_writes, 120)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.elsewhere = child_touches,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

static int child_touches_by_system_call(struct world *w, unsigned int n, bool *failed)
{
	static const struct operation op = {
		.run = run_touch_by_system_call,
		.done = done_touch,
	};

	return in_child(w, &op, n, failed);
}

TEST_F_TIMEOUT(failnth_fork, child_writes_by_system_call, 120)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.elsewhere = child_touches_by_system_call,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

static int child_removes(struct world *w, unsigned int n, bool *failed)
{
	static const struct operation op = {
		.run = run_remove,
		.done = done_remove,
	};

	return in_child(w, &op, n, failed);
}

TEST_F_TIMEOUT(failnth_fork, child_removes, 120)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.elsewhere = child_removes,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* End this process at once, with the n-th failure on the way. */
static void __attribute__((noreturn)) exit_failing(unsigned int n)
{
	nth_start(nth_open(), n);
	syscall(SYS_exit_group, 0);
	__builtin_unreachable();
}

/* Wait for a process that does so; whether anything has failed. */
static bool await_exit(pid_t pid)
{
	char path[64], left[16] = "";
	siginfo_t info;
	int fd;

	if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT))
		die("waitid");
	/* Nobody has waited for it yet, so it still is there to be asked. */
	snprintf(path, sizeof(path), "/proc/%d/fail-nth", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, left, sizeof(left) - 1) <= 0)
		die(path);
	close(fd);
	if (waitpid(pid, NULL, 0) != pid)
		die("waitpid");
	return !atoi(left);
}

/* The memory is what it was at the fork, may be written to, and can be passed on. */
static bool heir_is_well(struct world *w)
{
	bool well = as_model(w);

	run_touch(w);
	done_touch(w);
	return well && as_model(w) && !run_fork(w) && as_model(w);
}

static void __attribute__((noreturn))
be_heir(struct world *w, int parent_lives, int report)
{
	char c;

	/* Nobody writes: it ends with the parent. */
	if (read(parent_lives, &c, 1))
		die("pipe");
	c = heir_is_well(w) ? RIGHT : WRONG;
	if (write(report, &c, 1) != 1)
		die("pipe");
	_exit(0);
}

/* Leave the memory to a child, having written to some of it since. */
static void bequeath(struct world *w, unsigned int n, int report)
{
	int alive[2];

	if (pipe(alive))
		die("pipe");
	switch (fork()) {
	case -1:
		die("fork");
	case 0:
		close(alive[1]);
		be_heir(w, alive[0], report);
	}
	run_touch(w);
	exit_failing(n);
}

/* A child dies that has a child: what it leaves and what that has become one, or stay two. */
static int parent_exits(struct world *w, unsigned int n, bool *failed)
{
	char verdict = WRONG, c;
	int report[2];
	pid_t pid;

	if (pipe(report))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(report[0]);
		bequeath(w, n, report[1]);
	}
	close(report[1]);
	*failed = await_exit(pid);
	/* The second read is the end of the heir. */
	if (read(report[0], &verdict, 1) != 1 || read(report[0], &c, 1))
		verdict = WRONG;
	close(report[0]);
	return verdict == RIGHT ? 0 : -EPROTO;
}

TEST_F_TIMEOUT(failnth_fork, parent_exits, 120)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.elsewhere = parent_exits,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/*
 * The second of two children dies, and the snapshot that both have looked through to is of use to
 * the first one alone. Each of the three layers has something that the one above has not.
 */
static int sibling_exits(struct world *w, unsigned int n, bool *failed)
{
	int go[2];
	pid_t pid;
	char c;

	if (pipe(go))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1))
			die("pipe");
		exit_failing(n);
	}
	close(go[0]);
	fill(w, LONE, 2, 'n');
	close(go[1]);
	*failed = await_exit(pid);
	return 0;
}

TEST_F_TIMEOUT(failnth_fork, sibling_exits, 120)
{
	static const struct operation op = {
		.prepare = prepare_second_child,
		.elsewhere = sibling_exits,
		.holds = witness_agrees,
		.finish = witness_finish,
		.copies = true,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

TEST_HARNESS_MAIN
