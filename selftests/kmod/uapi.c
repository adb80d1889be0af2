// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * The interface itself: sizes, the feature query, and every way of asking wrongly.
 * A refused request must leave the pages as they were.
 */
#include "arena.h"

#include <sys/wait.h>

#include "kselftest_harness.h"

_Static_assert(sizeof(struct meshhelper_info) == 64, "uapi");
_Static_assert(sizeof(struct meshhelper_pair) == 64, "uapi");
_Static_assert(sizeof(struct meshhelper_batch) == 48, "uapi");

FIXTURE(uapi) {
	struct arena a;
	struct meshhelper_pair pair;
	struct meshhelper_batch batch;
};

FIXTURE_SETUP(uapi)
{
	self->a = arena_open(8, MESHHELPER_MERGE_ZAP);
	memset(page_at(&self->a, 0), 'a', PAGE);
	memset(page_at(&self->a, 1), 'b', PAGE);
	self->pair = make_pair(page_at(&self->a, 0), page_at(&self->a, 1), 64);
	set_live(&self->pair, 3);
}

FIXTURE_TEARDOWN(uapi)
{
	unsigned int i;

	/* Whatever the test asked for was refused. */
	for (i = 0; i < PAGE; i++) {
		ASSERT_EQ('a', page_at(&self->a, 0)[i]);
		ASSERT_EQ('b', page_at(&self->a, 1)[i]);
	}
	ASSERT_FALSE(same_frame(page_at(&self->a, 0), page_at(&self->a, 1)));
	arena_close(&self->a);
}

#define EXPECT_BATCH_ERROR(error, cmd, flags, pairs, n)				\
	do {									\
		EXPECT_EQ(-1, request(&self->a, cmd, flags, pairs, n, &self->batch)); \
		EXPECT_EQ(error, errno);					\
	} while (0)

#define EXPECT_PAIR_ERROR(error)						\
	do {									\
		EXPECT_EQ(0, merge(&self->a, &self->pair, 1));			\
		EXPECT_EQ(-(error), self->pair.result);				\
	} while (0)

TEST_F(uapi, info)
{
	struct meshhelper_info info = device_info(self->a.fd);

	EXPECT_EQ(MESHHELPER_ABI_VERSION, info.abi_version);
	EXPECT_EQ(PAGE, info.page_size);
	EXPECT_EQ(0, info.features & ~MESHHELPER_F_ALL);
	EXPECT_NE(0, info.features & MESHHELPER_F_ZAP);
	EXPECT_NE(0, info.features & MESHHELPER_F_REMOVE);
	EXPECT_EQ(MESHHELPER_MAX_PAIRS, info.max_pairs);
	EXPECT_EQ(MESHHELPER_MAX_SPAN_PAGES, info.max_span_pages);
	EXPECT_LT(1UL << 28, info.max_arena_pages);
	EXPECT_EQ(0, info.reserved[0] | info.reserved[1] | info.reserved[2]);
	EXPECT_EQ(-1, ioctl(self->a.fd, MESHHELPER_IOC_INFO, NULL));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(uapi, unknown_commands)
{
	EXPECT_EQ(-1, ioctl(self->a.fd, _IO(MESHHELPER_IOC_MAGIC, 0x7f), 0));
	EXPECT_EQ(ENOTTY, errno);
	/* The size is part of a command. */
	EXPECT_EQ(-1, ioctl(self->a.fd, _IOWR(MESHHELPER_IOC_MAGIC, 2, int), &self->batch));
	EXPECT_EQ(ENOTTY, errno);
}

TEST_F(uapi, bad_batches)
{
	unsigned long merge_cmd = MESHHELPER_IOC_MERGE, arm_cmd = MESHHELPER_IOC_ARM;
	struct meshhelper_pair *pair = &self->pair;

	EXPECT_BATCH_ERROR(EINVAL, merge_cmd, MESHHELPER_MERGE_ZAP, pair, 0);
	EXPECT_BATCH_ERROR(EINVAL, merge_cmd, MESHHELPER_MERGE_ZAP, pair,
			   MESHHELPER_MAX_PAIRS + 1);
	EXPECT_BATCH_ERROR(EINVAL, merge_cmd, MESHHELPER_MERGE_ZAP, pair, UINT32_MAX);
	EXPECT_BATCH_ERROR(EINVAL, merge_cmd, 0, pair, 1);
	EXPECT_BATCH_ERROR(EINVAL, merge_cmd, 3, pair, 1);
	EXPECT_BATCH_ERROR(EINVAL, merge_cmd, 1U << 31, pair, 1);
	EXPECT_BATCH_ERROR(EINVAL, arm_cmd, MESHHELPER_MERGE_ARMED, pair, 1);
	EXPECT_BATCH_ERROR(EFAULT, merge_cmd, MESHHELPER_MERGE_ZAP, NULL, 1);
	EXPECT_BATCH_ERROR(EFAULT, merge_cmd, MESHHELPER_MERGE_ZAP,
			   (void *)0xffff888000000000, 1);
	EXPECT_EQ(-1, ioctl(self->a.fd, MESHHELPER_IOC_MERGE, NULL));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(uapi, reserved_fields)
{
	struct meshhelper_batch good = {
		.pairs = (uintptr_t)&self->pair,
		.nr_pairs = 1,
		.flags = MESHHELPER_MERGE_ZAP,
	};
	struct meshhelper_batch bad[3] = { good, good, good };
	unsigned int i;

	bad[0].reserved = 1;
	bad[1].reserved2[0] = 1;
	bad[2].reserved2[1] = 1ULL << 63;
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-1, ioctl(self->a.fd, MESHHELPER_IOC_MERGE, &bad[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	self->pair.flags = 1;
	EXPECT_PAIR_ERROR(EINVAL);
}

TEST_F(uapi, bad_pairs)
{
	const struct meshhelper_pair good = self->pair;

#define EXPECT_FIELD_ERROR(error, field, value)					\
	do {									\
		self->pair = good;						\
		self->pair.field = value;					\
		EXPECT_PAIR_ERROR(error);					\
	} while (0)

	EXPECT_FIELD_ERROR(EINVAL, src, good.src + 64);
	EXPECT_FIELD_ERROR(EINVAL, dst, good.dst + 1);
	EXPECT_FIELD_ERROR(EINVAL, pages, 0);
	EXPECT_FIELD_ERROR(EINVAL, pages, MESHHELPER_MAX_SPAN_PAGES + 1);
	EXPECT_FIELD_ERROR(EINVAL, pages, UINT32_MAX);
	EXPECT_FIELD_ERROR(EINVAL, slot_size, 0);
	EXPECT_FIELD_ERROR(EINVAL, slot_size, 8);
	EXPECT_FIELD_ERROR(EINVAL, slot_size, PAGE + 1);
	EXPECT_FIELD_ERROR(EINVAL, live[1], 1);
	EXPECT_FIELD_ERROR(EINVAL, live[3], 1ULL << 63);
	EXPECT_FIELD_ERROR(EEXIST, src, good.dst);
	EXPECT_FIELD_ERROR(EINVAL, pages, 2);
	EXPECT_FIELD_ERROR(EFAULT, src, 0);
	EXPECT_FIELD_ERROR(EFAULT, dst, 0xffff888000000000);
	EXPECT_FIELD_ERROR(EFAULT, src, UINT64_MAX - PAGE + 1);
	EXPECT_FIELD_ERROR(EFAULT, src, (uintptr_t)self / PAGE * PAGE);
	EXPECT_FIELD_ERROR(ENOENT, src, (uintptr_t)page_at(&self->a, 5));
	EXPECT_FIELD_ERROR(ENOENT, dst, (uintptr_t)page_at(&self->a, 5));

	/* A span that sticks out of the arena. */
	self->pair = good;
	self->pair.src = (uintptr_t)page_at(&self->a, 6);
	self->pair.pages = 4;
	self->pair.live[0] = 0;
	EXPECT_PAIR_ERROR(EFAULT);
}

TEST_F(uapi, armed_needs_arm)
{
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_MERGE, MESHHELPER_MERGE_ARMED,
			     &self->pair, 1, &self->batch));
	EXPECT_EQ(0, self->batch.nr_done);
	EXPECT_EQ(-EAGAIN, self->pair.result);
}

TEST_F(uapi, bad_arms)
{
	self->pair.src++;
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_ARM, 0, &self->pair, 1, &self->batch));
	EXPECT_EQ(-EINVAL, self->pair.result);
	self->pair.src = (uintptr_t)page_at(&self->a, 7) + PAGE;
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_ARM, 0, &self->pair, 1, &self->batch));
	EXPECT_EQ(-EFAULT, self->pair.result);
	self->pair.src = (uintptr_t)page_at(&self->a, 7);
	ASSERT_EQ(0, request(&self->a, MESHHELPER_IOC_ARM, 0, &self->pair, 1, &self->batch));
	EXPECT_EQ(-ENOENT, self->pair.result);
}

TEST_F(uapi, two_arenas_do_not_mix)
{
	struct arena other = arena_open(1, MESHHELPER_MERGE_ZAP);

	memset(other.base, 'o', PAGE);
	self->pair.src = (uintptr_t)other.base;
	EXPECT_PAIR_ERROR(EXDEV);
	EXPECT_EQ('o', other.base[0]);
	arena_close(&other);
}

/* One bad pair does not keep the others from being looked at. */
TEST_F(uapi, results_are_per_pair)
{
	struct meshhelper_pair pairs[3];

	memset(page_at(&self->a, 2), 'c', PAGE);
	memset(page_at(&self->a, 3), 'd', PAGE);
	pairs[0] = self->pair;
	pairs[0].slot_size = 0;
	pairs[1] = make_pair(page_at(&self->a, 2), page_at(&self->a, 3), 64);
	pairs[2] = make_pair(page_at(&self->a, 6), page_at(&self->a, 3), 64);
	EXPECT_EQ(1, merge(&self->a, pairs, 3));
	EXPECT_EQ(-EINVAL, pairs[0].result);
	EXPECT_EQ(0, pairs[1].result);
	EXPECT_EQ(-ENOENT, pairs[2].result);
}

/* Requests may themselves be in an arena, even in the page that is merged. */
TEST_F(uapi, request_inside_arena)
{
	struct meshhelper_pair *pair = (void *)page_at(&self->a, 2);

	memset(page_at(&self->a, 3), 'd', PAGE);
	*pair = make_pair(page_at(&self->a, 2), page_at(&self->a, 3), 64);
	set_live(pair, 0);
	EXPECT_EQ(1, merge(&self->a, pair, 1));
	EXPECT_EQ(0, pair->result);
	EXPECT_TRUE(same_frame(page_at(&self->a, 2), page_at(&self->a, 3)));
}

TEST_F(uapi, bad_mappings)
{
	int fd = self->a.fd;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE));
	EXPECT_EQ(EINVAL, errno);
	/* An arena is there to be written to. */
	fd = open(DEVICE, O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
	fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0));
	EXPECT_EQ(EACCES, errno);
	close(fd);
}

#ifdef __x86_64__
/* ioctl() of a 32-bit process, whose pointers are that short; by the old way into the kernel. */
static int ioctl32(int fd, uint32_t cmd, uint32_t arg)
{
	long ret;

	asm volatile("int $0x80" : "=a"(ret) : "a"(54L), "b"((long)fd), "c"((long)cmd),
		     "d"((long)arg) : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

static int info_by_ioctl32(int fd, struct meshhelper_info *info)
{
	return ioctl32(fd, MESHHELPER_IOC_INFO, (uintptr_t)info);
}

/* Everything has the same layout there. */
TEST_F(uapi, requests_of_32_bits)
{
	struct low {
		struct meshhelper_info info;
		struct meshhelper_batch batch;
		struct meshhelper_pair pair;
	} *low = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, low);
	/* A kernel without such calls ends the process. */
	pid = fork();
	if (!pid)
		_exit(info_by_ioctl32(self->a.fd, &low->info) != 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	if (WIFSIGNALED(status))
		SKIP(return, "kernel has no CONFIG_IA32_EMULATION");
	ASSERT_EQ(0, info_by_ioctl32(self->a.fd, &low->info));
	EXPECT_EQ(MESHHELPER_ABI_VERSION, low->info.abi_version);
	memset(page_at(&self->a, 2), 'c', 2 * PAGE);
	low->pair = make_pair(page_at(&self->a, 2), page_at(&self->a, 3), 64);
	low->batch.pairs = (uintptr_t)&low->pair;
	low->batch.nr_pairs = 1;
	low->batch.flags = MESHHELPER_MERGE_ZAP;
	do {
		ASSERT_EQ(0, ioctl32(self->a.fd, MESHHELPER_IOC_MERGE, (uintptr_t)&low->batch));
	} while (low->pair.result == -EBUSY);
	EXPECT_EQ(0, low->pair.result);
	EXPECT_EQ(1, low->batch.nr_done);
	EXPECT_TRUE(same_frame(page_at(&self->a, 2), page_at(&self->a, 3)));
	EXPECT_EQ(-EFAULT, ioctl32(self->a.fd, MESHHELPER_IOC_MERGE, 0));
	EXPECT_EQ(-ENOTTY, ioctl32(self->a.fd, 0, 0));
	munmap(low, PAGE);
}
#endif

TEST_F(uapi, arena_survives_its_descriptor)
{
	struct arena b = arena_open(4, MESHHELPER_MERGE_ZAP);

	close(b.fd);
	memset(b.base, 'x', 4 * PAGE);
	b.fd = self->a.fd;
	self->pair = make_pair(b.base, b.base + PAGE, 64);
	set_live(&self->pair, 0);
	EXPECT_EQ(0, merge_one(&b, &self->pair));
	EXPECT_TRUE(same_frame(b.base, b.base + PAGE));
	munmap(b.base, 4 * PAGE);
}

TEST_F(uapi, counters_and_fdinfo)
{
	static const char *const names[] = {
		"arenas", "pages_meshed", "pss_bytes_saved", "merges_total",
		"pages_merged_total", "merge_aborts_again_total", "merge_aborts_busy_total",
		"merge_aborts_shared_total", "merge_aborts_other_total", "pairs_total", "layers",
		"snapshots",
		"faults_total", "pages_removed_total", "forks_total", "copy_ups_total",
		"fork_failures_total", "drains_total",
	};
	long long meshed = counter("pages_meshed");
	unsigned int i;

	/* With braces, for the macros are two statements. */
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		EXPECT_LE(0, counter(names[i])) TH_LOG("no counter %s", names[i]);
	}

	memset(page_at(&self->a, 2), 'c', 2 * PAGE);
	self->pair = make_pair(page_at(&self->a, 2), page_at(&self->a, 3), 64);
	ASSERT_EQ(0, merge_one(&self->a, &self->pair));
	EXPECT_EQ(meshed + 1, counter("pages_meshed"));
	EXPECT_EQ((meshed + 1) * (long long)PAGE, counter("pss_bytes_saved"));

	EXPECT_EQ(1, fdinfo_value(&self->a, "mesh-arenas"));
	EXPECT_EQ(12, fdinfo_value(&self->a, "mesh-resident"));
	EXPECT_EQ(4, fdinfo_value(&self->a, "mesh-saved"));
	EXPECT_EQ(1, fdinfo_value(&self->a, "mesh-merged-total"));
}

TEST_HARNESS_MAIN
