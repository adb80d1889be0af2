// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What relatives must not be able to do to each other: the corners of fork.
 *
 * Processes act in steps that the parent and its relatives give each other by pipes, so
 * that each order of events is the same in every run; the races at the end are not:
 * write_together() makes their windows meet.
 */
#include "peer.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "kselftest_harness.h"

#define SLOT	512

FIXTURE(relatives) {
	struct arena a;
	int up[2];
	int down[2];
};

FIXTURE_SETUP(relatives)
{
	self->a = arena_open(64, MESHHELPER_MERGE_ZAP);
	ASSERT_EQ(0, pipe(self->up));
	ASSERT_EQ(0, pipe(self->down));
}

FIXTURE_TEARDOWN(relatives)
{
	arena_close(&self->a);
}

/* Page 1 becomes an alias of page 0: slot 1 is 'B', the others 'A'. */
static void make_alias(struct arena *a)
{
	struct meshhelper_pair pair = make_pair(page_at(a, 1), page_at(a, 0), SLOT);

	memset(page_at(a, 0), 'A', PAGE);
	memset(page_at(a, 1), 'B', PAGE);
	set_live(&pair, 1);
	if (merge_one(a, &pair))
		die("merge");
}

static bool alias_intact(const char *page)
{
	unsigned int i;

	for (i = 0; i < PAGE; i++)
		if (page[i] != (i / SLOT == 1 ? 'B' : 'A'))
			return false;
	return true;
}

/*
 * The child gives one alias back and still sees the other in its parent: which then
 * writes, through the alias that the child has no interest in any more.
 */
TEST_F(relatives, half_an_alias)
{
	pid_t pid;

	make_alias(&self->a);
	pid = fork();
	if (!pid) {
		touch(page_at(&self->a, 1));
		if (madvise(page_at(&self->a, 0), PAGE, MADV_REMOVE))
			_exit(1);
		touch(page_at(&self->a, 1));
		tell(self->up[1]);
		hear(self->down[0]);
		_exit(alias_intact(page_at(&self->a, 1)) && !page_at(&self->a, 0)[0] ? 0 : 2);
	}
	hear(self->up[0]);
	memset(page_at(&self->a, 0), '!', PAGE);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ('!', page_at(&self->a, 1)[SLOT]);
}

/* The same, but the parent merges the alias with what it has written to since. */
TEST_F(relatives, half_an_alias_merged)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 0), page_at(&self->a, 2), SLOT);
	pid_t pid;

	make_alias(&self->a);
	memset(page_at(&self->a, 2), 'C', PAGE);
	pid = fork();
	if (!pid) {
		if (madvise(page_at(&self->a, 0), PAGE, MADV_REMOVE))
			_exit(1);
		page_at(&self->a, 2)[0] = 'c';
		tell(self->up[1]);
		hear(self->down[0]);
		_exit(alias_intact(page_at(&self->a, 1)) ? 0 : 2);
	}
	hear(self->up[0]);
	page_at(&self->a, 2)[0] = '!';
	set_live(&pair, 3);
	merge_one(&self->a, &pair);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
}

/* What the parent gets after a fork stays its own when a younger child has gone. */
TEST_F(relatives, younger_sibling_exits)
{
	pid_t older, younger;

	page_at(&self->a, 3)[0] = 'a';
	older = fork();
	if (!older) {
		hear(self->down[0]);
		_exit(page_at(&self->a, 20)[0] || page_at(&self->a, 10)[0] ? 1 : 0);
	}
	memset(page_at(&self->a, 20), 'S', PAGE);
	younger = fork();
	if (!younger)
		_exit(page_at(&self->a, 20)[0] == 'S' ? 0 : 1);
	EXPECT_EQ(0, exit_code(younger));
	memset(page_at(&self->a, 10), 'S', PAGE);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(older));
	EXPECT_EQ('S', page_at(&self->a, 20)[0]);
}

/* Merged by spans of two pages, of which one was never touched; true if it went well. */
static bool merge_with_untouched(struct arena *a)
{
	struct meshhelper_pair pair = make_pair(page_at(a, 10), page_at(a, 40), SLOT);

	pair.pages = 2;
	memset(page_at(a, 10), 's', 2 * PAGE);
	memset(page_at(a, 40), 'd', PAGE);
	set_live(&pair, 1);
	set_live(&pair, 8);
	return !merge_one(a, &pair);
}

static bool untouched_intact(struct arena *a)
{
	return page_at(a, 10)[0] == 'd' && page_at(a, 10)[SLOT] == 's' &&
	       page_at(a, 11)[0] == 's' && !page_at(a, 11)[SLOT] &&
	       page_at(a, 41)[0] == 's' && same_frame(page_at(a, 11), page_at(a, 41));
}

/* A merge has made a page that nobody ever touched; the child has it like the others. */
TEST_F(relatives, untouched_merged)
{
	int code = -1;
	pid_t pid = fork();

	if (!pid) {
		struct arena a = arena_open(64, MESHHELPER_MERGE_ZAP);

		if (!merge_with_untouched(&a))
			_exit(1);
		if (fork())
			_exit(0);
		touch(page_at(&a, 11));
		hear(self->down[0]);
		code = untouched_intact(&a) ? 0 : 2;
		_exit(write(self->up[1], &code, sizeof(code)) != sizeof(code));
	}
	/* Its parent is gone, and what it has become part of what the child has. */
	EXPECT_EQ(0, exit_code(pid));
	tell(self->down[1]);
	EXPECT_EQ(sizeof(code), read(self->up[0], &code, sizeof(code)));
	EXPECT_EQ(0, code);
}

/* -1 if there is nothing; no SIGBUS. */
static int peek(const char *at)
{
	struct iovec remote = { (void *)at, 1 };
	char byte;
	struct iovec local = { &byte, 1 };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 ? byte : -1;
}

/* mremap() makes a mapping larger than an arena may be: there is nothing. */
TEST_F(relatives, beyond_the_end)
{
	size_t max = device_info(self->a.fd).max_arena_pages;
	struct meshhelper_pair pair;
	char *base;
	pid_t pid;

	memset(page_at(&self->a, 0), 'a', 16 * PAGE);
	base = mremap(self->a.base, 64 * PAGE, (max + 64) * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, base);
	self->a.base = base;
	self->a.pages = max + 64;
	pid = fork();
	if (!pid) {
		memset(page_at(&self->a, 0), 'S', 16 * PAGE);
		tell(self->up[1]);
		hear(self->down[0]);
		_exit(page_at(&self->a, 1)[0] == 'S' ? 0 : 1);
	}
	hear(self->up[0]);
	/* The arena may begin with page 1; so this is a page that the child has written to. */
	EXPECT_EQ(-1, peek(page_at(&self->a, max + 1)));
	pair = make_pair(page_at(&self->a, max + 1), page_at(&self->a, 20), SLOT);
	page_at(&self->a, 20)[0] = 'd';
	EXPECT_EQ(-EFAULT, merge_one(&self->a, &pair));
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ('a', peek(page_at(&self->a, 1)));
}

/* In a child: its parent's first page cannot be copied. */
static int write_to_lost_page(struct arena a)
{
	char byte = 'w';
	struct iovec local = { &byte, 1 }, remote = { page_at(&a, 0), 1 };
	long long resident;

	a.fd = device_open();
	*page_at(&a, 1) = 'w';
	resident = fdinfo_value(&a, "mesh-resident");
	if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) != -1 || errno != EFAULT)
		return 1;
	return fdinfo_value(&a, "mesh-resident") == resident ? 0 : 2;
}

/* False if the kernel has no use for that. */
static bool lose_page(char *page)
{
	signal(SIGBUS, survive);
	return !madvise(page, PAGE, MADV_HWPOISON) || errno != EINVAL;
}

/* A copy-up that fails leaves no page behind. */
TEST_F(relatives, copy_of_lost_page)
{
	pid_t pid;

	memset(self->a.base, 'p', 2 * PAGE);
	if (!lose_page(self->a.base))
		SKIP(return, "the kernel does not handle memory errors");
	pid = fork();
	if (!pid)
		_exit(write_to_lost_page(self->a));
	EXPECT_EQ(0, exit_code(pid));
}

/* What a child is not to have need not be there. */
TEST_F(relatives, fork_without_lost_page)
{
	pid_t pid;

	memset(self->a.base, 'p', 3 * PAGE);
	if (!lose_page(page_at(&self->a, 1)))
		SKIP(return, "the kernel does not handle memory errors");
	ASSERT_EQ(0, madvise(page_at(&self->a, 1), PAGE, MADV_DONTFORK));
	pid = fork();
	if (!pid)
		_exit(peek(page_at(&self->a, 0)) != 'p' || peek(page_at(&self->a, 2)) != 'p');
	EXPECT_EQ(0, exit_code(pid));
}

/* So is what was lost for both, and nothing else; whoever has ever had a page pinned may fork. */
TEST_F(relatives, fork_with_lost_page)
{
	char byte;
	struct iovec local = { &byte, 1 }, remote = { self->a.base, 1 };
	pid_t pid;

	memset(self->a.base, 'p', 3 * PAGE);
	ASSERT_EQ(1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	if (!lose_page(page_at(&self->a, 1)))
		SKIP(return, "the kernel does not handle memory errors");
	pid = fork();
	if (!pid)
		_exit(peek(page_at(&self->a, 0)) != 'p' || peek(page_at(&self->a, 2)) != 'p');
	EXPECT_EQ(0, exit_code(pid));
}

/* A multiple of 8, as much as this kernel can take. */
#define RACE_PAGES	(scaled(512) * 8UL)

static volatile bool stop;

static void *read_holes(void *arg)
{
	struct arena *a = arg;
	unsigned long i;

	for (;;)
		for (i = 0; i < RACE_PAGES / 2; i++)
			touch(page_at(a, i));
	return NULL;
}

/* To be killed. */
static void reader(struct arena *a, int go)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	hear(go);
	read_holes(a);
}

/*
 * A grandchild sees holes of the child's, and reads them while the child gives them back
 * once more, together with pages that take a while. None of the zeroes that are read may
 * be mapped still when their page goes: the kernel would complain.
 */
static int remove_holes_below(const int *go)
{
	struct arena a = arena_open(RACE_PAGES, MESHHELPER_MERGE_ZAP);
	char *later = page_at(&a, RACE_PAGES / 2);
	pid_t pid = fork();
	int code;

	if (pid) {
		code = exit_code(pid);
		arena_close(&a);
		return code;
	}
	memset(later, 'x', RACE_PAGES / 2 * PAGE);
	pid = fork();
	if (!pid)
		reader(&a, go[0]);
	tell(go[1]);
	code = madvise(a.base, RACE_PAGES * PAGE, MADV_REMOVE) ? 3 : 0;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	_exit(code);
}

TEST_F_TIMEOUT(relatives, remove_holes, 120)
{
	unsigned int i;

	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, remove_holes_below(self->up));
}

static char *volatile shared_at;

static void *read_along(void *arg)
{
	char *at, *last = NULL;

	(void)arg;
	while (!stop) {
		at = shared_at;
		if (at && at != last)
			touch(at);
		last = at;
	}
	return NULL;
}

/* Of two threads one reads what the other writes first: both in a hole of the parent's. */
static int write_holes(struct arena *a, int up, int down)
{
	pthread_t thread;
	unsigned long i;

	stop = false;
	if (pthread_create(&thread, NULL, read_along, NULL))
		return 1;
	for (i = 0; i < RACE_PAGES - 1; i++) {
		shared_at = page_at(a, i);
		*(volatile char *)page_at(a, i) = 'c';
	}
	stop = true;
	pthread_join(thread, NULL);
	tell(up);
	hear(down);
	for (i = 0; i < RACE_PAGES - 1; i++)
		if (page_at(a, i)[0] != 'c' || page_at(a, i)[1])
			return 2;
	return 0;
}

TEST_F_TIMEOUT(relatives, write_holes, 120)
{
	struct arena a = arena_open(RACE_PAGES, MESHHELPER_MERGE_ZAP);
	unsigned long i;
	pid_t pid;

	page_at(&a, RACE_PAGES - 1)[0] = 'p';
	pid = fork();
	if (!pid)
		_exit(write_holes(&a, self->up[1], self->down[0]));
	hear(self->up[0]);
	for (i = 0; i < RACE_PAGES; i++)
		memset(page_at(&a, i), 'p', 2);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
	arena_close(&a);
}

struct meeting {
	volatile unsigned long arrived[2];
};

/* Each waits for the other before each page, and then they write to it, or to its alias. */
static void write_together(struct arena *a, struct meeting *m, unsigned int who)
{
	unsigned long i;

	for (i = 0; i < RACE_PAGES / 2; i++) {
		m->arrived[who] = i + 1;
		while (m->arrived[!who] < i + 1)
			sched_yield();
		*(volatile char *)(page_at(a, 2 * i + who) + who) = '0' + who;
	}
}

/* Pages of which each has an alias, and where two meet to write to them. */
static struct meeting *arrange_race(struct arena *a)
{
	struct meeting *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct meshhelper_pair pair;
	unsigned long i;

	if (m == MAP_FAILED)
		die("mmap");
	*a = arena_open(RACE_PAGES, MESHHELPER_MERGE_ZAP);
	for (i = 0; i < RACE_PAGES; i++)
		memset(page_at(a, i), 'x', PAGE);
	for (i = 0; i < RACE_PAGES; i += 2) {
		pair = make_pair(page_at(a, i), page_at(a, i + 1), SLOT);
		if (merge_one(a, &pair))
			die("merge");
	}
	return m;
}

/* Does each page have what @byte0 and @byte1 say, by both aliases? */
static bool all_have(struct arena *a, char byte0, char byte1)
{
	unsigned long i;

	for (i = 0; i < RACE_PAGES; i++)
		if (page_at(a, i)[0] != byte0 || page_at(a, i)[1] != byte1 ||
		    page_at(a, i)[2] != 'x')
			return false;
	return true;
}

struct partner {
	struct arena *a;
	struct meeting *meeting;
};

static void *write_as_partner(void *arg)
{
	struct partner *partner = arg;

	write_together(partner->a, partner->meeting, 1);
	return NULL;
}

/* Two threads of the child write to the two aliases of a page that the parent has. */
static int write_aliases(struct arena *a, struct meeting *m)
{
	struct partner partner = { a, m };
	pthread_t thread;

	if (pthread_create(&thread, NULL, write_as_partner, &partner))
		return 1;
	write_together(a, m, 0);
	pthread_join(thread, NULL);
	return all_have(a, '0', '1') ? 0 : 2;
}

TEST_F_TIMEOUT(relatives, threads_copy_once, 120)
{
	struct arena a;
	struct meeting *m = arrange_race(&a);
	pid_t pid = fork();

	if (!pid)
		_exit(write_aliases(&a, m));
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(all_have(&a, 'x', 'x'));
	arena_close(&a);
	munmap(m, PAGE);
}

/* The same for parent and child: neither has what the other writes. */
TEST_F_TIMEOUT(relatives, both_write, 120)
{
	struct arena a;
	struct meeting *m = arrange_race(&a);
	pid_t pid = fork();

	if (!pid) {
		write_together(&a, m, 1);
		_exit(all_have(&a, 'x', '1') ? 0 : 1);
	}
	write_together(&a, m, 0);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(all_have(&a, '0', 'x'));
	arena_close(&a);
	munmap(m, PAGE);
}

/* Give back what a child writes to at the same moment: it keeps what was there. */
static void remove_together(struct arena *a, struct meeting *m)
{
	unsigned long i;

	for (i = 0; i < RACE_PAGES / 2; i++) {
		m->arrived[0] = i + 1;
		while (m->arrived[1] < i + 1)
			sched_yield();
		if (madvise(page_at(a, 2 * i), 2 * PAGE, MADV_REMOVE))
			die("MADV_REMOVE");
	}
}

static bool kept_and_written(struct arena *a)
{
	unsigned long i;

	for (i = 0; i < RACE_PAGES; i++)
		if (page_at(a, i)[0] != 'x' || page_at(a, i)[2] != 'x' ||
		    page_at(a, i)[1] != (i % 2 ? '1' : 'x'))
			return false;
	return true;
}

/* A younger sibling is there, so what the parent removes is copied to a snapshot. */
TEST_F_TIMEOUT(relatives, removed_and_written, 120)
{
	struct arena a = arena_open(RACE_PAGES, MESHHELPER_MERGE_ZAP);
	struct meeting *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t older, younger;
	unsigned long i;

	ASSERT_NE(MAP_FAILED, m);
	memset(a.base, 'x', RACE_PAGES * PAGE);
	older = fork();
	if (!older) {
		hear(self->down[0]);
		write_together(&a, m, 1);
		_exit(kept_and_written(&a) ? 0 : 1);
	}
	younger = fork();
	if (!younger) {
		hear(self->up[0]);
		_exit(all_have(&a, 'x', 'x') ? 0 : 1);
	}
	tell(self->down[1]);
	remove_together(&a, m);
	EXPECT_EQ(0, exit_code(older));
	tell(self->up[1]);
	EXPECT_EQ(0, exit_code(younger));
	for (i = 0; i < RACE_PAGES; i++)
		EXPECT_EQ(0, page_at(&a, i)[2]);
	arena_close(&a);
	munmap(m, PAGE);
}

/* Give back what a relative gives back at the same moment, or shortly before or after. */
static void remove_in_step(struct arena *a, struct meeting *m, unsigned int who)
{
	uint64_t state = who + 1;
	unsigned long i, delay;

	for (i = 0; i < RACE_PAGES; i++) {
		m->arrived[who] = i + 1;
		while (m->arrived[!who] < i + 1)
			;
		for (delay = next_random(&state) % 4096; delay; delay--)
			asm volatile("" : : : "memory");
		if (madvise(page_at(a, i), PAGE, MADV_REMOVE))
			die("MADV_REMOVE");
	}
}

static bool all_gone(struct arena *a)
{
	unsigned long i;

	for (i = 0; i < RACE_PAGES; i++)
		if (page_at(a, i)[2])
			return false;
	return true;
}

/*
 * A child gives back what is on its way from its parent, who gives it back, too, to the snapshot
 * for an older sibling: the child has to find it in either place.
 */
static void remove_by_both(struct __test_metadata *_metadata, struct arena *a, struct meeting *m,
			   int go[2])
{
	pid_t older, younger;

	memset(m, 0, sizeof(*m));
	memset(a->base, 'x', RACE_PAGES * PAGE);
	older = fork();
	if (!older) {
		hear(go[0]);
		_exit(all_have(a, 'x', 'x') ? 0 : 1);
	}
	younger = fork();
	if (!younger) {
		remove_in_step(a, m, 1);
		_exit(all_gone(a) ? 0 : 1);
	}
	remove_in_step(a, m, 0);
	EXPECT_EQ(0, exit_code(younger));
	tell(go[1]);
	EXPECT_EQ(0, exit_code(older));
	EXPECT_TRUE(all_gone(a));
}

TEST_F_TIMEOUT(relatives, removed_by_both, 240)
{
	struct arena a = arena_open(RACE_PAGES, MESHHELPER_MERGE_ZAP);
	struct meeting *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int round;

	ASSERT_NE(MAP_FAILED, m);
	for (round = 0; round < 10; round++)
		remove_by_both(_metadata, &a, m, self->down);
	arena_close(&a);
	munmap(m, PAGE);
}

TEST_HARNESS_MAIN
