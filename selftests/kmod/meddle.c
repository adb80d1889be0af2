// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * The application meddles with its arena: protections, unmapping, moving, advice,
 * locking, and being killed at any moment.
 */
#include "peer.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#include "kselftest_harness.h"

/* Of /proc/kpageflags and /proc/PID/pagemap. */
#define KPF_MLOCKED		33
#define PAGEMAP_SOFT_DIRTY	(1ULL << 55)

#define SLOT	512

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

FIXTURE(meddle) {
	struct arena a;
};

FIXTURE_SETUP(meddle)
{
	unsigned int i;

	self->a = arena_open(64, MESHHELPER_MERGE_ZAP);
	for (i = 0; i < 64; i++)
		memset(page_at(&self->a, i), 'A' + i % 26, PAGE);
}

FIXTURE_TEARDOWN(meddle)
{
	arena_close(&self->a);
}

static sigjmp_buf jump;

static void on_fault(int sig)
{
	siglongjmp(jump, sig);
}

/* The signal that a write to @addr raises, 0 if none. */
static int write_signal(char *addr)
{
	struct sigaction action = { .sa_handler = on_fault }, old_segv, old_bus;
	int sig;

	sigaction(SIGSEGV, &action, &old_segv);
	sigaction(SIGBUS, &action, &old_bus);
	sig = sigsetjmp(jump, 1);
	if (!sig)
		*(volatile char *)addr = 'w';
	sigaction(SIGSEGV, &old_segv, NULL);
	sigaction(SIGBUS, &old_bus, NULL);
	return sig;
}

/* A guard page in the heap still guards after its page was merged. */
TEST_F(meddle, protected_pages)
{
	ASSERT_EQ(0, mprotect(page_at(&self->a, 5), PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(page_at(&self->a, 7), PAGE, PROT_NONE));
	EXPECT_EQ(0, merge_slot(&self->a, 5, 10, SLOT, 0));
	EXPECT_EQ(0, merge_slot(&self->a, 7, 11, SLOT, 0));
	EXPECT_EQ(SIGSEGV, write_signal(page_at(&self->a, 5)));
	EXPECT_EQ(SIGSEGV, write_signal(page_at(&self->a, 7)));
	EXPECT_EQ('F', *page_at(&self->a, 5));
	ASSERT_EQ(0, mprotect(self->a.base, 64 * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, write_signal(page_at(&self->a, 7)));
	EXPECT_EQ('w', *page_at(&self->a, 11));
}

TEST_F(meddle, unmapped_part)
{
	ASSERT_EQ(0, merge_slot(&self->a, 20, 21, SLOT, 0));
	ASSERT_EQ(0, merge_slot(&self->a, 30, 40, SLOT, 0));
	/* The target goes, its alias stays; so does the rest of the arena. */
	ASSERT_EQ(0, munmap(page_at(&self->a, 21), 15 * PAGE));
	EXPECT_EQ('U', page_at(&self->a, 20)[0]);
	EXPECT_EQ('V', page_at(&self->a, 20)[SLOT]);
	EXPECT_EQ('E', page_at(&self->a, 40)[0]);
	EXPECT_EQ(-EFAULT, merge_slot(&self->a, 21, 40, SLOT, 0));
	EXPECT_EQ(-EFAULT, merge_slot(&self->a, 41, 30, SLOT, 0));
	EXPECT_EQ(0, merge_slot(&self->a, 41, 42, SLOT, 0));
}

TEST_F(meddle, moved)
{
	char *to;

	ASSERT_EQ(0, merge_slot(&self->a, 1, 2, SLOT, 0));
	to = mmap(NULL, 65 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, to);
	/* One address in 512 is refused, see huge.c. */
	if (mremap(self->a.base, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) {
		to += PAGE;
		ASSERT_EQ(to, mremap(self->a.base, 64 * PAGE, 64 * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	}
	self->a.base = to;
	EXPECT_EQ('B', page_at(&self->a, 2)[0]);
	EXPECT_TRUE(same_frame(page_at(&self->a, 1), page_at(&self->a, 2)));
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, SLOT, 0));
	EXPECT_EQ('D', page_at(&self->a, 4)[0]);
	EXPECT_EQ(0, madvise(page_at(&self->a, 10), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, page_at(&self->a, 10)[0]);
}

/* The kernel chooses the address, and likes the ones that we refuse, see huge.c. */
TEST_F(meddle, moved_anywhere)
{
	size_t huge = 2 << 20, size;
	struct arena b;
	char *to;

	for (size = huge; size <= 16 * huge; size += huge / 2) {
		b = arena_open(size / PAGE, MESHHELPER_MERGE_ZAP);
		memset(page_at(&b, 7), 'm', PAGE);
		to = mremap(b.base, size, size + huge, MREMAP_MAYMOVE);
		ASSERT_NE(MAP_FAILED, to) TH_LOG("%zu KiB: %s", size / 1024, strerror(errno));
		b.base = to;
		b.pages += huge / PAGE;
		/* And once more, where it cannot grow in place. */
		to = mremap(b.base, 0, b.pages * PAGE, MREMAP_MAYMOVE);
		ASSERT_NE(MAP_FAILED, to) TH_LOG("%zu KiB: %s", size / 1024, strerror(errno));
		EXPECT_EQ('m', to[7 * PAGE]);
		munmap(to, b.pages * PAGE);
		arena_close(&b);
	}
}

/* The same arena mapped twice: both mappings follow a merge. */
TEST_F(meddle, mapped_twice)
{
	char *twin = mremap(self->a.base, 0, 64 * PAGE, MREMAP_MAYMOVE);

	ASSERT_NE(MAP_FAILED, twin);
	touch(twin + PAGE);
	EXPECT_EQ(0, merge_slot(&self->a, 1, 2, SLOT, 0));
	EXPECT_TRUE(same_frame(twin + PAGE, page_at(&self->a, 2)));
	twin[PAGE] = 't';
	EXPECT_EQ('t', page_at(&self->a, 2)[0]);
	EXPECT_EQ(0, madvise(page_at(&self->a, 2), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, twin[2 * PAGE]);
	EXPECT_EQ('t', twin[PAGE]);
	munmap(twin, 64 * PAGE);
}

TEST_F(meddle, advice)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
		MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
		MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_MERGEABLE,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_WIPEONFORK, MADV_FREE,
	};
	unsigned char resident[64];
	unsigned int i;

	ASSERT_EQ(0, merge_slot(&self->a, 1, 2, SLOT, 0));
	for (i = 0; i < sizeof(advice) / sizeof(*advice); i++) {
		/* Some do not apply to shared memory; none may harm. */
		madvise(self->a.base, 64 * PAGE, advice[i]);
		ASSERT_EQ('B', page_at(&self->a, 2)[0]) TH_LOG("after advice %d", advice[i]);
		ASSERT_EQ('C', page_at(&self->a, 1)[SLOT]);
		ASSERT_EQ('D', page_at(&self->a, 3)[PAGE - 1]);
	}
	EXPECT_EQ(0, mincore(self->a.base, 64 * PAGE, resident));
	EXPECT_EQ(0, msync(self->a.base, 64 * PAGE, MS_SYNC));
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, SLOT, 0));
}

TEST_F(meddle, locked)
{
	ASSERT_EQ(0, mlock(self->a.base, 64 * PAGE));
	EXPECT_EQ(-EPERM, merge_slot(&self->a, 1, 2, SLOT, 0));
	EXPECT_EQ('C', page_at(&self->a, 2)[0]);
	ASSERT_EQ(-1, madvise(page_at(&self->a, 3), PAGE, MADV_REMOVE));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, munlock(self->a.base, 64 * PAGE));
	EXPECT_EQ(0, merge_slot(&self->a, 1, 2, SLOT, 0));
	EXPECT_EQ('B', page_at(&self->a, 2)[0]);
	EXPECT_EQ(0, madvise(page_at(&self->a, 3), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, page_at(&self->a, 3)[0]);
}

/* Of the page at an address, as /proc/kpageflags has it. */
static bool page_flag(const void *addr, unsigned int flag)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags;

	if (fd < 0 || pread(fd, &flags, 8, pfn_of(addr) * 8) != 8)
		die("/proc/kpageflags");
	close(fd);
	return flags >> flag & 1;
}

/* What is locked when it is touched is so for the kernel, too. */
TEST_F(meddle, locked_on_fault)
{
	unsigned int i;

	ASSERT_EQ(0, munmap(self->a.base + 32 * PAGE, 32 * PAGE));
	ASSERT_EQ(0, madvise(self->a.base, 32 * PAGE, MADV_REMOVE));
	ASSERT_EQ(0, mlock2(self->a.base, 32 * PAGE, MLOCK_ONFAULT));
	for (i = 0; i < 32; i++) {
		page_at(&self->a, i)[0] = 'x';
		EXPECT_TRUE(page_flag(page_at(&self->a, i), KPF_MLOCKED));
	}
}

/* Memory of any kind that has just been written to is, if the kernel knows of that at all. */
static bool has_soft_dirty(void)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool has;

	if (page == MAP_FAILED)
		die("mmap");
	*page = 'x';
	has = pagemap_entry(page) & PAGEMAP_SOFT_DIRTY;
	munmap(page, PAGE);
	return has;
}

/* A checkpoint asks which pages were written to since the last: the first write counts. */
TEST_F(meddle, soft_dirty)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

	if (!has_soft_dirty())
		SKIP(return, "kernel has no CONFIG_MEM_SOFT_DIRTY");
	ASSERT_EQ(0, madvise(self->a.base, PAGE, MADV_REMOVE));
	ASSERT_EQ(1, write(fd, "4", 1));
	ASSERT_EQ(0, close(fd));
	EXPECT_FALSE(pagemap_entry(self->a.base) & PAGEMAP_SOFT_DIRTY);
	page_at(&self->a, 0)[0] = 'x';
	EXPECT_TRUE(pagemap_entry(self->a.base) & PAGEMAP_SOFT_DIRTY);
}

/* What is mapped with MCL_FUTURE in force is populated and locked, and nothing beyond. */
TEST_F(meddle, locked_in_future)
{
	struct arena b;
	char *grown;

	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_EQ(64 * 4, smaps_kb(&self->a, "Locked:"));
	EXPECT_EQ(-EPERM, merge_slot(&self->a, 1, 2, SLOT, 0));
	b = arena_open(16, MESHHELPER_MERGE_ZAP);
	EXPECT_EQ(16 * 4, smaps_kb(&b, "Rss:"));
	grown = mremap(b.base, 16 * PAGE, 24 * PAGE, 0);
	if (grown != MAP_FAILED) {
		b.pages = 24;
		EXPECT_EQ(24 * 4, smaps_kb(&b, "Rss:"));
	}
	/* Both arenas, and not a page more. */
	EXPECT_EQ((long long)(64 + b.pages) * 4, fdinfo_value(&b, "mesh-resident"));
	EXPECT_EQ(-EPERM, merge_slot(&b, 1, 2, SLOT, 0));
	ASSERT_EQ(0, munlockall());
	EXPECT_EQ(0, merge_slot(&b, 1, 2, SLOT, 0));
	EXPECT_EQ(0, merge_slot(&self->a, 1, 2, SLOT, 0));
	EXPECT_EQ('B', page_at(&self->a, 2)[0]);
	arena_close(&b);
}

/* The child has no mapping there; what the rest shows is complete, shared pages or not. */
TEST_F(meddle, not_for_children)
{
	pid_t pid;

	/* The page of 10 and 21 is at home at 21, which the child does not get. */
	ASSERT_EQ(0, merge_slot(&self->a, 10, 21, SLOT, 0));
	ASSERT_EQ(0, madvise(page_at(&self->a, 20), 10 * PAGE, MADV_DONTFORK));
	pid = fork();
	if (!pid) {
		if (write_signal(page_at(&self->a, 20)) != SIGSEGV ||
		    write_signal(page_at(&self->a, 29)) != SIGSEGV)
			_exit(1);
		if (!all_bytes(page_at(&self->a, 10), SLOT, 'K') ||
		    !all_bytes(page_at(&self->a, 10) + SLOT, PAGE - SLOT, 'V'))
			_exit(2);
		if (!all_bytes(page_at(&self->a, 19), PAGE, 'T') ||
		    !all_bytes(page_at(&self->a, 30), PAGE, 'E'))
			_exit(3);
		memset(page_at(&self->a, 10), 'c', PAGE);
		/* Free for something else. */
		if (mmap(page_at(&self->a, 20), 10 * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
			_exit(4);
		_exit(merge_slot(&self->a, 1, 20, SLOT, 0) == -EFAULT ? 0 : 5);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 21), SLOT, 'K'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 10) + SLOT, PAGE - SLOT, 'V'));
}

/* The child enlarges a mapping over the gap, where its parent has something. */
static int look_into_gap(struct arena *a)
{
	char *at = page_at(a, 10);

	/* The gap is free: the mapping before it can grow. */
	if (mremap(a->base, 10 * PAGE, 30 * PAGE, 0) != a->base)
		return 1;
	if (!all_bytes(at, 20 * PAGE, 0))
		return 2;
	memset(at, 'c', 20 * PAGE);
	if (!all_bytes(at, 20 * PAGE, 'c'))
		return 3;
	/* What shares a page with one in the gap is complete, and merges on. */
	if (!all_bytes(page_at(a, 5), SLOT, 'F') ||
	    !all_bytes(page_at(a, 5) + SLOT, PAGE - SLOT, 'M') ||
	    !all_bytes(page_at(a, 40), SLOT, 'N') ||
	    !all_bytes(page_at(a, 40) + SLOT, PAGE - SLOT, 'O'))
		return 4;
	memset(page_at(a, 5), 'd', PAGE);
	return all_bytes(at, 20 * PAGE, 'c') ? 0 : 5;
}

static void look_into_gap_of(struct __test_metadata *_metadata, struct arena *a)
{
	pid_t pid = fork();

	if (!pid)
		_exit(look_into_gap(a));
	EXPECT_EQ(0, exit_code(pid));
	/* Fork by a child that has the gap, too. */
	pid = fork();
	if (!pid) {
		pid = fork();
		if (!pid)
			_exit(look_into_gap(a));
		_exit(exit_code(pid));
	}
	EXPECT_EQ(0, exit_code(pid));
}

TEST_F(meddle, gap_has_nothing)
{
	long long layers = counter("layers"), meshed = counter("pages_meshed");

	ASSERT_EQ(0, merge_slot(&self->a, 5, 12, SLOT, 0));
	ASSERT_EQ(0, merge_slot(&self->a, 13, 40, SLOT, 0));
	ASSERT_EQ(0, merge_slot(&self->a, 15, 16, SLOT, 0));
	ASSERT_EQ(0, madvise(page_at(&self->a, 10), 20 * PAGE, MADV_DONTFORK));
	look_into_gap_of(_metadata, &self->a);
	/* The parent has lost nothing. */
	EXPECT_TRUE(all_bytes(page_at(&self->a, 12), SLOT, 'F'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 13), SLOT, 'N'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 29), PAGE, 'D'));
	/* What the parent has unmapped is not the child's, either. */
	ASSERT_EQ(0, munmap(page_at(&self->a, 10), 20 * PAGE));
	look_into_gap_of(_metadata, &self->a);
	EXPECT_EQ(layers, counter("layers"));
	EXPECT_EQ(meshed + 3, counter("pages_meshed"));
}

/* A child that has a gap, where its parent has something, makes no pages there when it forks. */
static int fork_with_gap(struct arena a)
{
	long long resident;
	pid_t pid;

	a.fd = device_open();
	resident = fdinfo_value(&a, "mesh-resident");
	pid = fork();
	if (!pid)
		_exit(0);
	return exit_code(pid) || fdinfo_value(&a, "mesh-resident") != resident;
}

TEST_F(meddle, gap_is_empty)
{
	pid_t pid;

	ASSERT_EQ(0, madvise(page_at(&self->a, 10), 20 * PAGE, MADV_DONTFORK));
	pid = fork();
	if (!pid)
		_exit(fork_with_gap(self->a));
	EXPECT_EQ(0, exit_code(pid));
}

/* A page that is mapped twice and marked once is for children. */
TEST_F(meddle, gap_mapped_elsewhere)
{
	char *twin = mremap(self->a.base, 0, 64 * PAGE, MREMAP_MAYMOVE);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, twin);
	ASSERT_EQ(0, madvise(twin, 30 * PAGE, MADV_DONTFORK));
	ASSERT_EQ(0, madvise(page_at(&self->a, 20), 20 * PAGE, MADV_DONTFORK));
	pid = fork();
	if (!pid) {
		if (!all_bytes(page_at(&self->a, 19), PAGE, 'T') ||
		    !all_bytes(twin + 30 * PAGE, PAGE, 'E'))
			_exit(1);
		/* 20 to 29 are in no mapping of the child. */
		if (mremap(self->a.base, 20 * PAGE, 40 * PAGE, 0) != self->a.base)
			_exit(2);
		_exit(all_bytes(page_at(&self->a, 20), 10 * PAGE, 0) &&
		      all_bytes(page_at(&self->a, 30), PAGE, 'E') ? 0 : 3);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 20), PAGE, 'U'));
	munmap(twin, 64 * PAGE);
}

/* Ends what threads do. */
static atomic_bool stop;

#define HALVES	256

/*
 * The first half of this arena is merged with the second, which children do not get. A thread
 * writes the same number to the first page, whose copy for the child is made first, and then to a
 * page behind both halves, which is not copied during the fork.
 */
static void *write_in_order(void *arg)
{
	struct arena *a = arg;
	volatile uint64_t *first = (void *)page_at(a, 0), *second = (void *)page_at(a, 2 * HALVES);
	uint64_t n;

	for (n = 1; !stop; n++) {
		*first = n;
		*second = n;
	}
	return NULL;
}

/* The child has both as of one moment. */
static bool in_order(struct arena *a)
{
	uint64_t first = *(uint64_t *)page_at(a, 0), second = *(uint64_t *)page_at(a, 2 * HALVES);

	return first == second || first == second + 1;
}

TEST_F(meddle, gap_under_writer)
{
	struct arena b = arena_open(2 * HALVES + 1, MESHHELPER_MERGE_ZAP);
	pthread_t thread;
	unsigned int i;
	pid_t pid;

	memset(b.base, 0, b.pages * PAGE);
	for (i = 0; i < HALVES; i++)
		ASSERT_EQ(0, merge_slot(&b, HALVES + i, i, SLOT, 1));
	ASSERT_EQ(0, madvise(page_at(&b, HALVES), HALVES * PAGE, MADV_DONTFORK));
	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_in_order, &b));
	for (i = 0; i < 20; i++) {
		usleep(1000);
		pid = fork();
		if (!pid)
			_exit(!in_order(&b));
		EXPECT_EQ(0, exit_code(pid));
	}
	stop = true;
	pthread_join(thread, NULL);
	arena_close(&b);
}

/* Who asks for wiped pages gets zeroes in the child, or is told that he does not. */
TEST_F(meddle, wiped_for_children)
{
	bool wiped = !madvise(page_at(&self->a, 20), 2 * PAGE, MADV_WIPEONFORK);
	pid_t pid;

	if (!wiped) {
		EXPECT_EQ(EINVAL, errno);
	}
	pid = fork();
	if (!pid)
		_exit(all_bytes(page_at(&self->a, 20), PAGE, wiped ? 0 : 'U') ? 0 : 1);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 20), PAGE, 'U'));
}

TEST_F(meddle, populated)
{
	struct arena b = arena_open(32, MESHHELPER_MERGE_ZAP);

	ASSERT_EQ(0, merge_slot(&self->a, 1, 2, SLOT, 0));
	ASSERT_EQ(0, madvise(self->a.base, 64 * PAGE, MADV_DONTNEED));
	EXPECT_EQ(0, smaps_kb(&self->a, "Rss:"));
	ASSERT_EQ(0, madvise(self->a.base, 64 * PAGE, MADV_POPULATE_READ));
	EXPECT_EQ(64 * 4, smaps_kb(&self->a, "Rss:"));
	ASSERT_EQ(0, madvise(self->a.base, 64 * PAGE, MADV_POPULATE_WRITE));
	EXPECT_EQ(pfn_of(page_at(&self->a, 1)), pfn_of(page_at(&self->a, 2)));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1), SLOT, 'B'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 2) + SLOT, PAGE - SLOT, 'C'));
	/* Never touched yet. */
	ASSERT_EQ(0, madvise(b.base, 16 * PAGE, MADV_POPULATE_WRITE));
	EXPECT_EQ(16 * 4, smaps_kb(&b, "Rss:"));
	EXPECT_TRUE(all_bytes(b.base, 32 * PAGE, 0));
	arena_close(&b);
}

/*
 * Somebody gives all kinds of advice, changes protections and locks, and moves the mapping's
 * borders by that, while pages are merged and written to.
 */
static atomic_ulong advised, counted;

static void *advise_forever(void *arg)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
		MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
		MADV_DONTDUMP, MADV_DODUMP, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_FREE, MADV_COLLAPSE, MADV_DONTFORK, MADV_DOFORK,
	};
	unsigned int n = sizeof(advice) / sizeof(*advice);
	struct arena *a = arg;
	uint64_t state = 11;

	while (!stop) {
		uint64_t r = next_random(&state);
		char *at = page_at(a, r % a->pages);
		size_t len = (1 + (r >> 20) % 16) * PAGE;

		if (at + len > page_at(a, a->pages))
			continue;
		switch ((r >> 30) % 8) {
		case 0:
			mprotect(at, len, PROT_READ | PROT_WRITE | PROT_EXEC);
			break;
		case 1:
			mprotect(at, len, PROT_READ | PROT_WRITE);
			break;
		case 2:
			mlock(at, len);
			munlock(at, len);
			break;
		default:
			madvise(at, len, advice[(r >> 40) % n]);
		}
		advised++;
	}
	return NULL;
}

/* Counts in the last used slot of each source; returns how many counts were lost. */
static void *count_forever(void *arg)
{
	unsigned long count, lost = 0;
	struct arena *a = arg;
	size_t page;

	for (count = 1; !stop; counted = count++) {
		for (page = 1; page < a->pages; page += 2) {
			volatile unsigned long *word = (void *)(page_at(a, page) + PAGE - 8);

			lost += count > 1 && *word != count - 1;
			*word = count;
		}
	}
	return (void *)lost;
}

TEST_F_TIMEOUT(meddle, advice_during_merges, 120)
{
	unsigned int merged = 0, refused = 0, wrong = 0, tries;
	unsigned long before;
	struct arena a = arena_open(512, MESHHELPER_MERGE_ZAP);
	pthread_t adviser, writer;
	bool done[512] = { false };
	void *lost;
	size_t i;

	for (i = 0; i < 512; i++)
		memset(page_at(&a, i), 'a' + i % 26, PAGE);
	stop = false;
	ASSERT_EQ(0, pthread_create(&adviser, NULL, advise_forever, &a));
	ASSERT_EQ(0, pthread_create(&writer, NULL, count_forever, &a));
	while (!advised || !counted)
		usleep(100);
	for (tries = 0; tries < 200 && merged < 256; tries++)
		for (i = 0; i < 512; i += 2) {
			struct meshhelper_pair pair = make_pair(page_at(&a, i + 1),
								page_at(&a, i), SLOT);

			if (done[i])
				continue;
			set_live(&pair, 3);
			set_live(&pair, 7);
			done[i] = merge(&a, &pair, 1);
			merged += done[i];
			refused += !done[i];
			/* At the adviser's pace. */
			for (before = advised; advised < before + 2;)
				usleep(100);
		}
	stop = true;
	pthread_join(adviser, NULL);
	pthread_join(writer, &lost);
	for (i = 0; i < 512; i += 2)
		wrong += !all_bytes(page_at(&a, i) + 3 * SLOT, SLOT, 'a' + (i + 1) % 26) +
			 !all_bytes(page_at(&a, i + 1), 3 * SLOT, 'a' + i % 26);
	TH_LOG("%u merged, %u refused, %lu times advised, %lu counted, %u wrong", merged, refused,
	       advised, counted, wrong);
	EXPECT_EQ(256, merged);
	EXPECT_LT(10, counted);
	EXPECT_EQ(NULL, lost);
	EXPECT_EQ(0, wrong);
	arena_close(&a);
}

/* Parts go, and the whole moves, under a thread that merges. */
static void *merge_forever(void *arg)
{
	struct arena *a = arg;
	uint64_t state = 3;

	while (!stop) {
		uint64_t r = next_random(&state);
		struct meshhelper_pair pair = make_pair(page_at(a, r % 64),
							page_at(a, (r >> 8) % 64), SLOT);

		/* With no slot live nothing is copied: first come, first served. */
		merge(a, &pair, 1);
	}
	return NULL;
}

TEST_F_TIMEOUT(meddle, unmapped_and_moved_during_merges, 120)
{
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");
	struct arena a, merging;
	pthread_t merger;
	unsigned int i;
	char *room;

	room = mmap(NULL, 1024 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	stop = false;
	for (i = 0; i < 200; i++) {
		a = arena_open(64, MESHHELPER_MERGE_ZAP);
		memset(a.base, 'm', 64 * PAGE);
		if (!i) {
			merging = a;
			ASSERT_EQ(0, pthread_create(&merger, NULL, merge_forever, &merging));
		}
		merging.base = a.base;
		usleep(1000);
		EXPECT_EQ(0, munmap(page_at(&a, 10 + i % 7), 3 * PAGE));
		usleep(500);
		/* May be refused for its address: then it stays where it is. */
		if (mremap(a.base, 10 * PAGE, 10 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   room + i * PAGE) == MAP_FAILED) {
			EXPECT_EQ(EINVAL, errno);
		} else {
			EXPECT_EQ('m', room[i * PAGE + 5 * PAGE]);
		}
		EXPECT_EQ('m', page_at(&a, 63)[0]);
		munmap(page_at(&a, 0), 64 * PAGE);
		/* Reserved again, or an arena might be put there. */
		mmap(room + i * PAGE, 10 * PAGE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	}
	stop = true;
	pthread_join(merger, NULL);
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(meshed, counter("pages_meshed"));
}

/* Merges and removes for ever. */
static void churn(struct arena *a, uint64_t state)
{
	for (;;) {
		uint64_t r = next_random(&state);
		size_t page = (r >> 8) % 60;
		struct meshhelper_pair pair = make_pair(page_at(a, page),
							page_at(a, (r >> 16) % 64), SLOT);

		merge(a, &pair, 1);
		page_at(a, (r >> 24) % 64)[r >> 52] = 1;
		if (r % 8 == 0)
			madvise(page_at(a, page), (r >> 32) % 4 * PAGE, MADV_REMOVE);
	}
}

static void *churn_thread(void *arg)
{
	churn(arg, getpid());
	return NULL;
}

/* How a process with two threads that merge comes to its end. */
enum { BY_KILL, BY_EXIT, BY_EXEC, BY_CRASH, WAYS };

static void churn_and_end(struct arena *a, int way, unsigned int delay)
{
	pthread_t threads[2];
	unsigned int i;

	for (i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, churn_thread, a))
			die("pthread_create");
	usleep(delay);
	switch (way) {
	case BY_KILL:
		pause();
		break;
	case BY_EXIT:
		_exit(7);
	case BY_EXEC:
		execl("/bin/sh", "sh", "-c", "exit 7", NULL);
		break;
	case BY_CRASH:
		abort();
	}
	_exit(1);
}

static void end_while_merging(struct __test_metadata *_metadata, uint32_t mode)
{
	static const int ends[WAYS] = { 128 + SIGKILL, 7, 7, 128 + SIGABRT };
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");
	unsigned int i, delay;

	for (i = 0; i < 80; i++) {
		int way = i % WAYS;
		pid_t pid = fork();

		delay = 1000 + i * 200;
		if (!pid) {
			struct arena a = arena_open(64, mode);

			memset(a.base, 'k', 64 * PAGE);
			churn_and_end(&a, way, delay);
		}
		if (way == BY_KILL) {
			usleep(delay + 3000);
			kill(pid, SIGKILL);
		}
		ASSERT_EQ(ends[way], exit_code(pid)) TH_LOG("way %d", way);
	}
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(meshed, counter("pages_meshed"));
}

TEST_F_TIMEOUT(meddle, end_while_merging, 120)
{
	end_while_merging(_metadata, MESHHELPER_MERGE_ZAP);
}

TEST_F_TIMEOUT(meddle, end_while_merging_armed, 120)
{
	if (!mode_supported(MESHHELPER_MERGE_ARMED))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	end_while_merging(_metadata, MESHHELPER_MERGE_ARMED);
}

/* A forked child, with what it got from its parent. */
TEST_F(meddle, killed_while_merging)
{
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");
	unsigned int i;

	for (i = 0; i < 40; i++) {
		pid_t pid = fork();

		if (!pid)
			churn(&self->a, i + 1);
		usleep(3000 + i * 500);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(meshed, counter("pages_meshed"));
}

TEST_HARNESS_MAIN
