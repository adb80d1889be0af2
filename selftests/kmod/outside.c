// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Another process looks at an arena and writes to it while it is being merged: a
 * debugger, a checkpoint, a core dump.
 *
 * The owner has a thread that merges in rounds. Slots 1 to 3 of every source page are
 * the observer's, slot 4 keeps what the owner wrote there at first.
 */
#include "arena.h"

#include <elf.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

/* Few pages, many times: observer and merge shall meet. */
#define PAIRS	16
#define ROUNDS	100
#define SLOT	512
#define OWNERS	4
#define CORE	"/tmp/mesh-core"

/**
 * struct control - shared by owner and observer
 * @base: the owner's arena
 * @round: that the owner may go on with
 * @ready: round whose pages are filled in
 * @done: round whose pairs are all merged
 */
struct control {
	char *_Atomic base;
	atomic_uint round;
	atomic_uint ready;
	atomic_uint done;
};

FIXTURE(outside) {
	struct control *control;
	uint32_t mode;
	pid_t owner;
	char *base;
};

FIXTURE_VARIANT(outside) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(outside, zap) {
	.mode = MESHHELPER_MERGE_ZAP,
};

FIXTURE_VARIANT_ADD(outside, armed) {
	.mode = MESHHELPER_MERGE_ARMED,
};

static char owners_byte(unsigned int pair)
{
	return 'a' + pair % 26;
}

/* Owner: makes all sources pages of their own, with known contents. */
static void refill(struct arena *a)
{
	unsigned int i;

	for (i = 0; i < PAIRS; i++) {
		if (madvise(page_at(a, 2 * i + 1), PAGE, MADV_REMOVE))
			die("MADV_REMOVE");
		memset(page_at(a, 2 * i), 't', PAGE);
		memset(page_at(a, 2 * i + 1), 0, OWNERS * SLOT);
		memset(page_at(a, 2 * i + 1) + OWNERS * SLOT, owners_byte(i), SLOT);
	}
}

static void merge_round(struct arena *a)
{
	unsigned int i, merged;

	for (merged = 0; merged < PAIRS; )
		for (i = merged = 0; i < PAIRS; i++) {
			struct meshhelper_pair pair = make_pair(page_at(a, 2 * i + 1),
								page_at(a, 2 * i), SLOT);

			pair.live[0] = 0x1e;
			merge(a, &pair, 1);
			merged += pair.result == 0 || pair.result == -EEXIST;
		}
}

static struct arena owned;

static void *own(void *arg)
{
	struct control *control = arg;
	unsigned int round;

	for (round = 1;; round++) {
		while (control->round < round)
			usleep(100);
		refill(&owned);
		control->ready = round;
		merge_round(&owned);
		control->done = round;
	}
	return NULL;
}

static void owner_main(struct control *control, uint32_t mode)
{
	pthread_t thread;

	owned = arena_open(2 * PAIRS, mode);
	memset(owned.base, 't', 2 * PAIRS * PAGE);
	if (pthread_create(&thread, NULL, own, control))
		die("pthread_create");
	control->base = owned.base;
	for (;;)
		pause();
}

FIXTURE_SETUP(outside)
{
	if (!mode_supported(variant->mode))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	self->control = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			     0);
	ASSERT_NE(MAP_FAILED, self->control);
	self->owner = fork();
	if (!self->owner)
		owner_main(self->control, variant->mode);
	while (!self->control->base)
		usleep(1000);
	self->base = self->control->base;
}

FIXTURE_TEARDOWN(outside)
{
	if (self->owner > 0) {
		kill(self->owner, SIGKILL);
		waitpid(self->owner, NULL, 0);
	}
}

static void wait_for(atomic_uint *word, unsigned int value)
{
	while (*word < value)
		usleep(100);
}

/* Ways to write to another process, and to read it back; each has a slot. */
enum { BY_PTRACE = 1, BY_VM, BY_MEM };

/**
 * struct observer - what writes from outside
 * @pid: owner; its first thread is stopped by ptrace
 * @mem: its /proc/PID/mem
 * @last: by way and pair: the word written last, 0 if none yet
 * @word: in a page of its own, of shared memory
 * @failures: calls that failed, and words that were not there
 */
struct observer {
	pid_t pid;
	int mem;
	uint64_t last[BY_MEM + 1][PAIRS];
	uint64_t *word;
	unsigned long failures;
};

/* The page of the other process is pinned while there is a page fault for @word here. */
static ssize_t vm_copy(struct observer *o, bool write, uint64_t *word, char *at)
{
	struct iovec local = { word, sizeof(*word) }, remote = { at, sizeof(*word) };

	madvise(word, PAGE, MADV_DONTNEED);
	return write ? process_vm_writev(o->pid, &local, 1, &remote, 1, 0) :
		       process_vm_readv(o->pid, &local, 1, &remote, 1, 0);
}

static void put_word(struct observer *o, int way, char *at, uint64_t word)
{
	ssize_t done = -1;

	switch (way) {
	case BY_PTRACE:
		done = ptrace(PTRACE_POKEDATA, o->pid, at, word) ? -1 : (ssize_t)sizeof(word);
		break;
	case BY_VM:
		*o->word = word;
		done = vm_copy(o, true, o->word, at);
		break;
	case BY_MEM:
		done = pwrite(o->mem, &word, sizeof(word), (off_t)(uintptr_t)at);
		break;
	}
	o->failures += done != sizeof(word);
}

static uint64_t get_word(struct observer *o, int way, char *at)
{
	ssize_t done = sizeof(uint64_t);
	uint64_t word = 0;

	switch (way) {
	case BY_PTRACE:
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, o->pid, at, NULL);
		done = errno ? -1 : done;
		break;
	case BY_VM:
		done = vm_copy(o, false, o->word, at);
		word = *o->word;
		break;
	case BY_MEM:
		done = pread(o->mem, &word, sizeof(word), (off_t)(uintptr_t)at);
		break;
	}
	o->failures += done != sizeof(word);
	return word;
}

static char *word_of(char *base, int way, unsigned int pair)
{
	return base + (2 * pair + 1) * PAGE + way * SLOT + 8 * (pair % 8);
}

static void write_some(struct observer *o, char *base, uint64_t *random)
{
	uint64_t r = next_random(random);
	unsigned int pair = r % PAIRS;
	int way = 1 + (r >> 20) % BY_MEM;

	put_word(o, way, word_of(base, way, pair), r);
	o->last[way][pair] = r;
	pair = (r >> 32) % PAIRS;
	way = 1 + (r >> 50) % BY_MEM;
	o->failures += get_word(o, way, word_of(base, way, pair)) != o->last[way][pair];
}

/* Each word is read in another way than it was written. */
static void check_all(struct observer *o, char *base)
{
	unsigned int pair;
	int way;

	for (way = BY_PTRACE; way <= BY_MEM; way++)
		for (pair = 0; pair < PAIRS; pair++)
			o->failures += get_word(o, 1 + way % BY_MEM, word_of(base, way, pair)) !=
				       o->last[way][pair];
}

static bool observer_start(struct observer *o, pid_t pid)
{
	char path[64];
	int status;

	*o = (struct observer) { .pid = pid };
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	o->mem = open(path, O_RDWR | O_CLOEXEC);
	o->word = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (o->word == MAP_FAILED)
		die("mmap");
	/* One thread stops; the one that merges goes on. */
	return o->mem >= 0 && !ptrace(PTRACE_SEIZE, pid, 0, 0) &&
	       !ptrace(PTRACE_INTERRUPT, pid, 0, 0) && waitpid(pid, &status, 0) == pid;
}

TEST_F_TIMEOUT(outside, written_during_merges, 120)
{
	struct observer *o = malloc(sizeof(*o));
	long long merged = counter("merges_total");
	unsigned long during = 0;
	uint64_t random = 5;
	unsigned int round;

	ASSERT_TRUE(observer_start(o, self->owner));
	for (round = 1; round <= ROUNDS; round++) {
		self->control->round = round;
		wait_for(&self->control->ready, round);
		memset(o->last, 0, sizeof(o->last));
		while (self->control->done < round) {
			write_some(o, self->base, &random);
			during++;
		}
		check_all(o, self->base);
	}
	merged = counter("merges_total") - merged;
	TH_LOG("%lld merged, %lu writes meanwhile, %lu failed or lost", merged, during,
	       o->failures);
	EXPECT_EQ(0, o->failures);
	EXPECT_LT(50, during);
	EXPECT_EQ(PAIRS * ROUNDS, merged);
	free(o);
}

/* The slots that the owner has written itself, in a copy of all of the arena. */
static unsigned int count_wrong(const char *copy)
{
	unsigned int i, wrong = 0;

	for (i = 0; i < PAIRS; i++) {
		const char *pair = copy + 2 * i * PAGE;

		wrong += !all_bytes(pair + PAGE + OWNERS * SLOT, SLOT, owners_byte(i)) +
			 !all_bytes(pair + 5 * SLOT, SLOT, 't');
	}
	return wrong;
}

/* What a checkpoint does: which pages are there, and what is in them; at any time. */
TEST_F_TIMEOUT(outside, read_during_merges, 120)
{
	struct iovec local = { malloc(2 * PAIRS * PAGE), 2 * PAIRS * PAGE };
	struct iovec remote = { self->base, 2 * PAIRS * PAGE };
	uint64_t entry[2 * PAIRS], file_bit = 1ULL << 61;
	unsigned int round, i, present = 0, wrong = 0, reads = 0;
	char path[64];
	int pagemap;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", self->owner);
	pagemap = open(path, O_RDONLY);
	ASSERT_LE(0, pagemap);
	for (round = 1; round <= ROUNDS; round++) {
		self->control->round = round;
		wait_for(&self->control->ready, round);
		do {
			ASSERT_EQ(local.iov_len,
				  process_vm_readv(self->owner, &local, 1, &remote, 1, 0));
			wrong += count_wrong(local.iov_base);
			ASSERT_EQ(sizeof(entry), pread(pagemap, entry, sizeof(entry),
						       (uintptr_t)self->base / PAGE * 8));
			reads++;
		} while (self->control->done < round);
	}
	/* All is merged: every page is there by now, as file memory, in pairs. */
	ASSERT_EQ(local.iov_len, process_vm_readv(self->owner, &local, 1, &remote, 1, 0));
	wrong += count_wrong(local.iov_base);
	ASSERT_EQ(sizeof(entry), pread(pagemap, entry, sizeof(entry),
				       (uintptr_t)self->base / PAGE * 8));
	for (i = 0; i < 2 * PAIRS; i++)
		present += entry[i] >> 63 && entry[i] & file_bit;
	for (i = 0; i < PAIRS; i++)
		EXPECT_EQ(0, (entry[2 * i] ^ entry[2 * i + 1]) & ((1ULL << 55) - 1));
	TH_LOG("%u times, %u wrong", reads, wrong);
	EXPECT_EQ(2 * PAIRS, present);
	EXPECT_EQ(0, wrong);
	close(pagemap);
}

/* The bytes at @addr in the core file; NULL if they are not in it. */
static const char *core_find(const char *core, size_t len, const char *addr, size_t want)
{
	const Elf64_Ehdr *elf = (const void *)core;
	const Elf64_Phdr *ph = (const void *)(core + elf->e_phoff);
	unsigned int i;

	for (i = 0; i < elf->e_phnum; i++) {
		uint64_t skip = (uintptr_t)addr - ph[i].p_vaddr;

		if (ph[i].p_type == PT_LOAD && (uintptr_t)addr >= ph[i].p_vaddr &&
		    skip + want <= ph[i].p_filesz && ph[i].p_offset + skip + want <= len)
			return core + ph[i].p_offset + skip;
	}
	return NULL;
}

static void set_core_pattern(const char *pattern)
{
	int fd = open("/proc/sys/kernel/core_pattern", O_WRONLY);

	if (fd < 0 || write(fd, pattern, strlen(pattern)) < 0)
		die("core_pattern");
	close(fd);
}

/* The owner crashes in the middle of a round. */
TEST_F_TIMEOUT(outside, core_dump, 120)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	const char *core, *heap;
	char old[128] = "";
	int fd, status;
	off_t len;

	fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
	ASSERT_LT(0, read(fd, old, sizeof(old) - 1));
	close(fd);
	unlink(CORE);
	set_core_pattern(CORE);
	ASSERT_EQ(0, prlimit(self->owner, RLIMIT_CORE, &unlimited, NULL));
	self->control->round = 1;
	wait_for(&self->control->ready, 1);
	usleep(5000);
	ASSERT_EQ(0, kill(self->owner, SIGABRT));
	ASSERT_EQ(self->owner, waitpid(self->owner, &status, 0));
	self->owner = 0;
	set_core_pattern(old);
	EXPECT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status));

	fd = open(CORE, O_RDONLY);
	ASSERT_LE(0, fd);
	len = lseek(fd, 0, SEEK_END);
	core = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, core);
	heap = core_find(core, len, self->base, 2 * PAIRS * PAGE);
	ASSERT_NE(NULL, heap);
	EXPECT_EQ(0, count_wrong(heap));
	unlink(CORE);
}

TEST_HARNESS_MAIN
