/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * What the tests of meshhelper.ko share: an arena, requests, and the oracles:
 * physical frame numbers, PSS of the arena, number of mappings, counters.
 *
 * A helper that cannot do its work ends the test program: that is never a result.
 */
#ifndef SELFTESTS_KMOD_ARENA_H
#define SELFTESTS_KMOD_ARENA_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/meshhelper.h>

#include "text.h"

#include "slow.h"

#define PAGE		4096UL
#define DEVICE		"/dev/meshhelper"

/* The harness ends a test that takes too long by alarm(). So include this before the harness. */
static inline unsigned int scaled_alarm(unsigned int seconds)
{
	return alarm(seconds * slow_factor());
}

#define alarm(seconds) scaled_alarm(seconds)

/* What a kselftest does where it cannot run: says so, in TAP, and ends with 4. */
static void __attribute__((constructor)) skip_where_it_cannot_run(void)
{
	const char *why = access(DEVICE, F_OK) ? "no " DEVICE ": load meshhelper.ko" : "not root";

	if (!access(DEVICE, F_OK) && !geteuid())
		return;
	printf("TAP version 13\n1..0 # SKIP %s\n", why);
	exit(4);
}

#define die(what) die_at(__FILE__, __LINE__, what)

static inline void __attribute__((noreturn)) die_at(const char *file, int line, const char *what)
{
	fprintf(stderr, "# %s:%d: %s: %s\n", file, line, what, strerror(errno));
	_exit(99);
}

/**
 * struct arena - an arena and what is needed to merge in it
 * @fd: /dev/meshhelper
 * @uffd: userfaultfd in WP_ASYNC mode with the arena registered, or -1
 * @base: first byte
 * @pages: pages mapped
 * @mode: MESHHELPER_MERGE_*
 */
struct arena {
	int fd;
	int uffd;
	char *base;
	size_t pages;
	uint32_t mode;
};

static inline int device_open(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("open " DEVICE);
	return fd;
}

static inline struct meshhelper_info device_info(int fd)
{
	struct meshhelper_info info;

	if (ioctl(fd, MESHHELPER_IOC_INFO, &info))
		die("MESHHELPER_IOC_INFO");
	return info;
}

/* Can this kernel do @mode? Else the tests of that mode are skipped. */
static inline bool mode_supported(uint32_t mode)
{
	int fd = device_open();
	struct meshhelper_info info = device_info(fd);

	close(fd);
	return mode == MESHHELPER_MERGE_ZAP || (info.features & MESHHELPER_F_UFFD_WP);
}

/* Headers before Linux 6.7 lack it; the running kernel may have it. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif

static inline int arena_uffd(char *base, size_t len)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	struct uffdio_register reg = {
		.range = { (uintptr_t)base, len },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		die("userfaultfd");
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER");
	return fd;
}

static inline struct arena arena_open(size_t pages, uint32_t mode)
{
	struct arena a = { .fd = device_open(), .uffd = -1, .pages = pages, .mode = mode };

	a.base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, a.fd, 0);
	if (a.base == MAP_FAILED)
		die("mmap of the device");
	if (mode == MESHHELPER_MERGE_ARMED)
		a.uffd = arena_uffd(a.base, pages * PAGE);
	return a;
}

static inline void arena_close(struct arena *a)
{
	munmap(a->base, a->pages * PAGE);
	if (a->uffd >= 0)
		close(a->uffd);
	close(a->fd);
}

static inline char *page_at(struct arena *a, size_t index)
{
	return a->base + index * PAGE;
}

static inline int request(struct arena *a, unsigned long cmd, uint32_t flags,
			  struct meshhelper_pair *pairs, unsigned int n,
			  struct meshhelper_batch *batch)
{
	memset(batch, 0, sizeof(*batch));
	batch->pairs = (uintptr_t)pairs;
	batch->nr_pairs = n;
	batch->flags = flags;
	return ioctl(a->fd, cmd, batch);
}

static inline void protect(struct arena *a, void *addr, size_t len)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)addr, len },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (ioctl(a->uffd, UFFDIO_WRITEPROTECT, &wp))
		die("UFFDIO_WRITEPROTECT");
}

/* ARM and write-protect the sources, in armed mode. Callers protect aliases. */
static inline void arm(struct arena *a, struct meshhelper_pair *pairs, unsigned int n)
{
	struct meshhelper_batch batch;
	unsigned int i;

	if (a->mode != MESHHELPER_MERGE_ARMED)
		return;
	if (request(a, MESHHELPER_IOC_ARM, 0, pairs, n, &batch))
		die("MESHHELPER_IOC_ARM");
	for (i = 0; i < n; i++)
		protect(a, (void *)(uintptr_t)pairs[i].src, pairs[i].pages * PAGE);
}

/* Merge @n pairs; how many were merged. Results are in the pairs. */
static inline unsigned int merge(struct arena *a, struct meshhelper_pair *pairs,
				 unsigned int n)
{
	struct meshhelper_batch batch;

	arm(a, pairs, n);
	if (request(a, MESHHELPER_IOC_MERGE, a->mode, pairs, n, &batch))
		die("MESHHELPER_IOC_MERGE");
	return batch.nr_done;
}

static inline void set_live(struct meshhelper_pair *pair, unsigned int slot)
{
	pair->live[slot / 64] |= 1ULL << (slot % 64);
}

/* A pair of one-page spans with no live slot yet. */
static inline struct meshhelper_pair make_pair(char *src, char *dst, uint32_t slot_size)
{
	return (struct meshhelper_pair) {
		.src = (uintptr_t)src,
		.dst = (uintptr_t)dst,
		.pages = 1,
		.slot_size = slot_size,
	};
}

/* Merge one pair; pages that are busy for a moment get some more chances. */
static inline int merge_one(struct arena *a, struct meshhelper_pair *pair)
{
	int tries = 20;

	do {
		merge(a, pair, 1);
		if (pair->result != -EBUSY)
			break;
		usleep(1000);
	} while (--tries);
	return pair->result;
}

/* Merge page @src into page @dst, with one slot of @src in use. */
static inline int merge_slot(struct arena *a, size_t src, size_t dst, uint32_t slot_size,
			     unsigned int slot)
{
	struct meshhelper_pair pair = make_pair(page_at(a, src), page_at(a, dst), slot_size);

	set_live(&pair, slot);
	return merge_one(a, &pair);
}

/*
 * Merge each odd page of the first @nr pairs into the even one before it, pair by pair and again
 * and again; how many were merged. Refusals are added to @refused.
 */
static inline unsigned int merge_in_turn(struct arena *a, unsigned int nr, uint32_t slot_size,
					 uint64_t live, unsigned int *refused)
{
	unsigned int tries, i, merged = 0;
	bool done[nr];

	memset(done, 0, sizeof(done));
	for (tries = 0; tries < 100 && merged < nr; tries++)
		for (i = 0; i < nr; i++) {
			struct meshhelper_pair pair;

			if (done[i])
				continue;
			pair = make_pair(page_at(a, 2 * i + 1), page_at(a, 2 * i), slot_size);
			pair.live[0] = live;
			done[i] = merge(a, &pair, 1);
			merged += done[i];
			*refused += !done[i];
		}
	return merged;
}

/* The entry of /proc/self/pagemap for an address; with frames only for CAP_SYS_ADMIN. */
static inline uint64_t pagemap_entry(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)addr / PAGE * 8) != 8)
		die("/proc/self/pagemap");
	close(fd);
	return entry;
}

/* Physical frame of an address, 0 if it has none. */
static inline uint64_t pfn_of(const void *addr)
{
	uint64_t entry = pagemap_entry(addr);

	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* Has each of @len bytes the value @c? */
static inline bool all_bytes(const char *at, size_t len, char c)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (at[i] != c)
			return false;
	return true;
}

/* A handler for a signal that must not end the program. */
static inline void survive(int number)
{
	(void)number;
}

static inline void touch(const char *addr)
{
	(void)*(const volatile char *)addr;
}

static inline bool same_frame(const char *a, const char *b)
{
	touch(a);
	touch(b);
	return pfn_of(a) && pfn_of(a) == pfn_of(b);
}

static inline unsigned int count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned int n = 0;
	int c;

	if (!f)
		die("/proc/self/maps");
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

/* A field of smaps, in kB, summed over the mappings of an arena. */
static inline long smaps_kb(struct arena *a, const char *field)
{
	uintptr_t first = (uintptr_t)a->base, last = first + a->pages * PAGE;
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false;
	char line[512];
	long sum = 0;

	if (!f)
		die("/proc/self/smaps");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start >= first && end <= last;
		else if (inside && !strncmp(line, field, strlen(field)))
			sum += atol(line + strlen(field));
	}
	fclose(f);
	return sum;
}

/* A line of the device's fdinfo, "mesh-resident" for example; -1 if there is no such. */
static inline long long fdinfo_value(struct arena *a, const char *key)
{
	size_t len = strlen(key);
	long long value = -1;
	char line[128];
	FILE *f;

	snprintf(line, sizeof(line), "/proc/self/fdinfo/%d", a->fd);
	f = fopen(line, "re");
	if (!f)
		die(line);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ':')
			value = atoll(line + len + 1);
	fclose(f);
	return value;
}

/* What /proc/self/maps has for an arena: the offset of its first page, and its number. */
static inline void arena_in_maps(struct arena *a, unsigned long *offset, unsigned long long *number)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long long inode;
	unsigned long start, at;
	char line[512];

	if (!f)
		die("/proc/self/maps");
	*offset = 0;
	*number = 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%*x %*s %lx %*s %llu", &start, &at, &inode) == 3 &&
		    start == (uintptr_t)a->base) {
			*offset = at;
			*number = inode;
		}
	fclose(f);
}

/* The number that /proc/PID/maps, tracepoints and fdinfo have for an arena. */
static inline unsigned long long arena_number(struct arena *a)
{
	unsigned long long number;
	unsigned long offset;

	arena_in_maps(a, &offset, &number);
	return number;
}

/* Reproducible random numbers (xorshift64*, Vigna 2016). */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545F4914F6CDD1DULL;
}

#endif /* SELFTESTS_KMOD_ARENA_H */
