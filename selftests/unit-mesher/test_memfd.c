/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The memfd backend: what is merged is on one frame and every live byte is right,
 * whoever writes, pins, locks, forks or runs out of mappings meanwhile.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deny.h"
#include "lock.h"
#include "options.h"
#include "os.h"
#include "small_heap.h"

static void set_up(unsigned int spans, unsigned int pages)
{
	options.verbose = 1;
	heap_open(&backend_memfd, spans, pages);
}

/* Is something true within half a minute? What the kernel does in its own time may take a while. */
static bool comes_true(bool (*condition)(void))
{
	unsigned int i;

	for (i = 0; i < 3000; i++) {
		if (condition())
			return true;
		usleep(10000);
	}
	return false;
}

static unsigned int mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned int n = 0;
	int c;

	CHECK(f);
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

/* KiB in files that the views are of, all generations. */
static long file_kib(void)
{
	char path[64], name[64];
	long blocks = 0;
	int fd;

	for (fd = 3; fd < 200; fd++) {
		struct stat st;
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, name, sizeof(name) - 1);
		if (len < 0)
			continue;
		name[len] = '\0';
		if (!strncmp(name, "/memfd:mesh ", 12) && !fstat(fd, &st))
			blocks += st.st_blocks;
	}
	return blocks / 2;
}

static pid_t clone_raw(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static pid_t fork_any(bool raw)
{
	pid_t pid = raw ? clone_raw() : fork();

	CHECK(pid >= 0);
	return pid;
}

/* A child that has found out that the test must be skipped has said why. */
static void join_child(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		_exit(77);
	CHECK(status == 0);
}

/* A child that looks at its heap when it is told to, and ends. */
struct witness {
	pid_t pid;
	int tell;
};

static struct witness start_witness(void)
{
	struct witness w;
	int p[2];
	char c;

	CHECK(!pipe(p));
	w.tell = p[1];
	w.pid = fork_any(false);
	if (!w.pid) {
		CHECK(read(p[0], &c, 1) == 1);
		heap_verify();
		_exit(0);
	}
	return w;
}

static void end_witness(const struct witness *w)
{
	CHECK(write(w->tell, "", 1) == 1);
	join_child(w->pid);
}

static void two_share_a_page(void)
{
	set_up(4, 1);
	heap_fill_diagonal();
	CHECK(frame_of(0) != frame_of(1));
	CHECK(!heap_merge(0, 1));
	CHECK(frame_of(0) == frame_of(1));
	CHECK(frame_of(0) != frame_of(2));
	heap_verify();
}

/* One by one, and groups with groups. */
static void groups_grow(void)
{
	unsigned int i, step;

	set_up(32, 1);
	heap_fill_diagonal();
	for (i = 1; i < 16; i++)
		CHECK(!heap_merge(i, 0));
	for (step = 1; step < 16; step *= 2)
		for (i = 16; i < 32; i += 2 * step)
			CHECK(!heap_merge(i, i + step));
	for (i = 0; i < 32; i++)
		CHECK(frame_of(i) == frame_of(i & 16));
	heap_verify();
	backend_memfd.tidy();
	CHECK(file_kib() == 8);
}

static void spans_of_several_pages(void)
{
	unsigned int i;

	set_up(40, 3);
	heap_fill_diagonal();
	for (i = 0; i < 8; i++) {
		CHECK(!heap_merge(i, i + 20));
		CHECK(frame_of(i) == frame_of(i + 20));
	}
	for (i = 0; i < 4; i++)
		CHECK(!heap_merge(i, i + 4));
	heap_verify();
	backend_memfd.tidy();
	CHECK(file_kib() == 4 * 3 * 4);
}

/* What one address writes is not what the other sees; nothing else changes. */
static void writes_end_a_merge(void)
{
	set_up(8, 1);
	heap_fill_diagonal();
	CHECK(!heap_merge(0, 1));
	heap_write(0, 0);
	heap_verify();
	CHECK(frame_of(0) != frame_of(1));
	/* a group of which a member has been written to stays where it is */
	CHECK(heap_merge(0, 2) == -EAGAIN);
	heap_verify();
	/* but others can join it */
	CHECK(!heap_merge(2, 1));
	CHECK(frame_of(2) == frame_of(1));
	heap_write(2, 2);
	heap_write(1, 1);
	heap_verify();
}

/* What was written to and is left alone is merged anew. */
static void written_spans_are_renewed(void)
{
	unsigned int i;

	set_up(16, 1);
	heap_fill_diagonal();
	for (i = 1; i < 16; i++)
		CHECK(!heap_merge(i, 0));
	for (i = 0; i < 16; i += 2) {
		heap_fill(i, i + 1);
		heap_free(i, i + 1);
		heap_write(i, i);
	}
	for (i = 0; i < 16; i++)
		CHECK(!heap_renew(i));
	heap_write(4, 4);
	/* no change since the last look, but for span 4 */
	for (i = 0; i < 16; i++)
		CHECK(heap_renew(i) == (i % 2 == 0 && i != 4));
	heap_verify();
	for (i = 0; i < 16; i++)
		CHECK((frame_of(i) == frame_of(1)) == (i != 4));
	CHECK(heap_renew(4));
	CHECK(!heap_renew(4));
	CHECK(frame_of(4) == frame_of(1));
	heap_verify();
}

/* Does the kernel count what this process has pinned, which is something? */
static bool pins_are_counted(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long kib = 0;

	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPin: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib > 0;
}

/* Not while children can see it, nor while anything is pinned for long. */
static void renewals_are_careful(void)
{
	static char page[PAGE_SIZE];
	struct iovec iov = { page, sizeof(page) };
	struct io_uring ring;
	struct witness child;

	set_up(4, 1);
	heap_fill_diagonal();
	CHECK(!heap_merge(0, 1));
	child = start_witness();
	heap_write(0, 0);
	CHECK(!heap_renew(0));
	CHECK(!heap_renew(0));
	end_witness(&child);
	heap_verify();
	if (io_uring_queue_init(4, &ring, 0))
		SKIP("no io_uring");
	CHECK(!io_uring_register_buffers(&ring, &iov, 1));
	CHECK(!backend_memfd.begin_pass());
	if (!pins_are_counted())
		SKIP("the kernel does not count what is pinned");
	CHECK(!io_uring_unregister_buffers(&ring));
	CHECK(comes_true(backend_memfd.begin_pass));
	CHECK(!backend_memfd.begin_pass());
	sleep(3);
	CHECK(backend_memfd.begin_pass());
}

static void dead_spans_leave(void)
{
	unsigned int i, before;
	char *p;

	set_up(64, 1);
	heap_fill_diagonal();
	before = mappings();
	for (i = 0; i < 64; i++)
		if (i % 16)
			CHECK(!heap_merge(i, i & ~15U));
	CHECK(mappings() > before + 40);
	for (i = 0; i < 64; i++) {
		unsigned int span = i * 29 % 64;

		CHECK(!heap_kill(span));
		for (p = span_at_index(span); p < span_at_index(span) + PAGE_SIZE; p++)
			CHECK(!*p);
		heap_verify();
	}
	CHECK(mappings() <= before + 1);
	backend_memfd.tidy();
	CHECK(file_kib() == 0);
}

static void random_op(void)
{
	unsigned int a = test_random() % heap.nr, b = test_random() % heap.nr;
	unsigned int slot = test_random() % slots_per_span();
	int ret;

	switch (test_random() % 9) {
	case 0:
		if (!heap_is_live(a, slot) && heap_group_size(a) == 1)
			heap_fill(a, slot);
		break;
	case 1:
		if (heap_is_live(a, slot))
			heap_free(a, slot);
		break;
	case 2:
		if (heap_is_live(a, slot))
			heap_write(a, slot);
		break;
	case 3:
		if (test_random() % 8 == 0)
			CHECK(!heap_kill(a));
		break;
	case 4:
		backend_memfd.tidy();
		break;
	case 5:
		heap_renew(a);
		break;
	default:
		if (!heap_may_merge(a, b))
			break;
		ret = heap_merge(a, b);
		CHECK(ret == 0 || ret == -EAGAIN);
	}
}

static void random_operations(void)
{
	unsigned int i;

	set_up(96, 1 + getpid() % 3);
	for (i = 0; i < 30000; i++) {
		random_op();
		if (i % 64 == 0)
			heap_verify();
	}
	heap_verify();
	for (i = 0; i < heap.nr; i++)
		CHECK(!heap_kill(i));
	backend_memfd.tidy();
	CHECK(file_kib() == 0);
}

static bool first_two_merge(void)
{
	return !heap_merge(0, 1);
}

/* Pinned for I/O: the span stays where the I/O goes to. */
static void registered_buffers(void)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	struct iovec iov;
	char block[SLOT_SIZE];
	int fd;

	set_up(4, 1);
	heap_fill_diagonal();
	if (io_uring_queue_init(4, &ring, 0))
		SKIP("no io_uring");
	iov = (struct iovec){ slot_at(0, 5), SLOT_SIZE };
	CHECK(!io_uring_register_buffers(&ring, &iov, 1));
	CHECK(heap_merge(0, 1) == -EBUSY);
	CHECK(heap_merge(1, 0) == -EBUSY);
	heap_verify();
	memset(block, 'x', sizeof(block));
	fd = memfd_create("data", 0);
	CHECK(write(fd, block, sizeof(block)) == sizeof(block));
	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), fd, iov.iov_base, SLOT_SIZE, 0, 0);
	CHECK(io_uring_submit_and_wait(&ring, 1) == 1);
	CHECK(!io_uring_wait_cqe(&ring, &cqe) && cqe->res == (int)SLOT_SIZE);
	CHECK(!memcmp(slot_at(0, 5), block, sizeof(block)));
	io_uring_queue_exit(&ring);
	/* the kernel lets go of the buffers later */
	CHECK(comes_true(first_two_merge));
	heap_verify();
}

static atomic_bool stop;
static atomic_ulong done;

/* Direct reads into a slot whose span is being merged. */
static void *read_directly(void *arg)
{
	int fd = (int)(long)arg;
	unsigned int i;

	for (i = 0; !atomic_load(&stop); i++) {
		char *buf = slot_at(0, 0), want = 'a' + i % 8;

		memset(buf, 0, 512);
		CHECK(pread(fd, buf, 512, i % 8 * 512) == 512);
		CHECK(buf[0] == want && buf[511] == want);
		atomic_fetch_add(&done, 1);
	}
	return NULL;
}

static int open_direct(void)
{
	char name[] = "direct-XXXXXX", block[512];
	int i, fd = mkstemp(name);

	CHECK(fd >= 0);
	for (i = 0; i < 8; i++) {
		memset(block, 'a' + i, 512);
		CHECK(write(fd, block, 512) == 512);
	}
	CHECK(!fsync(fd));
	close(fd);
	fd = open(name, O_RDONLY | O_DIRECT);
	unlink(name);
	return fd;
}

/* Anew, with two slots in use that a read of 512 bytes fills. */
static void renew_read_span(void)
{
	CHECK(!heap_kill(0));
	heap_mark(0, 0);
	heap_mark(0, 1);
}

/* Merge the span that is read into with @other, either way round. */
static int merge_while_reading(int fd, unsigned int other, bool from)
{
	unsigned long before = atomic_load(&done);
	pthread_t t;
	int ret;

	atomic_store(&stop, false);
	CHECK(!pthread_create(&t, NULL, read_directly, (void *)(long)fd));
	while (atomic_load(&done) == before)
		usleep(10);
	ret = from ? heap_merge(0, other) : heap_merge(other, 0);
	before = atomic_load(&done);
	while (atomic_load(&done) < before + 10)
		usleep(10);
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	return ret;
}

/* A read that is in progress, or that begins later, does not miss the span. */
static void direct_reads(void)
{
	unsigned int i, merged = 0, pinned = 0;
	int ret, fd = open_direct();

	if (fd < 0)
		SKIP("no direct I/O in this directory");
	set_up(64, 1);
	if (pread(fd, slot_at(0, 0), 512, 0) != 512)
		SKIP("no direct I/O of 512 bytes here");
	for (i = 0; i < 3000 && (i < 300 || !merged || !pinned); i++) {
		unsigned int other = 1 + test_random() % 63;

		renew_read_span();
		heap_fill(other, 3 + i % 12);
		ret = merge_while_reading(fd, other, i % 2);
		CHECK(ret == 0 || ret == -EBUSY || ret == -EAGAIN);
		merged += !ret;
		pinned += ret == -EBUSY;
		CHECK(!heap_kill(other));
	}
	CHECK(merged && pinned);
}

/* A pipe that refers to a page has what was in it, whatever becomes of the address. */
static void pipes_keep_their_contents(void)
{
	char got[SLOT_SIZE], was[SLOT_SIZE];
	struct iovec iov;
	int p[2];

	set_up(4, 1);
	heap_fill_diagonal();
	CHECK(!pipe(p));
	iov = (struct iovec){ slot_at(0, 0), SLOT_SIZE };
	memcpy(was, iov.iov_base, SLOT_SIZE);
	CHECK(vmsplice(p[1], &iov, 1, 0) == (ssize_t)SLOT_SIZE);
	heap_merge(0, 1);
	heap_write(0, 0);
	CHECK(read(p[0], got, SLOT_SIZE) == (ssize_t)SLOT_SIZE);
	CHECK(!memcmp(got, was, SLOT_SIZE) || !memcmp(got, slot_at(0, 0), SLOT_SIZE));
	heap_verify();
}

static void locked_and_protected(void)
{
	set_up(8, 1);
	heap_fill_diagonal();
	CHECK(!mlock(slot_at(0, 0), SLOT_SIZE));
	CHECK(heap_merge(0, 1) < 0 && heap_merge(1, 0) < 0);
	CHECK(!mprotect(span_at_index(2), PAGE_SIZE, PROT_NONE));
	CHECK(heap_merge(2, 1) < 0 && heap_merge(1, 2) < 0);
	CHECK(!mprotect(span_at_index(3), PAGE_SIZE, PROT_READ));
	CHECK(heap_merge(3, 1) < 0 && heap_merge(1, 3) < 0);
	/* so are members of a group */
	CHECK(!heap_merge(4, 5));
	CHECK(!mlock(slot_at(4, 0), SLOT_SIZE));
	CHECK(heap_merge(5, 6) < 0);
	CHECK(!munlock(slot_at(4, 0), SLOT_SIZE));
	CHECK(!mprotect(span_at_index(4), PAGE_SIZE, PROT_NONE));
	CHECK(heap_merge(5, 6) < 0);
	CHECK(!mprotect(span_at_index(4), PAGE_SIZE, PROT_READ | PROT_WRITE));
	CHECK(!mprotect(span_at_index(2), PAGE_SIZE, PROT_READ | PROT_WRITE));
	CHECK(!mprotect(span_at_index(3), PAGE_SIZE, PROT_READ | PROT_WRITE));
	CHECK(!munlock(slot_at(0, 0), SLOT_SIZE));
	heap_verify();
	CHECK(!heap_merge(0, 1));
	CHECK(!heap_merge(2, 3));
	heap_verify();
}

/* Where everything is locked, so is what spans are moved to: the kernel would move them. */
static void locked_all(void)
{
	set_up(8, 1);
	heap_fill_diagonal();
	CHECK(!heap_merge(4, 5));
	CHECK(!mlockall(MCL_CURRENT | MCL_ONFAULT));
	CHECK(heap_merge(0, 1) < 0 && heap_merge(2, 3) < 0 && heap_merge(2, 5) < 0);
	heap_verify();
	CHECK(!munlockall());
	CHECK(!heap_merge(0, 1) && !heap_merge(2, 5));
	heap_verify();
}

/* A child that looks at its heap, and changes it, until it is told to end. */
static pid_t start_child(bool raw, int pipefd)
{
	pid_t pid = fork_any(raw);
	unsigned int i;
	char c;

	if (pid)
		return pid;
	for (i = 0; i < heap.nr; i += 3)
		heap_write(i, i % slots_per_span());
	while (read(pipefd, &c, 1) == 1 && c)
		heap_verify();
	heap_verify();
	_exit(0);
}

/* What the parent does must not reach the child, nor the other way round. */
static void fork_is_a_snapshot(bool raw)
{
	unsigned int i;
	int p[2];
	pid_t pid;

	set_up(64, 1);
	heap_fill_diagonal();
	for (i = 0; i < 64; i++)
		if (i % 4)
			CHECK(!heap_merge(i, i & ~3U));
	CHECK(!pipe(p));
	pid = start_child(raw, p[0]);
	/* groups with groups, spans that die, slots that are used anew */
	for (i = 0; i < 64; i += 16)
		CHECK(!heap_merge(i, i + 4));
	for (i = 0; i < 64; i += 5)
		CHECK(!heap_kill(i));
	backend_memfd.tidy();
	for (i = 0; i < 64; i += 5)
		heap_fill(i, (i + 1) % 16);
	for (i = 0; i + 5 < 64; i += 10)
		if (heap_may_merge(i, i + 5))
			heap_merge(i, i + 5);
	backend_memfd.tidy();
	CHECK(write(p[1], "1", 1) == 1);
	for (i = 0; i < 64; i++)
		if (heap_is_live(i, i % 16))
			heap_write(i, i % 16);
	heap_verify();
	CHECK(write(p[1], "1", 1) == 1);
	CHECK(write(p[1], "", 1) == 1);
	join_child(pid);
	heap_verify();
	/* when it is gone, so is what it saw */
	for (i = 0; i < 64; i++)
		CHECK(!heap_kill(i));
	backend_memfd.tidy();
	CHECK(file_kib() == 0);
}

static void snapshot_by_fork(void)
{
	fork_is_a_snapshot(false);
}

static void snapshot_by_clone(void)
{
	fork_is_a_snapshot(true);
}

/* What a child still sees is kept, in a file that is not written to any more. */
static void children_keep_files(void)
{
	unsigned int i;
	struct witness child;

	set_up(64, 1);
	heap_fill_diagonal();
	for (i = 0; i < 32; i++)
		CHECK(!heap_merge(2 * i, 2 * i + 1));
	child = start_witness();
	for (i = 0; i < 64; i++)
		CHECK(!heap_kill(i));
	backend_memfd.tidy();
	CHECK(file_kib() == 32 * 4);
	end_witness(&child);
	backend_memfd.tidy();
	CHECK(file_kib() == 0);
}

/* A slot that is free here may be in use in a child, at the same place of a file. */
static void slots_freed_after_fork(void)
{
	struct witness child;

	set_up(4, 1);
	heap_fill_diagonal();
	heap_fill(1, 5);
	CHECK(!heap_merge(0, 1));
	child = start_witness();
	heap_free(1, 5);
	heap_fill(2, 5);
	CHECK(!heap_merge(2, 1));
	CHECK(frame_of(2) == frame_of(1));
	end_witness(&child);
	heap_verify();
}

/* Memory that is shared with a child is not copied to be merged, until it is ours alone. */
static void shared_with_a_child(void)
{
	struct witness child;

	set_up(8, 2);
	heap_fill_diagonal();
	child = start_witness();
	CHECK(heap_merge(0, 1) == -EBUSY && heap_merge(2, 3) == -EBUSY);
	heap_write(0, 0);
	heap_write(1, 1);
	CHECK(heap_merge(0, 1) == -EBUSY);
	memset(span_at_index(0) + PAGE_SIZE, 1, PAGE_SIZE);
	memset(span_at_index(1) + PAGE_SIZE, 1, PAGE_SIZE);
	CHECK(!heap_merge(0, 1));
	end_witness(&child);
	CHECK(!heap_merge(2, 3));
	heap_verify();
}

static void write_from(unsigned int first)
{
	for (unsigned int i = first; i < heap.nr; i++)
		heap_write(i, i % slots_per_span());
}

/* A child goes on merging: what it has inherited, with that and with its own. */
static void children_merge(void)
{
	unsigned int i;
	pid_t pid;

	set_up(64, 1);
	heap_fill_diagonal();
	for (i = 0; i < 32; i += 2)
		CHECK(!heap_merge(i, i + 1));
	pid = fork();
	if (!pid) {
		CHECK(!backend_memfd.mesh_open());
		for (i = 0; i < 32; i += 4)
			CHECK(!heap_merge(i, i + 2));
		write_from(32);
		for (i = 32; i < 64; i += 2)
			CHECK(!heap_merge(i, i + 1));
		CHECK(frame_of(0) == frame_of(2) && frame_of(32) == frame_of(33));
		heap_verify();
		for (i = 0; i < 64; i++)
			CHECK(!heap_kill(i));
		backend_memfd.tidy();
		_exit(0);
	}
	write_from(32);
	for (i = 32; i < 64; i += 2)
		CHECK(!heap_merge(i, i + 1));
	join_child(pid);
	heap_verify();
	for (i = 0; i < 32; i += 4)
		CHECK(!heap_merge(i, i + 2));
	heap_verify();
}

/* Every second page protected otherwise: a mapping each. */
static size_t use_up_mappings(unsigned int leave)
{
	size_t i, n = 0, max = 200000;
	char *p = mmap(NULL, max * PAGE_SIZE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(p != MAP_FAILED);
	for (i = 0; i < max; i += 2) {
		if (mprotect(p + i * PAGE_SIZE, PAGE_SIZE, PROT_READ))
			break;
		n += 2;
	}
	CHECK(i < max);
	for (; leave > 1; leave -= 2, i -= 2)
		CHECK(!mprotect(p + (i - 2) * PAGE_SIZE, PAGE_SIZE, PROT_NONE));
	return n;
}

/* The program has used up what a process may have. */
static void no_mapping_left(void)
{
	unsigned int i;

	set_up(64, 1);
	heap_fill_diagonal();
	CHECK(!heap_merge(0, 1));
	use_up_mappings(0);
	for (i = 2; i < 64; i += 2)
		CHECK(heap_merge(i, i + 1) < 0);
	heap_verify();
	for (i = 0; i < 64; i++)
		heap_write(i, i % 16);
	heap_verify();
}

static atomic_bool may_touch, touched;

static void *touch(void *page)
{
	while (!may_touch)
		usleep(1000);
	*(volatile char *)page = 1;
	touched = true;
	return NULL;
}

static bool was_touched(void)
{
	return touched;
}

/*
 * To watch a span in two mappings the second one has to be cut, and cannot be. The first one
 * must not stay watched, then: whoever touches that would wait for ever.
 */
static void half_watched(void)
{
	char *addr;
	pthread_t t;

	set_up(4, 4);
	heap_fill_diagonal();
	CHECK(!heap_merge(0, 3));
	addr = span_at_index(1);
	CHECK(!madvise(addr + PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED));
	CHECK(!madvise(addr + 2 * PAGE_SIZE, 6 * PAGE_SIZE, MADV_DONTDUMP));
	CHECK(!pthread_create(&t, NULL, touch, addr + PAGE_SIZE));
	use_up_mappings(0);
	CHECK(heap_merge(2, 1) < 0);
	may_touch = true;
	CHECK(comes_true(was_touched));
	pthread_join(t, NULL);
	heap_verify();
}

static void write_everywhere(void)
{
	for (unsigned int i = 0; i < heap.nr; i++)
		heap_write(i, i % slots_per_span());
	heap_verify();
}

/* Nobody can be let go after a renewal, so nobody may be watched any more. */
static void forbidden_in_a_renewal(void)
{
	char *addr;
	pthread_t t;

	set_up(4, 1);
	heap_fill_diagonal();
	CHECK(!heap_merge(0, 1));
	addr = span_at_index(0);
	/* in a slot that is not used */
	CHECK(!pthread_create(&t, NULL, touch, addr + PAGE_SIZE - 1));
	heap_write(0, 0);
	CHECK(!heap_renew(0));
	deny_ioctl(UFFDIO_UNREGISTER, EACCES);
	CHECK(heap_renew(0));
	CHECK(backend_memfd.ended());
	may_touch = true;
	CHECK(comes_true(was_touched));
	pthread_join(t, NULL);
	CHECK(!heap_renew(1));
	write_everywhere();
}

static volatile bool also_mremap;

/* The call that was trapped fails, and what the merge needs to go back is forbidden. */
static void forbid_the_rest(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	deny(SYS_ioctl, EPERM);
	if (also_mremap)
		deny(SYS_mremap, EPERM);
	uc->uc_mcontext.gregs[REG_RAX] = -EPERM;
}

static void trap_a_merge(bool mremap_too)
{
	struct sigaction sa = { .sa_sigaction = forbid_the_rest, .sa_flags = SA_SIGINFO };

	set_up(64, 2);
	heap_fill_diagonal();
	CHECK(!heap_merge(2, 3));
	also_mremap = mremap_too;
	CHECK(!sigaction(SIGSYS, &sa, NULL));
	trap_everywhere(SYS_pwrite64);
	/* both have been taken away */
	CHECK(heap_merge(0, 1) < 0);
	CHECK(backend_memfd.ended());
	heap_verify();
	write_everywhere();
	CHECK(heap_merge(4, 5) < 0);
	heap_verify();
}

static void forbidden_in_a_merge(void)
{
	pid_t pid = fork();

	if (!pid) {
		trap_a_merge(true);
		_exit(0);
	}
	join_child(pid);
	trap_a_merge(false);
}

/* Whatever is forbidden: the heap is right. */
static void late_filters(void)
{
	static const unsigned int nrs[] = {
		SYS_ioctl, SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_pread64,
		SYS_pwrite64, SYS_process_vm_readv, SYS_openat, SYS_read, SYS_close,
		SYS_fallocate, SYS_fcntl, SYS_memfd_create, SYS_clock_gettime,
		SYS_clock_nanosleep,
	};
	unsigned int i, j;

	for (i = 0; i < 2 * ARRAY_SIZE(nrs); i++) {
		pid_t pid = fork();

		if (pid) {
			join_child(pid);
			continue;
		}
		set_up(64, 1);
		heap_fill_diagonal();
		for (j = 0; j < 8; j++)
			CHECK(!heap_merge(2 * j, 2 * j + 1));
		deny(nrs[i / 2], i % 2 ? ENOSYS : EPERM);
		for (j = 0; j < 8; j += 2) {
			heap_merge(2 * j, 2 * j + 2);
			heap_write(2 * j, 2 * j);
			heap_renew(2 * j);
			heap_renew(2 * j);
		}
		for (j = 8; j < 32; j++)
			heap_merge(2 * j, 2 * j + 1);
		backend_memfd.tidy();
		heap_verify();
		write_everywhere();
		_exit(0);
	}
}

static long max_map_count(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	long n = 0;

	CHECK(f && fscanf(f, "%ld", &n) == 1);
	fclose(f);
	return n;
}

/* Merges stop before the program is out of mappings, and go on when there are some. */
static void budget(void)
{
	unsigned int i, merged = 0;
	size_t n;

	set_up(512, 1);
	heap_fill_diagonal();
	n = use_up_mappings(max_map_count() / 8 + 900);
	sleep(4);
	backend_memfd.begin_pass();
	CHECK(backend_memfd.frontier());
	for (i = 0; i < 512; i += 2)
		merged += heap_merge(i, i + 1) == 0;
	CHECK(n && merged > 10 && merged < 200);
	CHECK(!backend_memfd.frontier());
	CHECK(mappings() < max_map_count() - max_map_count() / 8);
	heap_verify();
}

static atomic_ulong writes;

/* Slot 0 of spans @w, @w + 4, ... belongs to writer @w; its words count up. */
static void *write_always(void *arg)
{
	unsigned int w = (unsigned int)(long)arg, s;
	uint64_t n[HEAP_SPANS] = { 0 };

	while (!atomic_load(&stop))
		for (s = w; s < heap.nr; s += 4) {
			_Atomic uint64_t *p = (void *)slot_at(s, s % 16);

			CHECK(atomic_load(p) == n[s] && p[31] == n[s]);
			n[s]++;
			p[31] = n[s];
			atomic_store(p, n[s]);
			atomic_fetch_add(&writes, 1);
		}
	return NULL;
}

/* The same, but the kernel writes: read() into the slot. */
static void *read_always(void *arg)
{
	unsigned int w = (unsigned int)(long)arg, s;
	uint64_t n[HEAP_SPANS] = { 0 };
	int p[2];

	CHECK(!pipe(p));
	while (!atomic_load(&stop))
		for (s = w; s < heap.nr; s += 4) {
			uint64_t *slot = (void *)slot_at(s, s % 16);

			CHECK(*slot == n[s]);
			n[s]++;
			CHECK(write(p[1], &n[s], 8) == 8);
			CHECK(read(p[0], slot, 8) == 8);
			atomic_fetch_add(&writes, 1);
		}
	return NULL;
}

static bool emulated(void)
{
	const char *vm = getenv("MESH_IN_VM");

	return vm && !strcmp(vm, "tcg");
}

/* On an emulated processor a round takes many times as long. */
static unsigned int nr_rounds(void)
{
	return emulated() ? 2 : 24;
}

/* Threads write to every span, in both ways, while all are merged. */
static void writers_wait(void)
{
	unsigned int i, step, merged = 0;
	pthread_t t[4];
	long w;

	set_up(emulated() ? 64 : HEAP_SPANS, 1);
	memset(slot_at(0, 0), 0, heap.nr * PAGE_SIZE);
	for (i = 0; i < heap.nr; i++)
		heap_mark(i, i % 16);
	for (w = 0; w < 4; w++)
		CHECK(!pthread_create(&t[w], NULL, w % 2 ? read_always : write_always,
				      (void *)w));
	while (atomic_load(&writes) < 2000)
		usleep(1000);
	for (step = 1; step < 16; step *= 2)
		for (i = 0; i < heap.nr; i += 2 * step)
			merged += heap_merge(i, i + step) == 0;
	atomic_store(&stop, true);
	for (w = 0; w < 4; w++)
		pthread_join(t[w], NULL);
	CHECK(merged >= heap.nr / 2);
}

static atomic_uint target;

/* How long the target is worked on when nobody writes to it. */
static uint64_t work_ns;

/* Write once to each target: half of the time at any moment of the work, half after it. */
static void *write_to_target(void *unused)
{
	unsigned int seen = 0, span;

	while ((span = atomic_load(&target)) != UINT32_MAX) {
		uint64_t when = os_now_ns() + test_random() % (2 * work_ns);

		if (span == seen)
			continue;
		seen = span;
		while (os_now_ns() < when)
			;
		heap_write(span, span % 16);
	}
	return unused;
}

/* On a busy machine one of the two may win for a while: go on until both have been seen to. */
static bool want_round(unsigned int round, bool both_seen)
{
	return round < nr_rounds() || (!both_seen && round < 20 * nr_rounds());
}

/* Writes to a group that is on its way to another place. */
static void groups_under_writers(void)
{
	unsigned int i, round, merged = 0, refused = 0;
	pthread_t t;

	set_up(HEAP_SPANS, 1);
	for (round = 0; want_round(round, merged && refused); round++) {
		heap_fill_diagonal();
		work_ns = os_now_ns();
		for (i = 0; i < heap.nr; i += 2)
			CHECK(!heap_merge(i, i + 1));
		work_ns = (os_now_ns() - work_ns) / (heap.nr / 2);
		atomic_store(&target, 0);
		CHECK(!pthread_create(&t, NULL, write_to_target, NULL));
		for (i = 0; i < heap.nr; i += 4) {
			atomic_store(&target, i + 1);
			if (heap_merge(i, i + 2))
				refused++;
			else
				merged++;
		}
		atomic_store(&target, UINT32_MAX);
		pthread_join(t, NULL);
		heap_verify();
		for (i = 0; i < heap.nr; i++)
			CHECK(!heap_kill(i));
		backend_memfd.tidy();
	}
	CHECK(merged && refused);
}

static void write_and_look(void)
{
	unsigned int i;

	for (i = 1; i < heap.nr; i += 2) {
		heap_write(i, i % 16);
		CHECK(!heap_renew(i));
	}
}

/* The same while it is merged anew. */
static void renewals_under_writers(void)
{
	unsigned int i, round, renewed = 0, refused = 0;
	pthread_t t;

	set_up(HEAP_SPANS, 1);
	heap_fill_diagonal();
	for (i = 0; i < heap.nr; i += 2)
		CHECK(!heap_merge(i, i + 1));
	for (round = 0; want_round(round, renewed && refused); round++) {
		write_and_look();
		work_ns = os_now_ns();
		for (i = 1; i < heap.nr; i += 2)
			CHECK(heap_renew(i));
		work_ns = (os_now_ns() - work_ns) / (heap.nr / 2);
		write_and_look();
		atomic_store(&target, 0);
		CHECK(!pthread_create(&t, NULL, write_to_target, NULL));
		for (i = 1; i < heap.nr; i += 2) {
			atomic_store(&target, i);
			if (heap_renew(i))
				renewed++;
			else
				refused++;
		}
		atomic_store(&target, UINT32_MAX);
		pthread_join(t, NULL);
		heap_verify();
	}
	CHECK(renewed && refused);
}

/* May somebody without privileges use userfaultfd for faults of system calls? */
static const char *everybody_may(void)
{
	FILE *f = fopen("/proc/sys/vm/unprivileged_userfaultfd", "r");
	int c = f ? fgetc(f) : '0';
	bool usable, root = !geteuid();

	if (f)
		fclose(f);
	if (c != '0')
		return "unprivileged_userfaultfd is set";
	CHECK(!root || !seteuid(65534));
	usable = !faccessat(AT_FDCWD, "/dev/userfaultfd", R_OK | W_OK, AT_EACCESS);
	CHECK(!root || !seteuid(0));
	return usable ? "everybody may use /dev/userfaultfd" : NULL;
}

/* Who may not have faults of system calls served must not merge. */
static void unprivileged(void)
{
	const char *reason = everybody_may();
	pid_t pid;

	if (reason)
		SKIP("%s", reason);
	pid = geteuid() ? 0 : fork();
	if (pid) {
		join_child(pid);
		return;
	}
	if (!geteuid())
		CHECK(!setresuid(65534, 65534, 65534));
	options.verbose = 1;
	CHECK(backend_memfd.mesh_open() == -EPERM);
	_exit(0);
}

static void limit_files(rlim_t size)
{
	struct rlimit r;

	CHECK(!getrlimit(RLIMIT_FSIZE, &r));
	r.rlim_cur = size;
	CHECK(!setrlimit(RLIMIT_FSIZE, &r));
}

/* Files have the length of the arena: where they must not, nothing is merged, which is said. */
static void short_files_only(void)
{
	signal(SIGXFSZ, SIG_IGN);
	set_up(8, 1);
	heap_fill_diagonal();
	limit_files(0);
	CHECK(heap_merge(0, 1) == -EFBIG);
	heap_verify();
	backend_memfd.mesh_close();
	CHECK(backend_memfd.mesh_open() == -EFBIG);
	limit_files(1 << 30);
	CHECK(backend_memfd.mesh_open() == -EFBIG);
}

static struct witness late_child;

/*
 * What fallocate() was called for. The first time somebody forks, and then the last views of
 * another slot go.
 */
static void fork_and_punch(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *r = uc->uc_mcontext.gregs;
	void *p;

	(void)sig;
	(void)info;
	if (!late_child.pid) {
		late_child = start_witness();
		CHECK(!heap_kill(40) && !heap_kill(41));
	}
	p = mmap(NULL, r[REG_R10], PROT_READ | PROT_WRITE, MAP_SHARED, r[REG_RDI], r[REG_RDX]);
	CHECK(p != MAP_FAILED);
	CHECK(!madvise(p, r[REG_R10], MADV_REMOVE));
	CHECK(!munmap(p, r[REG_R10]));
	r[REG_RAX] = 0;
}

/* Slots are given back one after the other; who is forked meanwhile may see the next one. */
static void fork_while_tidying(void)
{
	struct sigaction sa = { .sa_sigaction = fork_and_punch, .sa_flags = SA_SIGINFO };

	set_up(64, 1);
	heap_fill_diagonal();
	CHECK(!heap_merge(0, 1) && !heap_merge(40, 41));
	CHECK(!heap_kill(0) && !heap_kill(1));
	CHECK(!sigaction(SIGSYS, &sa, NULL));
	trap_everywhere(SYS_fallocate);
	backend_memfd.tidy();
	CHECK(late_child.pid);
	end_witness(&late_child);
	CHECK(file_kib() == 4);
	backend_memfd.tidy();
	CHECK(file_kib() == 0);
	heap_verify();
}

/* Other locks are taken under the mesh lock only, all that some forks wait for: lock.c looks. */
static void tidying_keeps_forks_out(void)
{
	set_up(4, 1);
	heap_fill_diagonal();
	CHECK(!heap_merge(0, 1));
	CHECK(!heap_kill(0) && !heap_kill(1));
	lock_only_in_mesh(true);
	backend_memfd.tidy();
	CHECK(file_kib() == 0);
}

static const struct test_case cases[] = {
	{ "two_share_a_page", two_share_a_page },
	{ "groups_grow", groups_grow },
	{ "spans_of_several_pages", spans_of_several_pages },
	{ "writes_end_a_merge", writes_end_a_merge },
	{ "written_spans_are_renewed", written_spans_are_renewed },
	{ "renewals_are_careful", renewals_are_careful },
	{ "dead_spans_leave", dead_spans_leave },
	{ "random_operations", random_operations },
	{ "registered_buffers", registered_buffers },
	{ "direct_reads", direct_reads },
	{ "pipes_keep_their_contents", pipes_keep_their_contents },
	{ "locked_and_protected", locked_and_protected },
	{ "locked_all", locked_all },
	{ "snapshot_by_fork", snapshot_by_fork },
	{ "snapshot_by_clone", snapshot_by_clone },
	{ "children_keep_files", children_keep_files },
	{ "slots_freed_after_fork", slots_freed_after_fork },
	{ "shared_with_a_child", shared_with_a_child },
	{ "children_merge", children_merge },
	{ "no_mapping_left", no_mapping_left },
	{ "half_watched", half_watched },
	{ "forbidden_in_a_renewal", forbidden_in_a_renewal },
	{ "forbidden_in_a_merge", forbidden_in_a_merge },
	{ "late_filters", late_filters },
	{ "budget", budget },
	{ "writers_wait", writers_wait },
	{ "groups_under_writers", groups_under_writers },
	{ "renewals_under_writers", renewals_under_writers },
	{ "unprivileged", unprivileged },
	{ "short_files_only", short_files_only },
	{ "fork_while_tidying", fork_while_tidying },
	{ "tidying_keeps_forks_out", tidying_keeps_forks_out },
};

TEST_MAIN(cases)
