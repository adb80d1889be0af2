/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * backend_helper.c: memory of /dev/meshhelper, and merging it.
 *
 * The arena is one mapping that grows in place; the descriptor it was made with
 * is closed at once. To merge, the daemon opens the device again in its own
 * descriptor table: the requests name addresses, not descriptors.
 *
 * A batch is merged in one of two ways. Armed, when the kernel can write-protect
 * asynchronously: ARM the pages of src, write-protect every address that shows
 * them, MERGE; readers go on meanwhile, and a pair that was written to is left
 * alone. Otherwise zap: one MERGE, and whoever touches src waits for one copy.
 *
 * Threads: arena_grown is written under the page heap's lock and read by the
 * daemon, which has seen nothing of the arena that it does not count. Everything
 * else is the daemon's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/meshhelper.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "message.h"
#include "options.h"
#include "os.h"
#include "region.h"
#include "uffd.h"

#define DEVICE	"/dev/meshhelper"

/* Requests that travel in one ioctl. */
#define BATCH	256

_Static_assert(MERGE_LIVE_WORDS == MESHHELPER_LIVE_WORDS, "same bitmap");
_Static_assert(BATCH <= MESHHELPER_MAX_PAIRS, "the module takes a whole batch");

/* What the module told backend_helper_probe(); constant after. */
static uint64_t features;
static unsigned int max_pairs;

static uintptr_t arena_addr;

/* How often the arena has grown. */
static atomic_uint arena_grown;

/* The daemon's descriptor of the device. */
static int device = -1;

/* Merge armed, or zap. */
static bool armed;

/* Armed: the arena could be write-protected when it had grown so often. */
static bool covered;
static unsigned int covered_grown;

/*
 * Scratch space of merge(). pairs[] is what the module sees; of[] says which
 * request each of them came from, because refused ones are squeezed out between
 * ARM and MERGE.
 */
static struct meshhelper_pair pairs[BATCH];
static struct merge_req *of[BATCH];

static const char *check_info(const struct meshhelper_info *info)
{
	if (info->abi_version < MESHHELPER_ABI_VERSION)
		return DEVICE ": the module is older than this library";
	if (info->page_size != PAGE_SIZE)
		return DEVICE ": this library is built for pages of 4 KiB";
	if (!(info->features & MESHHELPER_F_REMOVE))
		return DEVICE ": the module cannot give pages back";
	if (!(info->features & (MESHHELPER_F_ZAP | MESHHELPER_F_UFFD_WP)))
		return DEVICE ": the module cannot keep writers out";
	if (!info->max_pairs)
		return DEVICE ": the module takes no requests";
	return NULL;
}

const char *backend_helper_probe(int *err)
{
	struct meshhelper_info info = { 0 };
	int fd = os_open(DEVICE, O_RDWR | O_CLOEXEC);
	const char *missing;
	int ret;

	*err = 0;
	if (fd < 0) {
		*err = -fd;
		return DEVICE;
	}
	ret = os_ioctl(fd, MESHHELPER_IOC_INFO, &info);
	os_close(fd);
	if (ret < 0) {
		*err = -ret;
		return DEVICE ": MESHHELPER_IOC_INFO";
	}
	missing = check_info(&info);
	features = info.features;
	max_pairs = info.max_pairs < BATCH ? info.max_pairs : BATCH;
	return missing;
}

static int helper_map(void *addr, size_t len)
{
	int fd = os_open(DEVICE, O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return fd;
	ret = os_map_file_at(addr, len, fd);
	os_close(fd);
	if (ret < 0)
		return ret;
	arena_addr = (uintptr_t)addr;
	return 0;
}

/*
 * Only the last page is named: where the program has locked or protected a part
 * of the arena it consists of several mappings, and mremap(2) takes but one.
 */
static int helper_grow(void *addr, size_t old_len, size_t new_len)
{
	char *last = (char *)addr + old_len - PAGE_SIZE;
	int ret = os_grow_in_place(last, PAGE_SIZE,
				   new_len - old_len + PAGE_SIZE);

	if (ret < 0)
		return ret;
	atomic_fetch_add_explicit(&arena_grown, 1, memory_order_release);
	return 0;
}

static int helper_purge(void *addr, size_t len)
{
	return os_madvise(addr, len, MADV_REMOVE);
}

/*
 * Make all of the arena fit for write protection, again whenever it has grown.
 * The range is that of the whole address plan: one that ended at the arena's end
 * of a moment ago would cut the mapping in two.
 */
static int cover_arena(void)
{
	unsigned int grown = atomic_load_explicit(&arena_grown,
						  memory_order_acquire);
	int ret;

	if (covered && grown == covered_grown)
		return 0;
	ret = uffd_cover(arena_addr, (size_t)AREA_PAGES << PAGE_SHIFT,
			 UFFDIO_REGISTER_MODE_WP);
	covered = ret == 0;
	covered_grown = grown;
	return ret;
}

/* 0, or why pages cannot be write-protected. */
static int open_armed(void)
{
	int ret;

	if (!(features & MESHHELPER_F_UFFD_WP))
		return -EOPNOTSUPP;
	ret = uffd_open(UFFD_FEATURE_WP_ASYNC, false);
	if (ret < 0)
		return ret;
	covered = false;
	ret = cover_arena();
	if (ret < 0)
		uffd_close();
	return ret;
}

/* Decide how writers are kept out. */
static int choose_protection(void)
{
	int ret = -EOPNOTSUPP;

	armed = false;
	if (options.protect != PROTECT_ZAP) {
		ret = open_armed();
		armed = ret == 0;
	}
	if (armed)
		return 0;
	if (options.protect == PROTECT_UFFD) {
		verbose("no meshing: userfaultfd: %s", strerrordesc_np(-ret));
		return ret;
	}
	if (!(features & MESHHELPER_F_ZAP)) {
		verbose("no meshing: neither userfaultfd nor zap");
		return -EOPNOTSUPP;
	}
	if (options.protect == PROTECT_AUTO)
		verbose("no userfaultfd write protection: %s; "
			"readers wait while a span is merged",
			strerrordesc_np(-ret));
	return 0;
}

/* Why the device cannot be used any more, -errno. */
static int refusal;

static int helper_mesh_open(void)
{
	int ret;

	refusal = 0;
	device = os_open(DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0) {
		verbose("no meshing: " DEVICE ": %s", strerrordesc_np(-device));
		return device;
	}
	ret = choose_protection();
	if (ret < 0) {
		os_close(device);
		device = -1;
	}
	return ret;
}

static void helper_mesh_close(void)
{
	if (armed)
		uffd_close();
	if (device >= 0)
		os_close(device);
	device = -1;
}

static void fill_pair(struct meshhelper_pair *p, const struct merge_req *req)
{
	*p = (struct meshhelper_pair) {
		.src = req->src,
		.dst = req->dst,
		.pages = req->pages,
		.slot_size = req->slot_size,
	};
	memcpy(p->live, req->live, sizeof(p->live));
}

/* A filter that the program has installed meanwhile, for example. */
static void check_refused(int ret)
{
	if (!os_is_refusal(ret) || refusal)
		return;
	verbose("no meshing any more: " DEVICE ": %s", strerrordesc_np(-ret));
	refusal = ret;
}

static bool helper_ended(void)
{
	return refusal;
}

/*
 * Where even the pages of pairs[] cannot come back from swap, the results of what was done are
 * lost. When it is asked again, the module says of pairs that were merged that they share
 * their pages already.
 */
static int request(unsigned long ioc, struct meshhelper_batch *b)
{
	int ret = os_ioctl(device, ioc, b);

	while (ret == -EFAULT && ioc == MESHHELPER_IOC_MERGE) {
		os_sleep_ns(1000000);
		ret = os_ioctl(device, ioc, b);
	}
	return ret;
}

static int result_of(const struct meshhelper_pair *pair)
{
	return pair->result == -EEXIST ? 0 : pair->result;
}

/* One ioctl on the first @n pairs; the results go to their requests. */
static uint64_t submit(unsigned long ioc, uint32_t flags, unsigned int n)
{
	struct meshhelper_batch b = {
		.pairs = (uintptr_t)pairs,
		.nr_pairs = n,
		.flags = flags,
	};
	unsigned int i;
	int ret;

	if (!n)
		return 0;
	ret = request(ioc, &b);
	check_refused(ret);
	for (i = 0; i < n; i++)
		of[i]->result = ret < 0 ? ret : result_of(&pairs[i]);
	return ret < 0 ? 0 : b.pss_saved;
}

/* Squeeze out the pairs with another result than @result; how many are left. */
static unsigned int squeeze(unsigned int n, int result)
{
	unsigned int i, left = 0;

	for (i = 0; i < n; i++) {
		if (of[i]->result != result)
			continue;
		if (left != i) {
			pairs[left] = pairs[i];
			of[left] = of[i];
		}
		left++;
	}
	return left;
}

/*
 * Write-protect every range that shows the pages of @req's src, neighbours in
 * one call. Sorted by insertion: there are a handful of members, and qsort(3)
 * may allocate.
 */
static int protect_members(const struct merge_req *req)
{
	size_t len = req->pages * PAGE_SIZE;
	uintptr_t m[MERGE_MAX_MEMBERS], start, end;
	unsigned int i, j;
	int ret = 0;

	for (i = 0; i < req->nr_members; i++) {
		for (j = i; j > 0 && m[j - 1] > req->members[i]; j--)
			m[j] = m[j - 1];
		m[j] = req->members[i];
	}
	for (i = 0; i < req->nr_members && !ret; i = j) {
		start = m[i];
		end = start + len;
		for (j = i + 1; j < req->nr_members && m[j] == end; j++)
			end += len;
		ret = uffd_protect(start, end - start);
	}
	return ret;
}

/* ARM and write-protect the first @n pairs; how many are ready to be merged. */
static unsigned int arm_pairs(unsigned int n)
{
	unsigned int i;

	submit(MESHHELPER_IOC_ARM, 0, n);
	n = squeeze(n, 0);
	for (i = 0; i < n; i++)
		of[i]->result = protect_members(of[i]);
	return squeeze(n, 0);
}

/*
 * Armed, then what was written to meanwhile by zap: pages that are written to all
 * the time would win for ever, and their writers can wait for the copy of one span.
 */
static uint64_t merge_armed(unsigned int n)
{
	uint64_t saved;

	n = arm_pairs(n);
	saved = submit(MESHHELPER_IOC_MERGE, MESHHELPER_MERGE_ARMED, n);
	if (options.protect == PROTECT_UFFD || !(features & MESHHELPER_F_ZAP))
		return saved;
	return saved + submit(MESHHELPER_IOC_MERGE, MESHHELPER_MERGE_ZAP,
			      squeeze(n, -EAGAIN));
}

static uint64_t merge_some(struct merge_req *reqs, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		fill_pair(&pairs[i], &reqs[i]);
		of[i] = &reqs[i];
	}
	return armed ? merge_armed(n) : submit(MESHHELPER_IOC_MERGE, MESHHELPER_MERGE_ZAP, n);
}

/* Something foreign in the address plan, or no memory: there is the other way. */
static void disarm(int err)
{
	verbose("no userfaultfd write protection any more: %s; "
		"readers wait while a span is merged", strerrordesc_np(-err));
	uffd_close();
	armed = false;
}

static uint64_t helper_merge(struct merge_req *reqs, unsigned int n)
{
	uint64_t saved = 0;
	unsigned int some;
	int ret = armed ? cover_arena() : 0;

	if (ret)
		disarm(ret);
	for (; n; reqs += some, n -= some) {
		some = n < max_pairs ? n : max_pairs;
		saved += merge_some(reqs, some);
	}
	return saved;
}

const struct backend_ops backend_helper = {
	.name = "helper",
	.arena_map = helper_map,
	.arena_grow = helper_grow,
	.purge = helper_purge,
	.purge_advice = MADV_REMOVE,
	.mesh_open = helper_mesh_open,
	.slice = 32,
	.merge = helper_merge,
	.ended = helper_ended,
	.mesh_close = helper_mesh_close,
};
