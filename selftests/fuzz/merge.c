// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Operations that make requests, sensible ones and others, and wait for each.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define RW	(PROT_READ | PROT_WRITE)

/* Merge, whatever the pairs look like, and record what came of it. */
static void merge_batch(struct meshhelper_pair *pairs, unsigned int nr, uint32_t mode)
{
	struct meshhelper_batch batch;

	if (request(MESHHELPER_IOC_MERGE, mode, pairs, nr, &batch))
		fail("MESHHELPER_IOC_MERGE of %u pairs: %s", nr, strerror(errno));
	record_results(pairs, nr, mode, &batch);
}

bool op_merge_zap(void)
{
	struct meshhelper_pair pairs[MAX_BATCH];
	unsigned int nr = make_pairs(pairs, MAX_BATCH);

	if (!nr)
		return false;
	merge_batch(pairs, nr, MESHHELPER_MERGE_ZAP);
	check_pairs(pairs, nr);
	return true;
}

bool op_merge_invalid(void)
{
	struct meshhelper_pair pairs[MAX_BATCH];
	unsigned int nr = make_pairs(pairs, MAX_BATCH), i;

	if (!nr)
		return false;
	for (i = 0; i < nr; i++) {
		do
			spoil_pair(&pairs[i]);
		while (one_in(3));
	}
	merge_batch(pairs, nr, one_in(2) ? MESHHELPER_MERGE_ZAP : MESHHELPER_MERGE_ARMED);
	check_pairs(pairs, nr);
	return true;
}

bool op_merge_armed(void)
{
	struct meshhelper_pair pairs[MAX_BATCH];
	unsigned int nr = make_pairs(pairs, MAX_BATCH);

	if (!nr)
		return false;
	arm_pairs(pairs, nr);
	merge_batch(pairs, nr, MESHHELPER_MERGE_ARMED);
	check_pairs(pairs, nr);
	return true;
}

/* A write after the protection is one the merge has to lose against. */
bool op_merge_written(void)
{
	uint64_t word = stamp(0, 0);
	struct meshhelper_pair pair;
	struct range span;

	if (!make_pair(&pair) || !find_span(pair.src, pair.pages, &span) ||
	    !(span.arena->page[span.first].prot & PROT_WRITE))
		return false;
	if (!arm(&pair, 1) || !protect_span(pair.src, pair.pages))
		return false;
	*(volatile uint64_t *)range_addr(&span) = word;
	page_fill(&span.arena->page[span.first], 0, 1, &word);
	merge_batch(&pair, 1, MESHHELPER_MERGE_ARMED);
	if (!pair.result)
		fail("merged what was written to after it was armed and protected");
	check_range(&span);
	return true;
}

/* Armed and then forgotten. */
bool op_arm(void)
{
	struct meshhelper_pair pairs[MAX_BATCH];
	unsigned int nr = make_pairs(pairs, MAX_BATCH), i;

	for (i = 0; i < nr; i++)
		if (one_in(3))
			spoil_pair(&pairs[i]);
	if (nr)
		arm(pairs, nr);
	return nr;
}

static void compare_pinned(int fd, struct frame *frame)
{
	uint64_t words[WORDS];
	unsigned int i;

	if (read(fd, words, PAGE) != (ssize_t)PAGE)
		fail("read from the pipe: %s", strerror(errno));
	for (i = 0; i < WORDS; i++)
		if (words[i] != frame->word[i] && !(frame->unknown[i / 64] >> (i % 64) & 1))
			fail("word %u of a page in a pipe is %016llx, expected %016llx", i,
			     (unsigned long long)words[i], (unsigned long long)frame->word[i]);
}

/* A page that a pipe refers to keeps its contents, and is not given up. */
bool op_merge_pinned(void)
{
	struct meshhelper_pair pair;
	struct iovec iov;
	struct frame *frame;
	struct range span;
	int fd[2];

	if (!make_pair(&pair) || !find_span(pair.src, pair.pages, &span) ||
	    !(span.arena->page[span.first].prot & PROT_READ))
		return false;
	frame = page_frame(&span.arena->page[span.first]);
	iov = (struct iovec) { range_addr(&span), PAGE };
	if (pipe(fd))
		die("pipe");
	if (vmsplice(fd[1], &iov, 1, 0) != (ssize_t)PAGE)
		fail("vmsplice: %s", strerror(errno));
	merge_batch(&pair, 1, one_in(2) ? MESHHELPER_MERGE_ZAP : MESHHELPER_MERGE_ARMED);
	if (!pair.result)
		fail("merged a page that a pipe refers to");
	compare_pinned(fd[0], frame);
	close(fd[0]);
	close(fd[1]);
	return true;
}

/* The pairs are in memory that the kernel can read, but not write to. */
bool op_pairs_unwritable(void)
{
	struct meshhelper_batch batch;
	struct meshhelper_pair pair;
	void *page;

	if (!make_pair(&pair) || !result_is_visible(&pair))
		return false;
	page = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		die("mmap");
	memcpy(page, &pair, sizeof(pair));
	mprotect(page, PAGE, PROT_READ);
	if (!request(MESHHELPER_IOC_MERGE, MESHHELPER_MERGE_ZAP, page, 1, &batch))
		fail("results went to read-only memory");
	munmap(page, PAGE);
	find_out_result(&pair);
	return true;
}

/* Results appear where the pairs are, which may be what they have merged. */
static void record_inside(struct page *page, struct meshhelper_pair *pairs, unsigned int nr,
			  const struct meshhelper_batch *batch)
{
	struct meshhelper_pair result[MAX_BATCH];
	unsigned int i;

	for (i = 0; i < nr; i++) {
		memcpy(&result[i], page->addr + i * sizeof(*result), sizeof(*result));
		pairs[i].result = result[i].result;
	}
	record_results(pairs, nr, MESHHELPER_MERGE_ZAP, batch);
	/* Of the rest it depends on what was merged: the words with results are known. */
	for (i = 0; i < nr; i++) {
		size_t word = (i * sizeof(*pairs) + offsetof(struct meshhelper_pair, result)) / 8;
		uint64_t old = page_frame(page)->word[word], new;

		new = (old & ~0xffffffffULL) | (uint32_t)pairs[i].result;
		page_fill(page, word, 1, &new);
	}
}

/* The request itself is in the arena, perhaps in a page that it merges. */
bool op_pairs_inside(void)
{
	struct meshhelper_pair pairs[MAX_BATCH];
	struct meshhelper_batch batch;
	unsigned int nr = make_pairs(pairs, MAX_BATCH), first;
	struct range range;
	struct page *page;

	if (!nr || !pick_range(&range, 1, RW))
		return false;
	page = &range.arena->page[range.first];
	if (one_in(2)) {
		pairs[0].src = (uintptr_t)page->addr;
		pairs[0].pages = 1;
		memset(pairs[0].live, 0xff, sizeof(pairs[0].live));
		pairs[0].slot_size = 16;
	}
	first = nr * sizeof(*pairs) / sizeof(uint64_t);
	memcpy(page->addr, pairs, nr * sizeof(*pairs));
	page_fill(page, 0, first, (uint64_t *)pairs);
	if (request(MESHHELPER_IOC_MERGE, MESHHELPER_MERGE_ZAP, (void *)page->addr, nr, &batch))
		fail("MESHHELPER_IOC_MERGE with pairs in the arena: %s", strerror(errno));
	record_inside(page, pairs, nr, &batch);
	check_range(&range);
	check_pairs(pairs, nr);
	return true;
}

/* Break the head of a request such that all of it has to be refused. */
static void spoil_batch(struct meshhelper_batch *batch)
{
	switch (below(7)) {
	case 0:
		batch->nr_pairs = one_in(2) ? 0 : MESHHELPER_MAX_PAIRS + 1 + below(1 << 30);
		break;
	case 1:
		batch->flags = one_in(2) ? 0 : 3 + below(1 << 30);
		break;
	case 2:
		batch->reserved = 1 + below(1 << 30);
		break;
	case 3:
		batch->reserved2[below(2)] = 1 + below(1 << 30);
		break;
	case 4:
		batch->pairs = 0xffff888000000000ULL + below(1 << 30);
		break;
	case 5:
		batch->pairs = below(4096);
		break;
	default:
		/* The first can be read; behind it is nothing, and nothing can get there. */
		batch->nr_pairs = MESHHELPER_MAX_PAIRS;
	}
}

bool op_batch_invalid(void)
{
	struct meshhelper_batch batch;
	struct meshhelper_pair pair;
	char *page;

	if (!make_pair(&pair))
		return false;
	page = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || mprotect(page + PAGE, PAGE, PROT_NONE))
		die("mmap");
	memcpy(page + PAGE - sizeof(pair), &pair, sizeof(pair));
	batch = (struct meshhelper_batch) {
		.pairs = (uintptr_t)page + PAGE - sizeof(pair),
		.nr_pairs = 1,
		.flags = MESHHELPER_MERGE_ZAP,
	};
	spoil_batch(&batch);
	if (!ask(MESHHELPER_IOC_MERGE, &batch))
		fail("a batch that makes no sense was accepted");
	munmap(page, 2 * PAGE);
	check_pairs(&pair, 1);
	return true;
}

bool op_ioctl_invalid(void)
{
	static const unsigned long known[] = {
		MESHHELPER_IOC_INFO, MESHHELPER_IOC_ARM, MESHHELPER_IOC_MERGE,
	};
	unsigned long cmd = known[below(ARRAY_SIZE(known))];

	/* A number that is not known, or an address at which there is nothing to write. */
	if (one_in(2))
		cmd ^= 1UL << below(32);
	if (!ask(cmd, (void *)(uintptr_t)below(4096)))
		fail("request %lx with a bad address worked", cmd);
	return true;
}

/* Descriptors have no state: any will do, and none need be kept. */
bool op_device(void)
{
	int fd[32] = { 0 };
	unsigned int i, n = 1 + below(ARRAY_SIZE(fd)), keep;

	for (i = 0; i < n; i++) {
		fd[i] = open(DEVICE, O_RDWR | O_CLOEXEC);
		if (fd[i] < 0)
			die("open " DEVICE);
	}
	close(self.device);
	keep = below(n);
	self.device = fd[keep];
	op_merge_zap();
	for (i = 0; i < n; i++)
		if (i != keep)
			close(fd[i]);
	return true;
}

/* Lifts the protection of whatever was protected. */
bool op_uffd_close(void)
{
	bool open = self.uffd >= 0;

	uffd_drop();
	return open;
}
