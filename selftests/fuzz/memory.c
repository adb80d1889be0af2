// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Operations that any program may do to its memory: mmap() and its family, and access.
 *
 * What is documented to work must work; what may fail must change nothing then.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define RW (PROT_READ | PROT_WRITE)

/* Debian 12's libc headers lack it. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

static void note_range(const struct range *range)
{
	note(" arena %zu pages %u+%u", range->arena - self.arena, range->first, range->nr);
}

/* Addresses that suit huge pages are special to the module: try them, too. */
static void *address_hint(void)
{
	uint64_t hint = 0x100000000000ULL + ((uint64_t)below(1 << 20) << 21);

	if (!one_in(3))
		return NULL;
	return (void *)(hint + below(3) * PAGE);
}

bool op_map(void)
{
	struct arena *arena = arena_unused();
	unsigned int i, nr = one_in(4) ? 1 + below(4) : 1 + below(MAX_PAGES - 16);
	char *addr;

	if (!arena)
		return false;
	addr = mmap(address_hint(), nr * PAGE, RW, MAP_SHARED, self.device, 0);
	if (addr == MAP_FAILED)
		die("mmap of the device");
	arena->nr = nr;
	for (i = 0; i < nr; i++)
		arena->page[i] = (struct page) { .addr = addr + i * PAGE, .prot = RW };
	note(" arena %zu %u pages at %p", arena - self.arena, nr, (void *)addr);
	return true;
}

bool op_map_invalid(void)
{
	size_t len = one_in(2) ? PAGE : 1UL << (12 + below(52));
	off_t offset = 0;
	int flags = MAP_SHARED;
	void *addr;

	switch (below(3)) {
	case 0:
		flags = MAP_PRIVATE;
		break;
	case 1:
		offset = (off_t)(1 + below(1 << 20)) * PAGE;
		break;
	default:
		len = 1UL << 44 << below(20);
	}
	addr = mmap(NULL, len, RW, flags, self.device, offset);
	if (addr != MAP_FAILED)
		fail("mmap of %zu bytes, flags %x, offset %ld worked", len, flags, (long)offset);
	return true;
}

/* Indices from @first on that are mapped nowhere, @max at most. */
static unsigned int unmapped_from(struct arena *arena, unsigned int first, unsigned int max)
{
	unsigned int n = 0;

	while (n < max && first + n < MAX_PAGES &&
	       (first + n >= arena->nr || !arena->page[first + n].addr))
		n++;
	return n;
}

/* What this process had mapped there before, and has not removed, is there again. */
bool op_grow(void)
{
	struct range range;
	unsigned int last, more, i;
	struct page *page;
	char *addr;

	if (!pick_range(&range, 1, PROT_NONE))
		return false;
	range = run_of(range.arena, range.first);
	last = range.first + range.nr - 1;
	page = &range.arena->page[last];
	more = unmapped_from(range.arena, last + 1, 1 + below(24));
	note_range(&range);
	note(" by %u", more);
	if (!more)
		return false;
	addr = mremap(page->addr, PAGE, (1 + more) * PAGE, one_in(3) ? MREMAP_MAYMOVE : 0);
	if (addr == MAP_FAILED)
		return false;
	if (last + 1 + more > range.arena->nr)
		range.arena->nr = last + 1 + more;
	for (i = 0; i <= more; i++) {
		page[i].addr = addr + i * PAGE;
		page[i].prot = page->prot;
		page[i].locked = page->locked;
		page[i].not_forked = page->not_forked;
	}
	return true;
}

bool op_move(void)
{
	struct range range;
	unsigned int i;
	char *to, *addr;

	if (!pick_range(&range, MAX_PAGES, PROT_NONE))
		return false;
	note_range(&range);
	to = mmap(address_hint(), range_len(&range), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (to == MAP_FAILED)
		die("mmap");
	addr = mremap(range_addr(&range), range_len(&range), range_len(&range),
		      MREMAP_MAYMOVE | MREMAP_FIXED, to);
	note(" to %p", (void *)to);
	if (addr == MAP_FAILED) {
		munmap(to, range_len(&range));
		check_range(&range);
		return false;
	}
	for (i = 0; i < range.nr; i++)
		range.arena->page[range.first + i].addr = addr + i * PAGE;
	check_range(&range);
	return true;
}

static void check_twin(const struct range *range, const char *twin)
{
	unsigned int i;

	for (i = 0; i < range->nr; i++)
		check_at(&range->arena->page[range->first + i], range->first + i,
			 twin + i * PAGE);
}

/* Remove through the second mapping. */
static void remove_twin(const struct range *range, char *twin)
{
	unsigned int i;

	if (madvise(twin, range_len(range), MADV_REMOVE))
		fail("MADV_REMOVE of a second mapping: %s", strerror(errno));
	for (i = 0; i < range->nr; i++)
		page_clear(&range->arena->page[range->first + i]);
}

/* The same pages at two addresses: a shared mapping may be duplicated. */
bool op_twin(void)
{
	struct range range;
	unsigned int i;
	char *twin;

	if (!pick_range(&range, 16, RW) || range.arena->page[range.first].locked)
		return false;
	note_range(&range);
	twin = mremap(range_addr(&range), 0, range_len(&range), MREMAP_MAYMOVE);
	if (twin == MAP_FAILED)
		return false;
	for (i = 0; i < 4; i++) {
		check_twin(&range, twin);
		if (one_in(3))
			write_some(&range, twin);
		else if (one_in(6))
			remove_twin(&range, twin);
		else
			op_merge_zap();
		check_range(&range);
	}
	check_twin(&range, twin);
	munmap(twin, range_len(&range));
	return true;
}

static void unmap(const struct range *range)
{
	unsigned int i;

	note_range(range);
	if (munmap(range_addr(range), range_len(range)))
		die("munmap");
	for (i = 0; i < range->nr; i++)
		range->arena->page[range->first + i].addr = NULL;
}

bool op_unmap(void)
{
	struct range range;

	if (!pick_range(&range, 12, PROT_NONE))
		return false;
	unmap(&range);
	arena_forget_if_unmapped(range.arena);
	return true;
}

bool op_unmap_arena(void)
{
	struct arena *arena;
	unsigned int i;

	if (!pick_arena(&arena))
		return false;
	for (i = 0; i < arena->nr; i++) {
		if (arena->page[i].addr) {
			struct range run = run_of(arena, i);

			unmap(&run);
		}
	}
	arena_forget_if_unmapped(arena);
	return true;
}

/* Mostly makes accessible what was not, or arenas would silt up. */
bool op_protect(void)
{
	static const int prots[] = { RW, RW, PROT_READ, PROT_NONE };
	int prot = prots[below(ARRAY_SIZE(prots))];
	struct range range;
	unsigned int i;

	if (!pick_range(&range, prot == RW ? MAX_PAGES : 8, PROT_NONE))
		return false;
	if (prot == RW)
		range = run_of(range.arena, range.first);
	note_range(&range);
	note(" to %d", prot);
	if (mprotect(range_addr(&range), range_len(&range), prot))
		fail("mprotect: %s", strerror(errno));
	for (i = 0; i < range.nr; i++)
		range.arena->page[range.first + i].prot = prot;
	return true;
}

bool op_lock(void)
{
	struct range range;
	bool lock = one_in(3);
	unsigned int i;

	if (!pick_range(&range, lock ? 16 : MAX_PAGES, PROT_READ))
		return false;
	note_range(&range);
	if (!lock)
		range = run_of(range.arena, range.first);
	else if (mlock(range_addr(&range), range_len(&range)))
		lock = false;
	note(lock ? " on" : " off");
	if (!lock && munlock(range_addr(&range), range_len(&range)))
		die("munlock");
	for (i = 0; i < range.nr; i++)
		range.arena->page[range.first + i].locked = lock;
	return true;
}

/* Mostly takes it back, or children would be left with little. */
bool op_dontfork(void)
{
	bool fork = !one_in(3);
	struct range range;
	unsigned int i;

	if (!pick_range(&range, fork ? MAX_PAGES : 8, PROT_NONE))
		return false;
	if (fork)
		range = run_of(range.arena, range.first);
	note_range(&range);
	note(fork ? " off" : " on");
	if (madvise(range_addr(&range), range_len(&range), fork ? MADV_DOFORK : MADV_DONTFORK))
		fail("MADV_DONTFORK: %s", strerror(errno));
	for (i = 0; i < range.nr; i++)
		range.arena->page[range.first + i].not_forked = !fork;
	return true;
}

/* Refused for locked memory and, like any hole, for memory that may not be written to. */
bool op_remove(void)
{
	struct range range;
	struct page *page;
	unsigned int i;

	if (!pick_range(&range, one_in(8) ? MAX_PAGES : 8, PROT_NONE))
		return false;
	note_range(&range);
	page = &range.arena->page[range.first];
	if (madvise(range_addr(&range), range_len(&range), MADV_REMOVE)) {
		if (!page->locked && (page->prot & PROT_WRITE))
			fail("MADV_REMOVE: %s", strerror(errno));
		check_range(&range);
		return false;
	}
	if (page->locked)
		fail("MADV_REMOVE worked on locked memory");
	for (i = 0; i < range.nr; i++)
		page_clear(&page[i]);
	check_range(&range);
	return true;
}

static bool advise(int advice)
{
	struct range range;

	if (!pick_range(&range, MAX_PAGES, PROT_NONE))
		return false;
	note_range(&range);
	note(" advice %d", advice);
	madvise(range_addr(&range), range_len(&range), advice);
	if (one_in(2))
		check_range(&range);
	return true;
}

/* None of these may change what shared memory contains. */
bool op_advise(void)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
		MADV_COLD, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTDUMP,
		MADV_DODUMP, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
		MADV_WIPEONFORK, MADV_FREE, 25 /* MADV_COLLAPSE */,
	};
	struct range range;

	if (one_in(10) && pick_range(&range, MAX_PAGES, PROT_NONE)) {
		msync(range_addr(&range), range_len(&range), one_in(2) ? MS_SYNC : MS_ASYNC);
		return true;
	}
	return advise(advice[below(ARRAY_SIZE(advice))]);
}

bool op_pageout(void)
{
	return advise(one_in(4) ? MADV_COLD : MADV_PAGEOUT);
}

/* What is in no page table can be reclaimed, too: a forked child's memory, for example. */
bool op_reclaim(void)
{
	int fd = open(CGROUP "/memory.reclaim", O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = dprintf(fd, "%u", (64 + below(1024)) * (unsigned int)PAGE) > 0;
	close(fd);
	return done;
}

/* Any copy to memory that the machine offers. */
static void store(char *to, const uint64_t *words, size_t len, bool by_syscall)
{
	struct iovec local = { (void *)words, len }, remote = { to, len };

	if (!by_syscall) {
		memcpy(to, words, len);
		return;
	}
	if (process_vm_writev(getpid(), &local, 1, &remote, 1, 0) != (ssize_t)len)
		fail("process_vm_writev to %p: %s", (void *)to, strerror(errno));
}

static void write_page(struct page *page, char *to, unsigned int number, bool by_syscall)
{
	unsigned int first = below(WORDS), nr = 1 + below(one_in(4) ? WORDS : 32), i;
	uint64_t words[WORDS];

	if (one_in(8))
		first = 0;
	if (nr > WORDS - first)
		nr = WORDS - first;
	for (i = 0; i < nr; i++)
		words[i] = stamp(number, first + i);
	store(to + first * sizeof(*words), words, nr * sizeof(*words), by_syscall);
	page_fill(page, first, nr, words);
}

/**
 * write_some - write to some words of some pages
 * @range: pages, writable
 * @at: where they are mapped
 */
void write_some(const struct range *range, char *at)
{
	unsigned int i;

	for (i = 0; i < range->nr; i++)
		if (!one_in(3))
			write_page(&range->arena->page[range->first + i], at + i * PAGE, i, false);
}

bool op_write(void)
{
	struct range range;

	if (!pick_range(&range, one_in(4) ? 32 : 4, RW))
		return false;
	note_range(&range);
	write_some(&range, range_addr(&range));
	check_range(&range);
	return true;
}

bool op_write_syscall(void)
{
	struct range range;

	if (!pick_range(&range, 1, RW))
		return false;
	note_range(&range);
	write_page(&range.arena->page[range.first], range_addr(&range), 0, true);
	check_range(&range);
	return true;
}

/* Up to a page goes through a pipe at once. */
static void through_pipe(const char *from, char *to, size_t len)
{
	ssize_t n;
	int fd[2];

	if (pipe(fd))
		die("pipe");
	n = write(fd[1], from, len);
	if (n != (ssize_t)len)
		fail("write of %zu bytes from %p: %zd, %s", len, (void *)from, n,
		     strerror(errno));
	n = read(fd[0], to, len);
	if (n != (ssize_t)len)
		fail("read of %zu bytes to %p: %zd, %s", len, (void *)to, n, strerror(errno));
	close(fd[0]);
	close(fd[1]);
}

bool op_pipe(void)
{
	struct range from, to;
	struct page *page;
	uint64_t words[WORDS];

	if (!pick_range(&from, 1, PROT_READ) || !pick_range(&to, 1, RW))
		return false;
	note_range(&from);
	note_range(&to);
	check_range(&from);
	page = &from.arena->page[from.first];
	memset(words, 0, sizeof(words));
	if (page->frame)
		memcpy(words, page->frame->word, sizeof(words));
	through_pipe(range_addr(&from), range_addr(&to), PAGE);
	page_fill(&to.arena->page[to.first], 0, WORDS, words);
	check_range(&to);
	return true;
}

bool op_check(void)
{
	struct arena *arena;

	check_all();
	if (pick_arena(&arena))
		check_shared(arena);
	return true;
}
