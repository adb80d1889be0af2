// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Pages that something reads or writes by their physical address: direct I/O, io_uring,
 * process_vm_writev() and pipes. As the source of a merge they are refused, and what is
 * written to them is never lost; as the target they are fine, for the target stays. Over a
 * fork, what is read that way is what was there when it was asked for, whoever writes
 * meanwhile, and what is written that way is the writer's alone.
 */
#include "disk.h"
#include "peer.h"
#include "ring.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "kselftest_harness.h"

#define SLOT	512
#define PAIRS	128
#define ROUNDS	scaled(24)
#define IN_FLIGHT	16

FIXTURE(pins) {
	struct arena a;
};

FIXTURE_VARIANT(pins) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(pins, zap) {
	.mode = MESHHELPER_MERGE_ZAP,
};

FIXTURE_VARIANT_ADD(pins, armed) {
	.mode = MESHHELPER_MERGE_ARMED,
};

FIXTURE_SETUP(pins)
{
	unsigned int i;

	if (!mode_supported(variant->mode))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	self->a = arena_open(2 * PAIRS, variant->mode);
	for (i = 0; i < 2 * PAIRS; i++)
		memset(page_at(&self->a, i), 'A' + i % 26, PAGE);
}

FIXTURE_TEARDOWN(pins)
{
	if (self->a.base)
		arena_close(&self->a);
}

/* Slots 0 and 1 of page @src go to @dst. */
static struct meshhelper_pair two_slots(struct arena *a, size_t src, size_t dst)
{
	struct meshhelper_pair pair = make_pair(page_at(a, src), page_at(a, dst), SLOT);

	set_live(&pair, 0);
	set_live(&pair, 1);
	return pair;
}

/* Try it @n times; how often the result is @errno_wanted. */
static unsigned int count_result(struct arena *a, struct meshhelper_pair pair,
				 unsigned int n, int errno_wanted)
{
	unsigned int i, hits = 0;

	for (i = 0; i < n; i++) {
		merge(a, &pair, 1);
		hits += pair.result == -errno_wanted;
	}
	return hits;
}

/* Armed mode wants every address of the source protected, merge() does the pair's. */
static void protect_alias(struct arena *a, char *addr)
{
	if (a->mode == MESHHELPER_MERGE_ARMED)
		protect(a, addr, PAGE);
}

/* What the module counted. */
struct counts {
	long long pinned, busy, drains;
};

static struct counts counts_now(void)
{
	return (struct counts) {
		.pinned = counter("merge_aborts_pinned_total"),
		.busy = counter("merge_aborts_busy_total"),
		.drains = counter("drains_total"),
	};
}

/**
 * struct pin - a pinned range of memory
 * @uffd: has the thread wait in a page fault of @block
 * @block: what is being written to @target, as soon as there is something in it; or what
 *	it is being read into
 * @target: pinned meanwhile
 * @reads: is the pin for reading?
 * @done: result of the call that pins
 * @got: what has been read
 * @thread: is in the middle of that call
 *
 * process_vm_writev() pins the pages that it writes to before it looks at its source, and
 * process_vm_readv() those that it reads before it looks for room.
 */
struct pin {
	int uffd;
	char *block;
	char *target;
	bool reads;
	ssize_t done;
	char got[SLOT];
	pthread_t thread;
};

static void *pin_thread(void *arg)
{
	struct pin *pin = arg;
	struct iovec local = { pin->block, SLOT }, remote = { pin->target, SLOT };

	if (pin->reads)
		pin->done = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	else
		pin->done = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	return NULL;
}

static void pin_start(struct pin *pin, char *target)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffd_msg msg;

	pin->target = target;
	pin->block = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)pin->block;
	reg.range.len = PAGE;
	pin->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (pin->block == MAP_FAILED || pin->uffd < 0 || ioctl(pin->uffd, UFFDIO_API, &api) ||
	    ioctl(pin->uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	if (pthread_create(&pin->thread, NULL, pin_thread, pin))
		die("pthread_create");
	if (read(pin->uffd, &msg, sizeof(msg)) != sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT)
		die("reading userfaultfd");
}

/* The call goes on, a write with bytes @c; its result. */
static ssize_t pin_end(struct pin *pin, char c)
{
	char page[PAGE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)pin->block,
		.src = (uintptr_t)page,
		.len = PAGE,
	};

	memset(page, c, PAGE);
	if (ioctl(pin->uffd, UFFDIO_COPY, &copy))
		die("UFFDIO_COPY");
	pthread_join(pin->thread, NULL);
	memcpy(pin->got, pin->block, SLOT);
	close(pin->uffd);
	munmap(pin->block, PAGE);
	return pin->done;
}

TEST_F(pins, source)
{
	struct meshhelper_pair pair = two_slots(&self->a, 1, 2);
	struct counts before = counts_now(), after;
	struct pin pin = { 0 };

	pin_start(&pin, page_at(&self->a, 1) + SLOT);
	EXPECT_EQ(50, count_result(&self->a, pair, 50, ETXTBSY));
	after = counts_now();
	EXPECT_EQ(before.pinned + 50, after.pinned);
	EXPECT_EQ(before.busy, after.busy);
	/* No use in that: a pin is no page on its way to the LRU. */
	EXPECT_EQ(before.drains, after.drains);
	/* Nor has it been unmapped for nothing. */
	EXPECT_NE(0, pfn_of(page_at(&self->a, 1)));
	EXPECT_FALSE(same_frame(page_at(&self->a, 1), page_at(&self->a, 2)));

	EXPECT_EQ(SLOT, pin_end(&pin, 'p'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1), SLOT, 'B'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1) + SLOT, SLOT, 'p'));
	EXPECT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_TRUE(same_frame(page_at(&self->a, 1), page_at(&self->a, 2)));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 2) + SLOT, SLOT, 'p'));
}

/* The pinned page is the one that stays, so what is written to it arrives. */
TEST_F(pins, target)
{
	struct meshhelper_pair pair = two_slots(&self->a, 1, 2), next = two_slots(&self->a, 2, 3);
	struct pin pin = { 0 };

	pin_start(&pin, page_at(&self->a, 2) + 2 * SLOT);
	EXPECT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_TRUE(same_frame(page_at(&self->a, 1), page_at(&self->a, 2)));
	/* Now it is the source, and pinned still. */
	protect_alias(&self->a, page_at(&self->a, 1));
	EXPECT_EQ(10, count_result(&self->a, next, 10, ETXTBSY));
	EXPECT_EQ(SLOT, pin_end(&pin, 'p'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1), 2 * SLOT, 'B'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1) + 2 * SLOT, SLOT, 'p'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 2) + 2 * SLOT, SLOT, 'p'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 2) + 3 * SLOT, PAGE - 3 * SLOT, 'C'));
}

/* Pinned by the address that has no page of its own. */
TEST_F(pins, alias)
{
	struct meshhelper_pair pair = two_slots(&self->a, 1, 2), next = two_slots(&self->a, 2, 3);
	struct pin pin = { 0 };

	ASSERT_EQ(0, merge_one(&self->a, &pair));
	pin_start(&pin, page_at(&self->a, 1));
	protect_alias(&self->a, page_at(&self->a, 1));
	EXPECT_EQ(10, count_result(&self->a, next, 10, ETXTBSY));
	EXPECT_EQ(SLOT, pin_end(&pin, 'p'));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 2), SLOT, 'p'));
}

/*
 * A page in a pipe has no more than a reference. While it is there, the pipe shows what
 * is written to it, as for any shared page; so it must stay.
 */
static void in_pipe(struct __test_metadata *_metadata, struct arena *a, unsigned int flags)
{
	struct meshhelper_pair pair = two_slots(a, 1, 2), next = two_slots(a, 3, 4);
	struct iovec iov = { page_at(a, 1), PAGE };
	struct counts before, after;
	char got[PAGE];
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, flags));
	before = counts_now();
	EXPECT_EQ(20, count_result(a, pair, 20, EBUSY));
	after = counts_now();
	EXPECT_EQ(before.pinned, after.pinned);
	EXPECT_EQ(before.busy + 20, after.busy);
	EXPECT_LT(before.drains, after.drains);
	memset(page_at(a, 1) + SLOT, 'w', SLOT);
	EXPECT_EQ(20, count_result(a, pair, 20, EBUSY));
	ASSERT_EQ(PAGE, read(fds[0], got, PAGE));
	EXPECT_TRUE(all_bytes(got, SLOT, 'B'));
	EXPECT_TRUE(all_bytes(got + SLOT, SLOT, 'w'));
	EXPECT_TRUE(all_bytes(got + 2 * SLOT, PAGE - 2 * SLOT, 'B'));
	EXPECT_EQ(0, merge_one(a, &pair));
	EXPECT_TRUE(all_bytes(page_at(a, 2) + SLOT, SLOT, 'w'));

	/* The target's used slots in a pipe: no matter. */
	iov = (struct iovec) { page_at(a, 4) + 2 * SLOT, SLOT };
	ASSERT_EQ(SLOT, vmsplice(fds[1], &iov, 1, flags));
	EXPECT_EQ(0, merge_one(a, &next));
	ASSERT_EQ(SLOT, read(fds[0], got, PAGE));
	EXPECT_TRUE(all_bytes(got, SLOT, 'E'));
	close(fds[0]);
	close(fds[1]);
}

TEST_F(pins, vmsplice)
{
	in_pipe(_metadata, &self->a, 0);
}

TEST_F(pins, vmsplice_gift)
{
	in_pipe(_metadata, &self->a, SPLICE_F_GIFT);
}

/* A gift that a file would like to have as its own page is copied: it is ours still. */
TEST_F(pins, gift_to_file)
{
	struct iovec iov = { page_at(&self->a, 1), PAGE };
	struct meshhelper_pair pair = two_slots(&self->a, 1, 2);
	int fds[2], file = memfd_create("gift", 0);
	char got[PAGE];

	ASSERT_LE(0, file);
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, SPLICE_F_GIFT));
	ASSERT_EQ(PAGE, splice(fds[0], NULL, file, NULL, PAGE, SPLICE_F_MOVE));
	EXPECT_EQ(0, merge_one(&self->a, &pair));
	memset(page_at(&self->a, 1), 'w', SLOT);
	ASSERT_EQ(PAGE, pread(file, got, PAGE, 0));
	EXPECT_TRUE(all_bytes(got, PAGE, 'B'));
	close(file);
}

/* Submit @n reads that are queued, and wait for them; how many did not read @len bytes. */
static unsigned int read_all(struct ring *ring, unsigned int n, int len)
{
	unsigned int i, wrong = 0;

	ring_submit(ring);
	for (i = 0; i < n; i++)
		wrong += ring_wait(ring).res != len;
	return wrong;
}

/*
 * Long-term pins for writing. Linux 6.1 has io_uring refuse what is file memory and not
 * shmem's own. Since 6.5 mm/ refuses them where writes are to be noticed, except that its
 * fast path lets shmem pages pass which are mapped for writing already: so it depends.
 */
TEST_F(pins, registered_buffer)
{
	struct meshhelper_pair pair = two_slots(&self->a, 1, 2);
	int fd = disk_open(O_DIRECT), err;
	struct ring ring = ring_open(IN_FLIGHT, 0);
	char *disk = disk_contents();
	struct counts before;

	ASSERT_LE(0, fd);
	madvise(self->a.base, 2 * PAIRS * PAGE, MADV_DONTNEED);
	err = ring_register_buffer(&ring, page_at(&self->a, 1), PAGE);
	TH_LOG("not mapped: %s", strerror(err));
	EXPECT_TRUE(err == EOPNOTSUPP || err == EFAULT);

	memset(page_at(&self->a, 1), 'r', PAGE);
	err = ring_register_buffer(&ring, page_at(&self->a, 1), PAGE);
	TH_LOG("mapped for writing: %s", strerror(err));
	if (err) {
		EXPECT_EQ(EOPNOTSUPP, err);
		EXPECT_EQ(0, merge_one(&self->a, &pair));
		return;
	}
	before = counts_now();
	EXPECT_EQ(20, count_result(&self->a, pair, 20, ETXTBSY));
	EXPECT_EQ(before.pinned + 20, counts_now().pinned);
	ring_read(&ring, IORING_OP_READ_FIXED, fd, page_at(&self->a, 1) + SLOT, SLOT, 0);
	EXPECT_EQ(0, read_all(&ring, 1, SLOT));
	EXPECT_EQ(0, memcmp(page_at(&self->a, 1) + SLOT, disk, SLOT));
	ring_unregister_buffer(&ring);
	usleep(100000);
	EXPECT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_EQ(0, memcmp(page_at(&self->a, 2) + SLOT, disk, SLOT));
	ring_close(&ring);
	free(disk);
}

/**
 * struct line - processes that follow each other, each the child of one that has ended
 * @a: arena of the first of them, with one page
 * @step: told by a child when its parent may end
 * @result: told by the last when all went well
 */
struct line {
	struct arena a;
	int step[2];
	int result[2];
};

/* A process that ends gives up its arena before its children notice. */
static void outlive(pid_t parent)
{
	while (getppid() == parent)
		usleep(1000);
}

/* A child goes on as @go_on(); returns when that says that its parent may end. */
static void be_followed(struct line *line, void (*go_on)(struct line *line, pid_t parent))
{
	pid_t parent = getpid();

	if (!fork()) {
		alarm(scaled_alarm(60));
		go_on(line, parent);
		_exit(0);
	}
	hear(line->step[0]);
}

/* What is being read into the page while its layer changes has to get there. */
static void fourth(struct line *line, pid_t parent)
{
	char *page = page_at(&line->a, 0);
	struct pin pin = { 0 };

	memset(page, '4', PAGE);
	pin_start(&pin, page);
	tell(line->step[1]);
	outlive(parent);
	madvise(page, PAGE, MADV_DONTNEED);
	page[2 * SLOT] = 'x';
	if (pin_end(&pin, 'w') == SLOT && all_bytes(page, SLOT, 'w') && page[2 * SLOT] == 'x')
		tell(line->result[1]);
}

/* Its other child keeps the layers apart until the page is pinned. */
static void third(struct line *line, pid_t parent)
{
	char *page = page_at(&line->a, 0);
	pid_t other;

	touch(page);
	memset(page, '3', PAGE);
	other = fork();
	if (!other) {
		pause();
		_exit(0);
	}
	tell(line->step[1]);
	outlive(parent);
	be_followed(line, fourth);
	kill(other, SIGKILL);
	exit_code(other);
}

static void second(struct line *line, pid_t parent)
{
	memset(page_at(&line->a, 0), '2', PAGE);
	tell(line->step[1]);
	outlive(parent);
	be_followed(line, third);
}

static void first(struct line *line)
{
	line->a = arena_open(1, MESHHELPER_MERGE_ZAP);
	memset(line->a.base, '1', PAGE);
	be_followed(line, second);
}

/*
 * A slot that a process has looked through to goes, and a later child gets its number anew and
 * then its ancestor's layer: nobody has looked through to that slot.
 */
TEST_F_TIMEOUT(pins, slot_of_ancestor, 100)
{
	struct line line;
	char c;

	ASSERT_EQ(0, pipe(line.step));
	ASSERT_EQ(0, pipe(line.result));
	if (!fork()) {
		first(&line);
		_exit(0);
	}
	close(line.step[1]);
	close(line.result[1]);
	EXPECT_EQ(1, read(line.result[0], &c, 1));
	close(line.step[0]);
	close(line.result[0]);
	while (wait(NULL) > 0)
		;
}

/*
 * The disk writes into slots of pages that are being merged: one read at a time, and by
 * io_uring many. When all pairs of a round are merged, every slot must have what was read
 * into it last.
 */
enum { READ_DIRECT = 1, READ_URING, READ_END };

struct reader {
	struct arena *arena;
	unsigned int slot;
	int disk;
	const char *contents;
	struct ring ring;
	/* By pair: the sector that was read last, or -1. */
	int last[PAIRS];
	unsigned long reads;
	pthread_t thread;
};

static atomic_bool stop;
static atomic_ulong failures;
/* Main must get its turn, although the threads hardly ever let go. */
static pthread_rwlock_t round_lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static char *reader_slot(struct reader *r, unsigned int pair)
{
	return page_at(r->arena, 2 * pair + 1) + r->slot * SLOT;
}

static void check_slots(struct reader *r, unsigned int first, unsigned int n)
{
	unsigned int i;

	for (i = first; i < first + n; i++)
		if (r->last[i] >= 0 &&
		    memcmp(reader_slot(r, i), r->contents + r->last[i] * SLOT, SLOT))
			failures++;
}

static unsigned int read_one(struct reader *r, unsigned int pair)
{
	r->reads++;
	return pread(r->disk, reader_slot(r, pair), SLOT, r->last[pair] * SLOT) != SLOT;
}

static unsigned int read_batch(struct reader *r, unsigned int pair)
{
	unsigned int i;

	for (i = 0; i < IN_FLIGHT; i++)
		ring_read(&r->ring, IORING_OP_READ, r->disk, reader_slot(r, pair + i), SLOT,
			  r->last[pair + i] * SLOT);
	r->reads += IN_FLIGHT;
	return read_all(&r->ring, IN_FLIGHT, SLOT);
}

static void *read_forever(void *arg)
{
	unsigned int n, pair, i;
	struct reader *r = arg;
	uint64_t state = r->slot;

	n = r->slot == READ_URING ? IN_FLIGHT : 1;
	while (!stop) {
		pair = next_random(&state) % (PAIRS + 1 - n);
		pthread_rwlock_rdlock(&round_lock);
		for (i = pair; i < pair + n; i++)
			r->last[i] = next_random(&state) % (DISK_BYTES / SLOT);
		failures += n == 1 ? read_one(r, pair) : read_batch(r, pair);
		check_slots(r, pair, n);
		pthread_rwlock_unlock(&round_lock);
	}
	return NULL;
}

static void reader_start(struct reader *r, struct arena *a, unsigned int slot, char *contents)
{
	*r = (struct reader) {
		.arena = a,
		.slot = slot,
		.disk = disk_open(O_DIRECT),
		.contents = contents,
	};
	memset(r->last, -1, sizeof(r->last));
	if (r->disk < 0)
		die("opening the disk");
	if (slot == READ_URING)
		r->ring = ring_open(IN_FLIGHT, 0);
	if (pthread_create(&r->thread, NULL, read_forever, r))
		die("pthread_create");
}

static void take_apart(struct arena *a, struct reader *r, unsigned int n)
{
	unsigned int i;

	pthread_rwlock_wrlock(&round_lock);
	for (i = 0; i < n; i++) {
		check_slots(&r[i], 0, PAIRS);
		memset(r[i].last, -1, sizeof(r[i].last));
	}
	for (i = 0; i < PAIRS; i++) {
		if (madvise(page_at(a, 2 * i + 1), PAGE, MADV_REMOVE))
			die("MADV_REMOVE");
		memset(page_at(a, 2 * i + 1), 'n', PAGE);
	}
	pthread_rwlock_unlock(&round_lock);
}

TEST_F_TIMEOUT(pins, direct_reads, 300)
{
	static struct reader readers[READ_END - 1];
	unsigned int round, i, merged = 0, refused = 0;
	struct counts before = counts_now(), after;
	char *contents = disk_contents();

	stop = false;
	failures = 0;
	for (i = 0; i < READ_END - 1; i++)
		reader_start(&readers[i], &self->a, i + 1, contents);
	for (round = 0; round < ROUNDS; round++) {
		merged += merge_in_turn(&self->a, PAIRS, SLOT, (1 << READ_END) - 2, &refused);
		take_apart(&self->a, readers, READ_END - 1);
	}
	stop = true;
	for (i = 0; i < READ_END - 1; i++) {
		pthread_join(readers[i].thread, NULL);
		EXPECT_LT(50, readers[i].reads);
	}
	after = counts_now();
	TH_LOG("%u merged, %u refused (%lld pinned, %lld busy), %lu + %lu reads", merged,
	       refused, after.pinned - before.pinned, after.busy - before.busy,
	       readers[0].reads, readers[1].reads);
	EXPECT_EQ(0, failures);
	EXPECT_LE(ROUNDS * PAIRS * 9 / 10, merged);
	/* Whether direct I/O pins its buffers depends on the kernel; it holds them anyway. */
	EXPECT_LT(0, after.pinned - before.pinned + after.busy - before.busy);
}

/**
 * struct peers - a parent and its child
 * @pid: the child
 * @up: to the parent
 * @down: to the child
 * @data: what the child has put somewhere
 */
struct peers {
	pid_t pid;
	int up[2];
	int down[2];
	int data[2];
};

/* Like fork(): true in the child. */
static bool fork_peer(struct peers *p)
{
	if (pipe(p->up) || pipe(p->down) || pipe(p->data))
		die("pipe");
	p->pid = fork();
	if (p->pid < 0)
		die("fork");
	return !p->pid;
}

static void close_pipes(struct peers *p)
{
	int i;

	for (i = 0; i < 2; i++) {
		close(p->up[i]);
		close(p->down[i]);
		close(p->data[i]);
	}
}

/* The child, which waits for it, may go; its exit code. */
static int end_peer(struct peers *p)
{
	int code;

	tell(p->down[1]);
	code = exit_code(p->pid);
	close_pipes(p);
	return code;
}

/* The parent may go on, and does until it says so. */
static void parents_turn(struct peers *p)
{
	tell(p->up[1]);
	hear(p->down[0]);
}

static void into_pipe(struct peers *p, char *page)
{
	struct iovec iov = { page, PAGE };

	if (vmsplice(p->data[1], &iov, 1, 0) != PAGE)
		die("vmsplice");
}

static bool pipe_has(struct peers *p, char c)
{
	char got[PAGE];

	return read(p->data[0], got, PAGE) == PAGE && all_bytes(got, PAGE, c);
}

/* Page 2 becomes an alias of page 1, all 'B'. */
static void alias_all_b(struct arena *a)
{
	struct meshhelper_pair pair = make_pair(page_at(a, 2), page_at(a, 1), SLOT);

	if (merge_one(a, &pair))
		die("merge");
}

/* What a child has put into a pipe is what was there, not what its parent writes later. */
TEST_F(pins, lent_to_pipe)
{
	char *page = page_at(&self->a, 1), *alias = page_at(&self->a, 2);
	struct peers p;

	alias_all_b(&self->a);
	if (fork_peer(&p)) {
		into_pipe(&p, alias);
		parents_turn(&p);
		_exit(!all_bytes(page, PAGE, 'B') || !all_bytes(alias, PAGE, 'B'));
	}
	hear(p.up[0]);
	memset(page, 'p', PAGE);
	EXPECT_TRUE(pipe_has(&p, 'B'));
	EXPECT_TRUE(all_bytes(page, PAGE, 'p'));
	EXPECT_TRUE(same_frame(page, alias));
	EXPECT_EQ(0, end_peer(&p));
}

/* Nor if a page fault maps no more than its page, as where somebody may protect single ones. */
TEST_F(pins, lent_page_by_page)
{
	char *page = page_at(&self->a, 1);
	struct peers p;

	if (fork_peer(&p)) {
		if (self->a.mode == MESHHELPER_MERGE_ARMED)
			arena_uffd(self->a.base, self->a.pages * PAGE);
		into_pipe(&p, page);
		parents_turn(&p);
		_exit(!all_bytes(page, PAGE, 'B'));
	}
	hear(p.up[0]);
	memset(page, 'p', PAGE);
	EXPECT_TRUE(pipe_has(&p, 'B'));
	EXPECT_TRUE(all_bytes(page, PAGE, 'p'));
	EXPECT_EQ(0, end_peer(&p));
}

/* Nor does it matter that the child looks at something else by then. */
TEST_F(pins, lent_to_writer)
{
	char *page = page_at(&self->a, 1);
	struct peers p;

	if (fork_peer(&p)) {
		into_pipe(&p, page);
		memset(page, 'c', PAGE);
		parents_turn(&p);
		_exit(!all_bytes(page, PAGE, 'c'));
	}
	hear(p.up[0]);
	memset(page, 'p', PAGE);
	EXPECT_TRUE(pipe_has(&p, 'B'));
	EXPECT_TRUE(all_bytes(page, PAGE, 'p'));
	EXPECT_EQ(0, end_peer(&p));
}

/* Or that it is gone. The page may not even be the target of a merge. */
TEST_F(pins, lent_to_the_dead)
{
	struct meshhelper_pair pair = two_slots(&self->a, 3, 1);
	char *page = page_at(&self->a, 1);
	struct peers p;

	if (fork_peer(&p)) {
		into_pipe(&p, page);
		_exit(0);
	}
	EXPECT_EQ(0, exit_code(p.pid));
	EXPECT_EQ(5, count_result(&self->a, pair, 5, EBUSY));
	memset(page, 'p', PAGE);
	EXPECT_TRUE(pipe_has(&p, 'B'));
	EXPECT_TRUE(all_bytes(page, PAGE, 'p'));
	EXPECT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_TRUE(all_bytes(page, 2 * SLOT, 'D'));
	close_pipes(&p);
}

/* Who lent it is gone, too, and another child has inherited the page. */
static char write_as_heir(struct peers *parent, char *page)
{
	hear(parent->down[0]);
	memset(page, 'c', PAGE);
	return pipe_has(parent, 'm') && all_bytes(page, PAGE, 'c');
}

TEST_F(pins, lent_by_the_dead)
{
	char *page = page_at(&self->a, 1), good;
	struct peers parent, p;

	if (fork_peer(&parent)) {
		memset(page, 'm', PAGE);
		if (fork_peer(&p)) {
			into_pipe(&parent, page);
			parents_turn(&p);
			_exit(0);
		}
		hear(p.up[0]);
		if (!fork()) {
			good = write_as_heir(&parent, page);
			_exit(write(parent.up[1], &good, 1) != 1);
		}
		_exit(end_peer(&p));
	}
	EXPECT_EQ(0, exit_code(parent.pid));
	tell(parent.down[1]);
	ASSERT_EQ(1, read(parent.up[0], &good, 1));
	EXPECT_TRUE(good);
	close_pipes(&parent);
}

/*
 * Map page @index as the first child of a family has it in its file, which is only for those
 * who may open a file by way of /proc/PID/map_files.
 */
static char *map_from_file(struct arena *a, size_t index)
{
	unsigned long slot, offset;
	unsigned long long number;
	char path[128], *map;
	int fd;

	/* One arena in 512 does not begin with the first page of its file. */
	arena_in_maps(a, &offset, &number);
	slot = device_info(a->fd).max_arena_pages + offset / PAGE + index;
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)a->base,
		 (unsigned long)page_at(a, a->pages));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(path);
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, slot * PAGE);
	if (map == MAP_FAILED)
		die("mmap");
	close(fd);
	return map;
}

/* What somebody has mapped like that is no obstacle for who goes on in a copy. */
static int write_with_file_mapped(struct arena *a)
{
	char *page = page_at(a, 1), *map;
	struct peers p;
	bool good;

	memset(page, 'c', PAGE);
	map = map_from_file(a, 1);
	good = all_bytes(map, PAGE, 'c');
	if (fork_peer(&p)) {
		into_pipe(&p, page);
		parents_turn(&p);
		_exit(0);
	}
	hear(p.up[0]);
	memset(page, 'w', PAGE);
	return !good || !pipe_has(&p, 'c') || !all_bytes(page, PAGE, 'w') ||
	       !all_bytes(map, PAGE, 'w') || end_peer(&p);
}

TEST_F(pins, lent_and_mapped_from_file)
{
	pid_t pid = fork();

	if (!pid)
		_exit(write_with_file_mapped(&self->a));
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1), PAGE, 'B'));
}

/* The child's direct I/O reads what was there, too. */
static int read_pinned(struct peers *p, char *page)
{
	struct pin pin = { .reads = true };

	pin_start(&pin, page);
	parents_turn(p);
	if (pin_end(&pin, 'x') != SLOT)
		return 2;
	return !all_bytes(pin.got, SLOT, 'B');
}

TEST_F(pins, lent_to_io)
{
	char *page = page_at(&self->a, 1);
	struct peers p;

	if (fork_peer(&p))
		_exit(read_pinned(&p, page));
	hear(p.up[0]);
	memset(page, 'p', PAGE);
	EXPECT_EQ(0, end_peer(&p));
	EXPECT_TRUE(all_bytes(page, PAGE, 'p'));
}

/*
 * What the parent is reading into a page when it forks is the parent's alone: it arrives there,
 * whatever else the parent writes to that page, and no child ever has it.
 */
TEST_F(pins, reading_over_fork)
{
	char *page = page_at(&self->a, 1), *alias = page_at(&self->a, 2);
	struct pin pin = { 0 };
	struct peers p, q;

	alias_all_b(&self->a);
	pin_start(&pin, alias + SLOT);
	/* It is known by its page alone. */
	madvise(page, 2 * PAGE, MADV_DONTNEED);
	if (fork_peer(&p)) {
		hear(p.down[0]);
		_exit(!all_bytes(page, PAGE, 'B') || !all_bytes(alias, PAGE, 'B') ||
		      !same_frame(page, alias));
	}
	memset(page, 'w', SLOT);
	if (fork_peer(&q)) {
		hear(q.down[0]);
		_exit(!all_bytes(page, SLOT, 'w') || !all_bytes(page + SLOT, PAGE - SLOT, 'B'));
	}
	EXPECT_EQ(SLOT, pin_end(&pin, 'p'));
	EXPECT_EQ(0, end_peer(&p));
	EXPECT_EQ(0, end_peer(&q));
	EXPECT_TRUE(all_bytes(alias, SLOT, 'w'));
	EXPECT_TRUE(all_bytes(page + SLOT, SLOT, 'p'));
	EXPECT_TRUE(all_bytes(page + 2 * SLOT, PAGE - 2 * SLOT, 'B'));
}

TEST_HARNESS_MAIN
