// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Merging, in both modes: contents, frames, PSS, groups of many, spans of several
 * pages, and every reason for which a pair must be left alone.
 */
#include "arena.h"

#include <sys/uio.h>

#include "kselftest_harness.h"

FIXTURE(merge) {
	struct arena a;
};

FIXTURE_VARIANT(merge) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(merge, zap) {
	.mode = MESHHELPER_MERGE_ZAP,
};

FIXTURE_VARIANT_ADD(merge, armed) {
	.mode = MESHHELPER_MERGE_ARMED,
};

FIXTURE_SETUP(merge)
{
	if (!mode_supported(variant->mode))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	self->a = arena_open(512, variant->mode);
}

FIXTURE_TEARDOWN(merge)
{
	if (self->a.base)
		arena_close(&self->a);
}

static void fill_slot(char *page, unsigned int slot, size_t size, char c)
{
	memset(page + slot * size, c, size);
}

static bool slot_is(const char *page, unsigned int slot, size_t size, char c)
{
	return all_bytes(page + slot * size, size, c);
}

TEST_F(merge, two_pages)
{
	char *src = page_at(&self->a, 10), *dst = page_at(&self->a, 20);
	struct meshhelper_pair pair = make_pair(src, dst, 256);
	struct meshhelper_batch batch;
	long pss;

	fill_slot(src, 1, 256, 's');
	fill_slot(src, 15, 256, 'S');
	fill_slot(dst, 0, 256, 'd');
	fill_slot(dst, 14, 256, 'D');
	set_live(&pair, 1);
	set_live(&pair, 15);
	pss = smaps_kb(&self->a, "Pss:");
	ASSERT_EQ(8, pss);

	arm(&self->a, &pair, 1);
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_MERGE, self->a.mode, &pair, 1, &batch));
	ASSERT_EQ(0, pair.result);
	EXPECT_EQ(1, batch.nr_done);
	EXPECT_EQ(PAGE, batch.pss_saved);

	EXPECT_TRUE(same_frame(src, dst));
	EXPECT_EQ(pss - 4, smaps_kb(&self->a, "Pss:"));
	EXPECT_TRUE(slot_is(src, 1, 256, 's'));
	EXPECT_TRUE(slot_is(src, 15, 256, 'S'));
	EXPECT_TRUE(slot_is(dst, 0, 256, 'd'));
	EXPECT_TRUE(slot_is(dst, 14, 256, 'D'));

	/* One page now: a write through either address shows at the other. */
	dst[5 * 256] = 'x';
	src[6 * 256] = 'y';
	EXPECT_EQ('x', src[5 * 256]);
	EXPECT_EQ('y', dst[6 * 256]);
	EXPECT_EQ(-EEXIST, merge_one(&self->a, &pair));
}

/* 64 pages with one live slot each end up on one page; the 65th is too many. */
TEST_F(merge, many_on_one_page)
{
	struct meshhelper_pair pair;
	unsigned int i;

	for (i = 0; i <= 64; i++)
		fill_slot(page_at(&self->a, i), i % 64, 64, 'A' + i % 50);
	for (i = 1; i <= 64; i++) {
		pair = make_pair(page_at(&self->a, i), page_at(&self->a, i - 1), 64);
		set_live(&pair, i % 64);
		ASSERT_EQ(i < 64 ? 0 : -EMLINK, merge_one(&self->a, &pair));
	}
	for (i = 0; i < 64; i++) {
		EXPECT_TRUE(slot_is(page_at(&self->a, i), i, 64, 'A' + i % 50));
		EXPECT_TRUE(same_frame(page_at(&self->a, 0), page_at(&self->a, i)));
	}
	EXPECT_EQ(8, smaps_kb(&self->a, "Pss:"));
}

/* Two groups become one: all four addresses show the same page. */
TEST_F(merge, groups)
{
	char *page[4];
	struct meshhelper_pair pair;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		page[i] = page_at(&self->a, 100 + i);
		fill_slot(page[i], i, 512, 'a' + i);
	}
	pair = make_pair(page[1], page[0], 512);
	set_live(&pair, 1);
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	pair = make_pair(page[3], page[2], 512);
	set_live(&pair, 3);
	ASSERT_EQ(0, merge_one(&self->a, &pair));

	/* The source is named by its alias; both its addresses are protected. */
	pair = make_pair(page[3], page[1], 512);
	set_live(&pair, 2);
	set_live(&pair, 3);
	if (self->a.uffd >= 0)
		protect(&self->a, page[2], PAGE);
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	for (i = 0; i < 4; i++) {
		EXPECT_TRUE(slot_is(page[i], i, 512, 'a' + i));
		EXPECT_TRUE(same_frame(page[0], page[i]));
	}
	EXPECT_EQ(4, smaps_kb(&self->a, "Pss:"));
}

/* Slots of 1536 bytes lie across page boundaries; the span merges as a whole. */
TEST_F(merge, spans_of_three_pages)
{
	char *src = page_at(&self->a, 200), *dst = page_at(&self->a, 300);
	struct meshhelper_pair pair = make_pair(src, dst, 1536);
	unsigned int i;

	pair.pages = 3;
	for (i = 0; i < 8; i++) {
		fill_slot(i % 2 ? src : dst, i, 1536, '0' + i);
		if (i % 2)
			set_live(&pair, i);
	}
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	for (i = 0; i < 8; i++)
		EXPECT_TRUE(slot_is(i % 2 ? src : dst, i, 1536, '0' + i));
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(same_frame(src + i * PAGE, dst + i * PAGE));
	EXPECT_EQ(12, smaps_kb(&self->a, "Pss:"));
}

/* Pages of a span that were never touched count as zeroes. */
TEST_F(merge, partly_touched_span)
{
	char *src = page_at(&self->a, 200), *dst = page_at(&self->a, 300);
	struct meshhelper_pair pair = make_pair(src, dst, 2048);

	pair.pages = 2;
	fill_slot(src, 0, 2048, 's');
	fill_slot(dst, 1, 2048, 'd');
	fill_slot(dst, 3, 2048, 'D');
	set_live(&pair, 0);
	set_live(&pair, 2);
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_TRUE(slot_is(src, 0, 2048, 's'));
	EXPECT_TRUE(slot_is(src, 2, 2048, 0));
	EXPECT_TRUE(slot_is(dst, 1, 2048, 'd'));
	EXPECT_TRUE(slot_is(dst, 3, 2048, 'D'));
	EXPECT_EQ(8, smaps_kb(&self->a, "Pss:"));
}

/* Half of the source span shares pages with the target already: refused whole. */
TEST_F(merge, all_or_nothing)
{
	char *src = page_at(&self->a, 200), *dst = page_at(&self->a, 300);
	struct meshhelper_pair pair;

	memset(src, 's', 2 * PAGE);
	memset(dst, 'd', 2 * PAGE);
	pair = make_pair(src + PAGE, dst + PAGE, 64);
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	pair = make_pair(src, dst, 64);
	pair.pages = 2;
	EXPECT_EQ(-EEXIST, merge_one(&self->a, &pair));
	EXPECT_FALSE(same_frame(src, dst));
	EXPECT_EQ('s', *src);
}

FIXTURE(armed) {
	struct arena a;
};

FIXTURE_SETUP(armed)
{
	if (!mode_supported(MESHHELPER_MERGE_ARMED))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	self->a = arena_open(4, MESHHELPER_MERGE_ARMED);
}

FIXTURE_TEARDOWN(armed)
{
	if (self->a.base)
		arena_close(&self->a);
}

TEST_F(armed, written_since)
{
	char *src = page_at(&self->a, 0), *dst = page_at(&self->a, 1);
	struct meshhelper_pair pair = make_pair(src, dst, 64);
	struct meshhelper_batch batch;

	memset(src, 's', PAGE);
	memset(dst, 'd', PAGE);
	set_live(&pair, 0);
	arm(&self->a, &pair, 1);
	src[0] = 'w';
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_MERGE, self->a.mode, &pair, 1, &batch));
	EXPECT_EQ(-EAGAIN, pair.result);
	EXPECT_EQ('w', src[0]);
	EXPECT_FALSE(same_frame(src, dst));

	/* Reading does not count, and neither does writing to the target. */
	arm(&self->a, &pair, 1);
	touch(src);
	dst[64] = 'D';
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_MERGE, self->a.mode, &pair, 1, &batch));
	EXPECT_EQ(0, pair.result);
	EXPECT_EQ('w', src[0]);
	EXPECT_EQ('D', src[64]);
}

/* A write by the kernel, and a write through another address of the same page. */
TEST_F(armed, written_since_indirectly)
{
	char *src = page_at(&self->a, 0), *dst = page_at(&self->a, 1);
	char *alias = page_at(&self->a, 2);
	struct meshhelper_pair pair = make_pair(alias, src, 64);
	struct meshhelper_batch batch;
	int fds[2];

	memset(self->a.base, 'x', 3 * PAGE);
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	pair = make_pair(src, dst, 64);
	set_live(&pair, 0);

	arm(&self->a, &pair, 1);
	protect(&self->a, alias, PAGE);
	alias[0] = 'a';
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_MERGE, self->a.mode, &pair, 1, &batch));
	EXPECT_EQ(-EAGAIN, pair.result);
	EXPECT_EQ('a', src[0]);

	arm(&self->a, &pair, 1);
	protect(&self->a, alias, PAGE);
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(1, write(fds[1], "k", 1));
	ASSERT_EQ(1, read(fds[0], src, 1));
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_MERGE, self->a.mode, &pair, 1, &batch));
	EXPECT_EQ(-EAGAIN, pair.result);
	EXPECT_EQ('k', src[0]);
	EXPECT_EQ('k', alias[0]);
	close(fds[0]);
	close(fds[1]);
}

/* Pages in a pipe belong to the pipe, too, until they are read. */
TEST_F(merge, pinned_source_is_refused)
{
	char *src = page_at(&self->a, 0), *dst = page_at(&self->a, 1);
	struct meshhelper_pair pair = make_pair(src, dst, 64);
	struct iovec iov = { src, PAGE };
	char buffer[PAGE];
	int fds[2];

	memset(src, 's', PAGE);
	memset(dst, 'd', PAGE);
	set_live(&pair, 0);
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, 0));
	EXPECT_EQ(-EBUSY, merge_one(&self->a, &pair));
	EXPECT_FALSE(same_frame(src, dst));
	ASSERT_EQ(PAGE, read(fds[0], buffer, PAGE));
	EXPECT_EQ('s', buffer[PAGE - 1]);
	EXPECT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_EQ('s', src[0]);
	close(fds[0]);
	close(fds[1]);
}

/* The arena grows in place, and spans of the new part merge with old ones. */
TEST_F(merge, grown_arena)
{
	char *src, *dst = page_at(&self->a, 0);
	struct meshhelper_pair pair;

	/* Give the arena room above: a hint that is free on both sides. */
	arena_close(&self->a);
	self->a.fd = device_open();
	self->a.pages = 4;
	self->a.base = mmap((void *)0x200000000000, 4 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED_NOREPLACE, self->a.fd, 0);
	ASSERT_NE(MAP_FAILED, self->a.base);
	self->a.uffd = self->a.mode == MESHHELPER_MERGE_ARMED ?
		       arena_uffd(self->a.base, 4 * PAGE) : -1;
	ASSERT_EQ(self->a.base, mremap(self->a.base, 4 * PAGE, 1024 * PAGE, 0));
	self->a.pages = 1024;
	dst = self->a.base;
	src = self->a.base + 1000 * PAGE;
	pair = make_pair(src, dst, 64);
	memset(src, 's', PAGE);
	memset(dst, 'd', PAGE);
	set_live(&pair, 7);
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_EQ('s', src[7 * 64]);
	EXPECT_EQ('d', src[8 * 64]);
	EXPECT_TRUE(same_frame(src, dst));
}

TEST_HARNESS_MAIN
