// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Requests to the device: how they are made, by ioctl and through a ring, and what is
 * recorded of them.
 *
 * Whether a request makes sense is asked of the model, not of how it was made: garbage
 * may turn out to be a valid request, and then has to be recorded like one.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RW		(PROT_READ | PROT_WRITE)
#define ENTRIES		16

/* Headers before Linux 6.7 lack it; the running kernel may have it. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif

static void random_slots(struct meshhelper_pair *pair)
{
	static const unsigned int sizes[] = {
		8, 16, 24, 32, 48, 64, 100, 112, 128, 256, 333, 512, 1000, 1024, 2048, 4096,
	};
	unsigned int slots, i, one_of = 1 + below(4);

	do {
		pair->slot_size = sizes[below(ARRAY_SIZE(sizes))] * (one_in(4) ? pair->pages : 1);
		slots = pair->pages * PAGE / pair->slot_size;
	} while (!slots || slots > MESHHELPER_MAX_SLOTS);
	for (i = 0; i < slots; i++)
		if (one_in(one_of))
			pair->live[i / 64] |= 1ULL << (i % 64);
}

static unsigned int random_pages(void)
{
	return one_in(3) ? 1 + below(MESHHELPER_MAX_SPAN_PAGES) : 1;
}

static bool choose_spans(struct meshhelper_pair *pair)
{
	struct range src, dst;
	unsigned int want = random_pages();

	if (!pick_range(&src, 1, PROT_NONE))
		return false;
	src = run_of(src.arena, src.first);
	memset(pair, 0, sizeof(*pair));
	dst = src;
	src.first += below(src.nr);
	if (one_in(4)) {
		dst.first = below(src.arena->nr);
		if (!src.arena->page[dst.first].addr)
			return false;
	} else {
		dst.first += below(dst.nr);
	}
	pair->pages = want;
	if (!find_span((uintptr_t)range_addr(&src), want, &src) ||
	    !find_span((uintptr_t)range_addr(&dst), want, &dst))
		pair->pages = 1;
	pair->src = (uintptr_t)range_addr(&src);
	pair->dst = (uintptr_t)range_addr(&dst);
	random_slots(pair);
	return true;
}

static bool worthwhile(const struct meshhelper_pair *pair)
{
	struct range src, dst;

	return pair_allowed(pair) && find_span(pair->src, 1, &src) &&
	       find_span(pair->dst, 1, &dst) && src.arena->page[src.first].frame &&
	       dst.arena->page[dst.first].frame;
}

/**
 * make_pair - choose two spans of one arena
 * @pair: result, mostly one that can be merged
 *
 * Return: false if the choice fell on nothing that would do.
 */
bool make_pair(struct meshhelper_pair *pair)
{
	unsigned int tries = 1 + below(6);

	do {
		if (!choose_spans(pair))
			return false;
	} while (!worthwhile(pair) && --tries);
	return true;
}

/* A number such as somebody would get wrong. */
static uint64_t odd_number(void)
{
	static const uint64_t odd[] = {
		0, 1, 2, 9, 255, 256, 257, 4095, 4097, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7ffffffff000, 0x800000000000, 0xffff888000000000, 0xffffffff81000000,
		0xfffffffffffff000, 0xffffffffffffffff,
	};

	if (one_in(4))
		return random64();
	return odd[below(ARRAY_SIZE(odd))];
}

/* Some address that means something, if not in the same arena. */
static uint64_t odd_address(void)
{
	struct range range;

	switch (below(6)) {
	case 0:
		return (uintptr_t)&self & -PAGE;
	case 1:
		return (uintptr_t)&range & -PAGE;
	case 2:
		return (uintptr_t)control;
	case 3:
		return odd_number();
	default:
		if (!pick_range(&range, 1, PROT_NONE))
			return odd_number() & -PAGE;
		return (uintptr_t)range_addr(&range) + (one_in(4) ? below(PAGE) : 0);
	}
}

/* Break one field of a pair; it may still make sense afterwards. */
void spoil_pair(struct meshhelper_pair *pair)
{
	switch (below(10)) {
	case 0:
		pair->src = odd_address();
		break;
	case 1:
		pair->dst = odd_address();
		break;
	case 2:
		pair->dst = pair->src;
		break;
	case 3:
		pair->dst = pair->src + (below(17) - 8) * PAGE;
		break;
	case 4:
		pair->pages = odd_number();
		break;
	case 5:
		pair->slot_size = odd_number();
		break;
	case 6:
		pair->flags = odd_number();
		break;
	case 7:
		pair->live[below(MESHHELPER_LIVE_WORDS)] = random64();
		break;
	case 8:
		pair->src += below(PAGE);
		break;
	default:
		pair->pages = 1 + below(MESHHELPER_MAX_SPAN_PAGES + 2);
	}
	pair->result = odd_number();
}

unsigned int make_pairs(struct meshhelper_pair *pairs, unsigned int max)
{
	unsigned int i, n = 0, want = 1 + below(max);

	for (i = 0; i < want; i++)
		n += make_pair(&pairs[n]);
	return n;
}

/* IORING_SETUP_* of some kind of ring that any thread may use. */
unsigned int random_ring(void)
{
	static const unsigned int setups[] = {
		0, 0, IORING_SETUP_SQPOLL, IORING_SETUP_SQE128 | IORING_SETUP_CQE32,
	};

	return setups[below(ARRAY_SIZE(setups))];
}

struct ring *the_ring(void)
{
	if (self.uring.fd < 0)
		self.uring = ring_open(ENTRIES, one_in(4) ? IORING_SETUP_SINGLE_ISSUER |
				       IORING_SETUP_DEFER_TASKRUN : random_ring());
	self.uring.sqe_flags = one_in(4) ? IOSQE_ASYNC : 0;
	return &self.uring;
}

/* For the process whose ring it is, and for a child that has inherited it. */
void uring_drop(void)
{
	if (self.uring.fd >= 0)
		ring_close(&self.uring);
	self.uring.fd = -1;
}

/*
 * Nobody has to cancel a command for it to complete with -ECANCELED. The first worker thread of a
 * process is made by the process, which fails while a signal is pending there. After three more
 * attempts some milliseconds apart io_uring gives up what has been waiting for that worker
 * (create_worker_cont() of Linux 6.12). None of that was begun, and it may be asked for again.
 * The only signals here that do not end the process are the timer's.
 */
bool given_up(int result)
{
	return result == -ECANCELED && self.timer;
}

/* What ioctl() would do, as an io_uring command; 0, or -1 with errno. */
static int uring_request(unsigned long cmd, const void *arg)
{
	int result;

	do
		result = ring_request(the_ring(), self.device, cmd, arg);
	while (given_up(result));
	errno = -result;
	return errno ? -1 : 0;
}

/* By ioctl or as an io_uring command: that must make no difference. */
int ask(unsigned long cmd, const void *arg)
{
	return one_in(2) ? uring_request(cmd, arg) : ioctl(self.device, cmd, arg);
}

int request(unsigned long cmd, uint32_t flags, struct meshhelper_pair *pairs, unsigned int nr,
	    struct meshhelper_batch *batch)
{
	*batch = (struct meshhelper_batch) {
		.pairs = (uintptr_t)pairs,
		.nr_pairs = nr,
		.flags = flags,
	};
	return ask(cmd, batch);
}

/* Count a result, and see that it is one of those that are documented. */
void account_pair(const struct meshhelper_pair *pair)
{
	switch (pair->result) {
	case 0:
		control->merged++;
		return;
	case -EAGAIN:
	case -ETXTBSY:
	case -EBUSY:
	case -EUSERS:
	case -ENOENT:
	case -EEXIST:
	case -EINVAL:
	case -EFAULT:
	case -EXDEV:
	case -EPERM:
	case -EOPNOTSUPP:
	case -EMLINK:
	case -ENOMEM:
	case -EINTR:
		control->refused[-pair->result]++;
		return;
	default:
		fail("result %d", pair->result);
	}
}

static void note_pair(const struct meshhelper_pair *pair)
{
	struct range src, dst;

	if (find_span(pair->src, 1, &src))
		note(" %zu:%u", src.arena - self.arena, src.first);
	else
		note(" %llx", (unsigned long long)pair->src);
	if (find_span(pair->dst, 1, &dst))
		note(">%zu:%u", dst.arena - self.arena, dst.first);
	else
		note(">%llx", (unsigned long long)pair->dst);
	note("+%u/%u=%d", pair->pages, pair->slot_size, pair->result);
}

/**
 * record_results - note, count and model what a MERGE request has done
 * @pairs: with their results
 * @nr: how many
 * @mode: MESHHELPER_MERGE_*
 * @batch: as it was written back
 */
void record_results(struct meshhelper_pair *pairs, unsigned int nr, uint32_t mode,
		    const struct meshhelper_batch *batch)
{
	unsigned int i, done = 0;

	for (i = 0; i < nr; i++) {
		note_pair(&pairs[i]);
		account_pair(&pairs[i]);
		model_result(&pairs[i], mode);
		done += !pairs[i].result;
	}
	if (batch->nr_done != done || !batch->pss_saved != !done)
		fail("%u pairs merged, but nr_done %u, pss_saved %llu", done, batch->nr_done,
		     (unsigned long long)batch->pss_saved);
}

void check_pairs(const struct meshhelper_pair *pairs, unsigned int nr)
{
	struct range range;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (find_span(pairs[i].src, 1, &range))
			check_range(&range);
		if (find_span(pairs[i].dst, 1, &range))
			check_range(&range);
	}
}

void uffd_drop(void)
{
	if (self.uffd >= 0)
		close(self.uffd);
	self.uffd = -1;
}

/* There is none before Linux 6.7, and in a child its parent's is of no use. */
static bool uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };

	if (self.uffd >= 0)
		return true;
	self.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (self.uffd < 0)
		die("userfaultfd");
	if (!ioctl(self.uffd, UFFDIO_API, &api))
		return true;
	uffd_drop();
	return false;
}

static bool protect_page(struct arena *arena, unsigned int index)
{
	struct range run = run_of(arena, index);
	struct uffdio_register reg = {
		.range = { (uintptr_t)range_addr(&run), range_len(&run) },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)arena->page[index].addr, PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return !ioctl(self.uffd, UFFDIO_REGISTER, &reg) &&
	       !ioctl(self.uffd, UFFDIO_WRITEPROTECT, &wp);
}

/**
 * protect_frame - have the kernel notice writes to a frame
 * @arena: the arena
 * @frame: a frame of it
 *
 * Return: whether every address that shows the frame is write-protected.
 */
bool protect_frame(struct arena *arena, struct frame *frame)
{
	unsigned int i;

	if (!uffd_open())
		return false;
	for (i = 0; i < arena->nr; i++)
		if (arena->page[i].frame == frame && arena->page[i].addr &&
		    !protect_page(arena, i))
			return false;
	return true;
}

bool protect_span(uint64_t addr, unsigned int nr)
{
	struct range span;
	unsigned int i;

	if (!find_span(addr, nr, &span))
		return false;
	for (i = 0; i < nr; i++)
		if (!protect_frame(span.arena, page_frame(&span.arena->page[span.first + i])))
			return false;
	return true;
}

unsigned int arm(struct meshhelper_pair *pairs, unsigned int nr)
{
	struct meshhelper_batch batch;

	if (request(MESHHELPER_IOC_ARM, 0, pairs, nr, &batch))
		fail("MESHHELPER_IOC_ARM of %u pairs: %s", nr, strerror(errno));
	return batch.nr_done;
}

/* With one thread, protection makes no difference to what must come out: some do without. */
void arm_pairs(struct meshhelper_pair *pairs, unsigned int nr)
{
	unsigned int i;

	arm(pairs, nr);
	for (i = 0; i < nr; i++)
		if (!one_in(8))
			protect_span(pairs[i].src, pairs[i].pages);
}

/* Do two addresses show the same page? Told by writing to the first. */
static bool shows_same(struct page *src, const struct page *dst)
{
	uint64_t word = stamp(0x7ffff, 0);

	*(volatile uint64_t *)src->addr = word;
	if (*(const volatile uint64_t *)dst->addr == word)
		return true;
	page_fill(src, 0, 1, &word);
	return false;
}

/* In children, too. */
static bool all_accessible(const struct range *span)
{
	const struct page *page = &span->arena->page[span->first];
	unsigned int i;

	for (i = 0; i < span->nr; i++)
		if ((page[i].prot & RW) != RW || page[i].not_forked)
			return false;
	return true;
}

/* Could find_out_result() tell whether this was merged? */
bool result_is_visible(const struct meshhelper_pair *pair)
{
	struct range src, dst;

	return pair_allowed(pair) && find_span(pair->src, pair->pages, &src) &&
	       find_span(pair->dst, pair->pages, &dst) && all_accessible(&src) &&
	       all_accessible(&dst);
}

/* The request was carried out, or not, but its result could not be delivered. */
void find_out_result(struct meshhelper_pair *pair)
{
	struct range src, dst;
	struct page *to;
	uint64_t word = stamp(0x7ffff, 0);

	find_span(pair->src, pair->pages, &src);
	find_span(pair->dst, pair->pages, &dst);
	to = &dst.arena->page[dst.first];
	pair->result = -EBUSY;
	if (shows_same(&src.arena->page[src.first], to)) {
		pair->result = 0;
		model_result(pair, MESHHELPER_MERGE_ZAP);
		page_fill(to, 0, 1, &word);
	}
	check_range(&src);
	check_range(&dst);
}
