// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What the module tells about itself: its counters, the fdinfo of its descriptors and its
 * tracepoints. They must agree with page frames, smaps and the cgroup, and with each other.
 */
#include "arena.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define PAGES		64
#define SLOT		512
#define ABORTS		"merge_aborts_"
#define TRACING		"/sys/kernel/tracing/"
#define CGROUP		"/sys/fs/cgroup/mesh-stats"
#define MAX_COUNTERS	64

/* All counters at one time, by name; missing ones were added to the module since. */
struct counters {
	unsigned int nr;
	struct {
		char name[64];
		long long value;
	} c[MAX_COUNTERS];
};

static bool is_counter(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return !strcmp(entry->d_name, "arenas") || !strcmp(entry->d_name, "layers") ||
	       !strcmp(entry->d_name, "snapshots") || !strcmp(entry->d_name, "pages_meshed") ||
	       !strcmp(entry->d_name, "pss_bytes_saved") ||
	       (len > 6 && !strcmp(entry->d_name + len - 6, "_total"));
}

static struct counters read_counters(void)
{
	struct counters all = { 0 };
	DIR *dir = opendir(COUNTERS);
	struct dirent *entry;

	if (!dir)
		die(COUNTERS);
	while ((entry = readdir(dir)) && all.nr < MAX_COUNTERS) {
		if (!is_counter(entry))
			continue;
		snprintf(all.c[all.nr].name, sizeof(all.c[0].name), "%.63s", entry->d_name);
		all.c[all.nr++].value = counter(entry->d_name);
	}
	closedir(dir);
	return all;
}

static long long value(const struct counters *all, const char *name)
{
	unsigned int i;

	for (i = 0; i < all->nr; i++)
		if (!strcmp(all->c[i].name, name))
			return all->c[i].value;
	die(name);
	return 0;
}

/* How much a counter has grown since. */
static long long growth(const struct counters *since, const char *name)
{
	return counter(name) - value(since, name);
}

static long long sum_of(const struct counters *all, const char *prefix)
{
	long long sum = 0;
	unsigned int i;

	for (i = 0; i < all->nr; i++)
		if (!strncmp(all->c[i].name, prefix, strlen(prefix)))
			sum += all->c[i].value;
	return sum;
}

/* What must be true of any set of counters when nothing is going on. */
static bool reconciled(const struct counters *all)
{
	return value(all, "pairs_total") == value(all, "merges_total") + sum_of(all, ABORTS) &&
	       value(all, "layers") == value(all, "arenas") + value(all, "snapshots") &&
	       value(all, "pss_bytes_saved") == value(all, "pages_meshed") * (long long)PAGE;
}

static bool exited_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

FIXTURE(stats) {
	struct arena a;
	struct counters before;
	struct setting overcommit;
	struct setting limit;
};

FIXTURE_SETUP(stats)
{
	self->before = read_counters();
	self->a = arena_open(PAGES, MESHHELPER_MERGE_ZAP);
	memset(self->a.base, 's', PAGES * PAGE);
}

/* Nothing stays behind, whatever a test has done. */
FIXTURE_TEARDOWN(stats)
{
	static const char *const gauges[] = { "arenas", "layers", "snapshots", "pages_meshed" };
	struct counters after;
	unsigned int i;

	EXPECT_TRUE(restore_setting(&self->overcommit));
	EXPECT_TRUE(restore_setting(&self->limit));
	arena_close(&self->a);
	after = read_counters();
	EXPECT_TRUE(reconciled(&after));
	for (i = 0; i < sizeof(gauges) / sizeof(*gauges); i++)
		EXPECT_EQ(value(&self->before, gauges[i]), value(&after, gauges[i]));
}

/*
 * Reasons for leaving a pair alone: each moves its own counter by one and no other. What
 * cannot be made to happen is a large folio in a store (opnotsupp), for there are none.
 */

static int request_one(struct arena *a, struct meshhelper_pair *pair, uint32_t mode)
{
	struct meshhelper_batch batch;

	if (request(a, MESHHELPER_IOC_MERGE, mode, pair, 1, &batch))
		die("MESHHELPER_IOC_MERGE");
	return pair->result;
}

static void compare_aborts(struct __test_metadata *_metadata, const struct counters *before,
			   const char *reason, long long by)
{
	struct counters after = read_counters();
	char own[80];
	unsigned int i;

	snprintf(own, sizeof(own), ABORTS "%s_total", reason);
	EXPECT_TRUE(reconciled(&after));
	EXPECT_EQ(value(before, own) + by, value(&after, own));
	for (i = 0; i < after.nr; i++)
		if (!strncmp(after.c[i].name, ABORTS, strlen(ABORTS)) &&
		    strcmp(after.c[i].name, own))
			EXPECT_EQ(before->c[i].value, after.c[i].value)
				TH_LOG("%s has moved", after.c[i].name);
	EXPECT_EQ(value(before, "merges_total"), value(&after, "merges_total"));
	EXPECT_EQ(value(before, "pages_merged_total"), value(&after, "pages_merged_total"));
	EXPECT_EQ(value(before, "pages_meshed"), value(&after, "pages_meshed"));
}

static void abort_in_mode(struct __test_metadata *_metadata, struct arena *a,
			  struct meshhelper_pair *pair, uint32_t mode, const char *reason,
			  int error)
{
	struct counters before = read_counters();

	EXPECT_EQ(-error, request_one(a, pair, mode)) TH_LOG("expected: %s", reason);
	compare_aborts(_metadata, &before, reason, 1);
}

#define EXPECT_ABORT(reason, error) \
	abort_in_mode(_metadata, &self->a, &pair, MESHHELPER_MERGE_ZAP, reason, error)

TEST_F(stats, abort_by_request)
{
	struct arena other = arena_open(1, MESHHELPER_MERGE_ZAP), *a = &self->a;
	struct meshhelper_pair pair = make_pair(page_at(a, 0), page_at(a, 1), SLOT);

	pair.slot_size = 0;
	EXPECT_ABORT("inval", EINVAL);
	pair = make_pair(page_at(a, 0), NULL, SLOT);
	EXPECT_ABORT("fault", EFAULT);
	touch(other.base);
	pair = make_pair(page_at(a, 0), other.base, SLOT);
	EXPECT_ABORT("xdev", EXDEV);
	arena_close(&other);
	pair = make_pair(page_at(a, 0), page_at(a, 1), SLOT);
	abort_in_mode(_metadata, a, &pair, MESHHELPER_MERGE_ARMED, "again", EAGAIN);
	ASSERT_EQ(0, merge_one(a, &pair));
	EXPECT_ABORT("exist", EEXIST);
	ASSERT_EQ(0, madvise(page_at(a, 2), PAGE, MADV_REMOVE));
	pair = make_pair(page_at(a, 2), page_at(a, 3), SLOT);
	EXPECT_ABORT("noent", ENOENT);
}

TEST_F(stats, abort_locked_memory)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 0), page_at(&self->a, 1), SLOT);

	ASSERT_EQ(0, mlock(self->a.base, PAGE));
	EXPECT_ABORT("perm", EPERM);
}

TEST_F(stats, abort_in_use)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 0), page_at(&self->a, 1), SLOT);
	struct iovec iov = { page_at(&self->a, 0), PAGE };
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, 0));
	EXPECT_ABORT("busy", EBUSY);
	close(fds[0]);
	close(fds[1]);
}

TEST_F(stats, abort_shared)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 0), page_at(&self->a, 1), SLOT);
	int fds[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	if (!pid) {
		close(fds[1]);
		_exit(read(fds[0], &c, 1));
	}
	EXPECT_ABORT("shared", EUSERS);
	close(fds[0]);
	close(fds[1]);
	EXPECT_TRUE(exited_well(pid));
	EXPECT_EQ(0, merge_one(&self->a, &pair));
}

TEST_F(stats, abort_many)
{
	struct arena wide = arena_open(80, MESHHELPER_MERGE_ZAP);
	struct meshhelper_pair pair;
	unsigned int i;

	memset(wide.base, 'w', 80 * PAGE);
	for (i = 1; i < 64; i++) {
		pair = make_pair(page_at(&wide, i), page_at(&wide, 0), SLOT);
		ASSERT_EQ(0, merge_one(&wide, &pair));
	}
	pair = make_pair(page_at(&wide, 64), page_at(&wide, 0), SLOT);
	abort_in_mode(_metadata, &wide, &pair, MESHHELPER_MERGE_ZAP, "mlink", EMLINK);
	arena_close(&wide);
}

/* More is committed than there may be, so shmem gets no page. */
TEST_F(stats, abort_no_memory)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 0), page_at(&self->a, 2), SLOT);
	size_t size = 1UL << 30;
	void *commit;

	pair.pages = 2;
	ASSERT_EQ(0, madvise(page_at(&self->a, 1), PAGE, MADV_REMOVE));
	commit = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, commit);
	ASSERT_TRUE(save_commit_limit(&self->limit));
	ASSERT_TRUE(save_setting(&self->overcommit, OVERCOMMIT "memory"));
	ASSERT_TRUE(write_text(OVERCOMMIT "kbytes", "4"));
	ASSERT_TRUE(write_text(OVERCOMMIT "memory", "2"));
	EXPECT_ABORT("nomem", ENOMEM);
	EXPECT_TRUE(restore_setting(&self->overcommit));
	EXPECT_TRUE(restore_setting(&self->limit));
	munmap(commit, size);
	EXPECT_EQ(0, request_one(&self->a, &pair, MESHHELPER_MERGE_ZAP));
}

/* A page that was lost to a memory error cannot be read. */
TEST_F(stats, abort_lost_page)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 0), page_at(&self->a, 1), SLOT);

	signal(SIGBUS, survive);
	if (madvise(page_at(&self->a, 1), PAGE, MADV_HWPOISON) && errno == EINVAL)
		SKIP(return, "the kernel does not handle memory errors");
	EXPECT_ABORT("io", EIO);
}

/* Killed in the middle of a batch; of nothing else that went on is anything known. */
TEST_F(stats, abort_killed)
{
	struct counters before = read_counters(), after;
	static struct meshhelper_pair pairs[MESHHELPER_MAX_PAIRS];
	unsigned int i, tries = 50;
	pid_t pid;

	for (i = 0; i < MESHHELPER_MAX_PAIRS; i++)
		pairs[i] = make_pair(page_at(&self->a, 0), page_at(&self->a, 0), SLOT);
	while (!growth(&before, ABORTS "intr_total") && tries--) {
		pid = fork();
		if (!pid)
			for (;;)
				merge(&self->a, pairs, MESHHELPER_MAX_PAIRS);
		usleep(20000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	after = read_counters();
	EXPECT_LT(0, growth(&before, ABORTS "intr_total"));
	EXPECT_TRUE(reconciled(&after));
}

/*
 * One process: counters, fdinfo, page frames and smaps.
 */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Every page is touched; how many frames there are, and how many with several addresses. */
static unsigned int count_frames(struct arena *a, unsigned int *shared)
{
	uint64_t frames[PAGES];
	unsigned int i, nr = 0;

	*shared = 0;
	for (i = 0; i < PAGES; i++) {
		touch(page_at(a, i));
		frames[i] = pfn_of(page_at(a, i));
		if (!frames[i])
			die("a page that was touched has no frame");
	}
	qsort(frames, PAGES, sizeof(*frames), compare_u64);
	for (i = 0; i < PAGES; i++) {
		if (!i || frames[i] != frames[i - 1])
			nr++;
		else if (i == 1 || frames[i] != frames[i - 2])
			++*shared;
	}
	return nr;
}

/* What a test has asked for so far. */
struct asked {
	long long pairs;
	long long merged;
	long long pages;
	long long saved;
	long long removed;
};

/* A random pair; whatever comes of it. Every page exists, so each merge saves all its pages. */
static void random_merge(struct arena *a, struct asked *asked, uint64_t *seed)
{
	unsigned int pages = next_random(seed) % 4 ? 1 : 1 + next_random(seed) % 4;
	unsigned int src = next_random(seed) % (PAGES - pages + 1);
	unsigned int dst = next_random(seed) % (PAGES - pages + 1);
	struct meshhelper_pair pair = make_pair(page_at(a, src), page_at(a, dst), SLOT);
	struct meshhelper_batch batch;

	pair.pages = pages;
	if (request(a, MESHHELPER_IOC_MERGE, a->mode, &pair, 1, &batch))
		die("MESHHELPER_IOC_MERGE");
	asked->pairs++;
	asked->merged += !pair.result;
	asked->pages += pair.result ? 0 : pages;
	asked->saved += batch.pss_saved;
}

static void random_remove(struct arena *a, struct asked *asked, uint64_t *seed)
{
	unsigned int pages = 1 + next_random(seed) % 3, shared;
	unsigned int first = next_random(seed) % (PAGES - pages + 1);
	unsigned int before = count_frames(a, &shared), i;

	if (madvise(page_at(a, first), pages * PAGE, MADV_REMOVE))
		die("MADV_REMOVE");
	asked->removed += before - fdinfo_value(a, "mesh-resident") / 4;
	for (i = first; i < first + pages; i++)
		page_at(a, i)[0] = 'r';
}

static void compare_all(struct __test_metadata *_metadata, struct arena *a,
			const struct counters *before, const struct asked *asked)
{
	unsigned int shared, frames = count_frames(a, &shared);
	struct counters now = read_counters();
	long long pss = smaps_kb(a, "Pss:");

	EXPECT_TRUE(reconciled(&now));
	EXPECT_EQ(PAGES - frames, growth(before, "pages_meshed"));
	EXPECT_EQ(asked->pairs, growth(before, "pairs_total"));
	EXPECT_EQ(asked->merged, growth(before, "merges_total"));
	EXPECT_EQ(asked->pages, growth(before, "pages_merged_total"));
	EXPECT_EQ(asked->saved, asked->pages * (long long)PAGE);
	EXPECT_EQ(asked->removed, growth(before, "pages_removed_total"));

	EXPECT_EQ(frames * 4, fdinfo_value(a, "mesh-resident"));
	EXPECT_EQ(0, fdinfo_value(a, "mesh-swapped"));
	EXPECT_EQ((PAGES - frames) * 4, fdinfo_value(a, "mesh-saved"));
	EXPECT_EQ(PAGES - frames, fdinfo_value(a, "mesh-spares"));
	EXPECT_EQ(shared, fdinfo_value(a, "mesh-groups"));
	EXPECT_EQ(asked->pages, fdinfo_value(a, "mesh-merged-total"));
	EXPECT_EQ(1, fdinfo_value(a, "mesh-layers"));

	/* smaps divides each page by its users and cuts the sum, so it may lack a bit. */
	EXPECT_EQ(growth(before, "pss_bytes_saved"),
		  (long long)((PAGES - (pss + 3) / 4) * PAGE));
}

TEST_F(stats, sums_of_one_process)
{
	struct counters before = read_counters();
	struct asked asked = { 0 };
	uint64_t seed = 20261125;
	unsigned int i;

	for (i = 1; i <= 400; i++) {
		if (next_random(&seed) % 5)
			random_merge(&self->a, &asked, &seed);
		else
			random_remove(&self->a, &asked, &seed);
		if (i % 50 == 0)
			compare_all(_metadata, &self->a, &before, &asked);
	}
	/* Enough of everything happened. */
	EXPECT_LT(50, asked.merged);
	EXPECT_LT(asked.merged, asked.pairs);
	EXPECT_LT(asked.merged, asked.pages);
	EXPECT_LT(30, asked.removed);
	EXPECT_LT(10, growth(&before, "pages_meshed"));
	EXPECT_EQ(0, madvise(self->a.base, PAGES * PAGE, MADV_REMOVE));
	EXPECT_EQ(0, growth(&before, "pages_meshed"));
	EXPECT_EQ(0, fdinfo_value(&self->a, "mesh-resident"));
	EXPECT_EQ(0, fdinfo_value(&self->a, "mesh-spares"));
}

TEST_F(stats, faults_are_counted)
{
	struct counters before = read_counters();
	struct arena b = arena_open(16, MESHHELPER_MERGE_ZAP);
	unsigned int i;

	for (i = 0; i < 16; i++)
		page_at(&b, i)[0] = 'f';
	/* A fault may be taken twice, but there is one for each page. */
	EXPECT_LE(16, growth(&before, "faults_total"));
	EXPECT_GT(64, growth(&before, "faults_total"));
	EXPECT_EQ(1, growth(&before, "arenas"));
	EXPECT_EQ(1, growth(&before, "layers"));
	arena_close(&b);
}

/*
 * A family: what its processes' fdinfo says adds up to what there is.
 */

/* What a member of the family tells, in memory that all of them see. */
struct member {
	long long resident;
	long long swapped;
	long long saved;
	long long layers;
};

#define CHILDREN	3

struct family {
	struct member member[CHILDREN + 1];
	pid_t pid[CHILDREN + 1];
	int ready[2];
	int ask[CHILDREN + 1][2];
};

/* The descriptor must be the process's own. */
static void report(struct arena *a, struct member *member)
{
	struct arena own = *a;

	own.fd = device_open();
	member->resident = fdinfo_value(&own, "mesh-resident");
	member->swapped = fdinfo_value(&own, "mesh-swapped");
	member->saved = fdinfo_value(&own, "mesh-saved");
	member->layers = fdinfo_value(&own, "mesh-layers");
	close(own.fd);
}

/* A child that writes to some pages, says that it is there, and reports when asked. */
static void child(struct arena *a, struct family *f, unsigned int i)
{
	char c = 'c';

	memset(page_at(a, 8 * i), 'c', 3 * PAGE);
	do {
		if (write(f->ready[1], &c, 1) != 1 || read(f->ask[i][0], &c, 1) != 1)
			_exit(1);
		report(a, &f->member[i]);
	} while (c == 'r');
	_exit(0);
}

/* Pages of the arenas are all the shmem in the cgroup; its statistics take a moment. */
static long long cgroup_shmem(long long expected)
{
	long long bytes = -1;
	unsigned int tries;
	char line[128];

	for (tries = 0; tries < 100 && bytes != expected; tries++) {
		FILE *f = fopen(CGROUP "/memory.stat", "re");

		if (!f)
			die(CGROUP "/memory.stat");
		while (fgets(line, sizeof(line), f))
			if (sscanf(line, "shmem %lld", &bytes) == 1)
				break;
		fclose(f);
		usleep(100000);
	}
	return bytes;
}

static bool join_cgroup(void)
{
	write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(CGROUP, 0755) && errno != EEXIST)
		return false;
	return write_text(CGROUP "/cgroup.procs", "0");
}

static void wait_for_child(struct __test_metadata *_metadata, struct family *f)
{
	char c;

	ASSERT_EQ(1, read(f->ready[0], &c, 1));
}

static void end_child(struct __test_metadata *_metadata, struct family *f, unsigned int i)
{
	ASSERT_EQ(1, write(f->ask[i][1], "e", 1));
	EXPECT_TRUE(exited_well(f->pid[i]));
	memset(&f->member[i], 0, sizeof(f->member[i]));
	f->pid[i] = 0;
}

/* What all who are left say is what there is. */
static void compare_family(struct __test_metadata *_metadata, const struct counters *before,
			   struct arena *a, struct family *f)
{
	struct member sum = { 0 };
	struct counters now;
	unsigned int i;

	report(a, &f->member[0]);
	for (i = 0; i <= CHILDREN; i++) {
		if (f->pid[i]) {
			ASSERT_EQ(1, write(f->ask[i][1], "r", 1));
			wait_for_child(_metadata, f);
		}
		sum.resident += f->member[i].resident;
		sum.swapped += f->member[i].swapped;
		sum.saved += f->member[i].saved;
	}
	now = read_counters();
	EXPECT_TRUE(reconciled(&now));
	EXPECT_EQ(0, sum.swapped);
	EXPECT_EQ(sum.resident * 1024, cgroup_shmem(sum.resident * 1024));
	EXPECT_EQ(sum.saved * 1024, growth(before, "pss_bytes_saved"));
}

static struct family *make_family(struct __test_metadata *_metadata, struct arena *a)
{
	struct family *f = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				-1, 0);
	unsigned int i;

	ASSERT_NE(MAP_FAILED, f);
	memset(f, 0, PAGE);
	ASSERT_EQ(0, pipe(f->ready));
	for (i = 1; i <= CHILDREN; i++)
		ASSERT_EQ(0, pipe(f->ask[i]));
	/* What was allocated so far is not the cgroup's. */
	ASSERT_TRUE(join_cgroup());
	*a = arena_open(PAGES, MESHHELPER_MERGE_ZAP);
	memset(a->base, 'p', PAGES * PAGE);
	for (i = 0; i < PAGES; i += 4) {
		struct meshhelper_pair pair = make_pair(page_at(a, i), page_at(a, i + 1), SLOT);

		ASSERT_EQ(0, merge_one(a, &pair));
	}
	return f;
}

/*
 * Before each fork the parent changes some pages, aliases among them, so that each time a
 * snapshot is made; pages of it are nobody's, and yet must be in the sum. When the others
 * have ended, the first child's layer has taken over what was in both snapshots.
 */
TEST(sums_of_a_family)
{
	struct counters before = read_counters(), after;
	struct arena a;
	struct family *f = make_family(_metadata, &a);
	unsigned int i;
	pid_t pid;

	for (i = 1; i <= CHILDREN; i++) {
		pid = fork();
		if (!pid)
			child(&a, f, i);
		f->pid[i] = pid;
		wait_for_child(_metadata, f);
		memset(page_at(&a, 4 * i), 'P', 5 * PAGE);
	}
	compare_family(_metadata, &before, &a, f);
	EXPECT_LT(0, growth(&before, "copy_ups_total"));
	EXPECT_EQ(CHILDREN, growth(&before, "forks_total"));
	EXPECT_EQ(0, growth(&before, "fork_failures_total"));
	EXPECT_EQ(CHILDREN + 1, growth(&before, "arenas"));
	EXPECT_EQ(CHILDREN - 1, growth(&before, "snapshots"));
	/* The first two are on the oldest snapshot, each other on one of its own. */
	EXPECT_EQ(1, f->member[0].layers);
	EXPECT_EQ(CHILDREN + 1, f->member[1].layers);
	for (i = 2; i <= CHILDREN; i++)
		EXPECT_EQ(CHILDREN + 3 - i, f->member[i].layers);

	for (i = 2; i <= CHILDREN; i++)
		end_child(_metadata, f, i);
	compare_family(_metadata, &before, &a, f);
	EXPECT_EQ(0, growth(&before, "snapshots"));
	EXPECT_EQ(2, f->member[1].layers);
	end_child(_metadata, f, 1);
	compare_family(_metadata, &before, &a, f);
	EXPECT_EQ((PAGES - PAGES / 4) * 4, f->member[0].resident);
	EXPECT_EQ(1, growth(&before, "layers"));

	arena_close(&a);
	after = read_counters();
	EXPECT_TRUE(reconciled(&after));
	EXPECT_EQ(0, growth(&before, "layers"));
	EXPECT_EQ(0, growth(&before, "pages_meshed"));
	EXPECT_TRUE(write_text("/sys/fs/cgroup/cgroup.procs", "0"));
}

/*
 * fdinfo: keys, several arenas, and processes that do not hold still.
 */

/* "key:<tab>value[ unit]", where the key is mesh-words and may end in an arena's number. */
static bool in_grammar(const char *line)
{
	size_t n = strspn(line, "abcdefghijklmnopqrstuvwxyz-");

	if (strncmp(line, "mesh-", 5))
		return false;
	n += strspn(line + n, "0123456789");
	if (strncmp(line + n, ":\t", 2))
		return false;
	line += n + 2;
	n = strspn(line, "0123456789");
	return n && (!strcmp(line + n, "\n") || !strcmp(line + n, " KiB\n") ||
		     !strcmp(line + n, " pages\n"));
}

TEST_F(stats, fdinfo_grammar)
{
	char path[64], lines[64][128], line[128];
	unsigned int nr = 0, i, j;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->a.fd);
	f = fopen(path, "re");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f) && nr < 64)
		if (!strncmp(line, "mesh", 4))
			strcpy(lines[nr++], line);
	fclose(f);
	EXPECT_EQ(17, nr);
	for (i = 0; i < nr; i++) {
		EXPECT_TRUE(in_grammar(lines[i])) TH_LOG("%s", lines[i]);
		*strchr(lines[i], ':') = 0;
		for (j = 0; j < i; j++)
			EXPECT_STRNE(lines[j], lines[i]);
	}
}

static long long fdinfo_of(struct arena *a, const char *key, struct arena *of)
{
	char name[64];

	snprintf(name, sizeof(name), "%s-%llu", key, arena_number(of));
	return fdinfo_value(a, name);
}

TEST_F(stats, fdinfo_tells_arenas_apart)
{
	struct arena b = arena_open(16, MESHHELPER_MERGE_ZAP), *a = &self->a;
	struct meshhelper_pair pair = make_pair(b.base, b.base + PAGE, SLOT);

	ASSERT_NE(arena_number(a), arena_number(&b));
	EXPECT_EQ(0, fdinfo_of(a, "mesh-touched", &b));
	memset(b.base, 'b', 4 * PAGE);
	ASSERT_EQ(0, merge_one(&b, &pair));
	EXPECT_EQ(2, fdinfo_value(a, "mesh-arenas"));
	EXPECT_EQ(PAGES * 4, fdinfo_of(a, "mesh-resident", a));
	EXPECT_EQ(12, fdinfo_of(a, "mesh-resident", &b));
	EXPECT_EQ(PAGES * 4 + 12, fdinfo_value(a, "mesh-resident"));
	EXPECT_EQ(0, fdinfo_of(a, "mesh-saved", a));
	EXPECT_EQ(4, fdinfo_of(a, "mesh-saved", &b));
	EXPECT_EQ(1, fdinfo_of(a, "mesh-groups", &b));
	/* A file may begin with a page that is not mapped. */
	EXPECT_LE(16, fdinfo_of(a, "mesh-touched", &b));
	EXPECT_GE(20, fdinfo_of(a, "mesh-touched", &b));
	arena_close(&b);
	EXPECT_EQ(-1, fdinfo_of(a, "mesh-resident", &b));
	EXPECT_EQ(PAGES * 4, fdinfo_value(a, "mesh-resident"));
}

/* What is in swap is not in memory, and smaps agrees. */
TEST_F(stats, fdinfo_of_swapped_pages)
{
	unsigned int tries = 20;
	struct arena *a = &self->a;

	if (!swap_is_on())
		SKIP(return, "no swap");
	do {
		if (madvise(a->base, PAGES * PAGE, MADV_PAGEOUT))
			die("MADV_PAGEOUT");
	} while (!fdinfo_value(a, "mesh-swapped") && --tries);
	EXPECT_LT(0, fdinfo_value(a, "mesh-swapped"));
	EXPECT_EQ(smaps_kb(a, "Swap:"), fdinfo_value(a, "mesh-swapped"));
	EXPECT_EQ(PAGES * 4, fdinfo_value(a, "mesh-swapped") + fdinfo_value(a, "mesh-resident"));
}

#define MANY	2000

static void many_arenas(int ready)
{
	unsigned int i;
	int fd = device_open();

	for (i = 0; i < MANY; i++) {
		char *base = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (base == MAP_FAILED)
			die("mmap of the device");
		base[PAGE] = 'm';
	}
	if (write(ready, &fd, sizeof(fd)) != sizeof(fd))
		die("write");
	pause();
}

/* Sums of the fdinfo of another process; false if it cannot be read any more. */
static bool read_foreign(pid_t pid, int fd, long long *arenas, long long *resident)
{
	char line[128];
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/fdinfo/%d", pid, fd);
	f = fopen(line, "re");
	*arenas = -1;
	*resident = -1;
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "mesh-arenas:\t%lld", arenas);
		sscanf(line, "mesh-resident:\t%lld", resident);
	}
	fclose(f);
	return *arenas >= 0;
}

/* Read while the process goes away with all its arenas. */
TEST_F(stats, fdinfo_of_a_dying_process)
{
	long long arenas, resident, last = MANY;
	int ready[2], fd;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	if (!pid)
		many_arenas(ready[1]);
	ASSERT_EQ(sizeof(fd), read(ready[0], &fd, sizeof(fd)));
	ASSERT_TRUE(read_foreign(pid, fd, &arenas, &resident));
	/* And the one that it has from its parent. */
	EXPECT_EQ(MANY + 1, arenas);
	EXPECT_EQ(MANY * 4, resident);
	kill(pid, SIGKILL);
	while (read_foreign(pid, fd, &arenas, &resident)) {
		EXPECT_LE(arenas, last + 1);
		last = arenas;
	}
	waitpid(pid, NULL, 0);
}

static volatile bool stop;

static void *come_and_go(void *arg)
{
	while (!stop) {
		struct arena a = arena_open(2048, MESHHELPER_MERGE_ZAP);

		memset(a.base, 'g', 2048 * PAGE);
		arena_close(&a);
	}
	return arg;
}

/* Arenas go while their pages are being counted. */
TEST_F(stats, fdinfo_of_arenas_that_go)
{
	unsigned int seen = 0, i;
	pthread_t thread;

	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, come_and_go, NULL));
	for (i = 0; i < 2000; i++)
		seen += fdinfo_value(&self->a, "mesh-resident") > PAGES * 4;
	stop = true;
	pthread_join(thread, NULL);
	EXPECT_LT(0, seen);
}

/*
 * Counters under load: totals never go backwards, gauges are never negative.
 */

static void *churn(void *arg)
{
	struct arena a = arena_open(PAGES, MESHHELPER_MERGE_ZAP);
	struct asked asked = { 0 };
	uint64_t seed = (uintptr_t)arg;

	while (!stop) {
		memset(a.base, 'c', PAGES * PAGE);
		while (!stop && asked.pairs++ % 50)
			random_merge(&a, &asked, &seed);
		if (madvise(a.base, PAGES * PAGE, MADV_REMOVE))
			die("MADV_REMOVE");
	}
	arena_close(&a);
	return NULL;
}

/* It goes on until something was merged, or the test takes too long. */
TEST_F_TIMEOUT(stats, counters_under_load, 120)
{
	struct counters last = read_counters(), now;
	pthread_t thread[2];
	unsigned int i, j;

	stop = false;
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)(i + 1)));
	for (j = 0; j < 100 || !growth(&self->before, "merges_total"); j++) {
		now = read_counters();
		for (i = 0; i < now.nr; i++)
			if (strstr(now.c[i].name, "_total"))
				EXPECT_LE(last.c[i].value, now.c[i].value);
		EXPECT_LE(0, value(&now, "pages_meshed"));
		EXPECT_LE(0, value(&now, "snapshots"));
		last = now;
	}
	stop = true;
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	EXPECT_LT(0, growth(&self->before, "merges_total"));
}

/*
 * Tracepoints.
 */

static bool trace_on(void)
{
	return write_text(TRACING "trace", "\n") &&
	       write_text(TRACING "events/meshhelper/enable", "1");
}

/* The whole trace; the caller frees it. */
static char *trace_off(void)
{
	size_t size = 1 << 20, len;
	char *text = malloc(size);
	FILE *f;

	if (!write_text(TRACING "events/meshhelper/enable", "0"))
		die("cannot end tracing");
	f = fopen(TRACING "trace", "re");
	if (!f || !text)
		die(TRACING "trace");
	len = fread(text, 1, size - 1, f);
	text[len] = 0;
	fclose(f);
	return text;
}

/* The fields of the @nr-th event of a name, to the line's end; "" if there is none. */
static const char *event(const char *trace, const char *name, unsigned int nr)
{
	static char line[512];
	char head[64];

	snprintf(head, sizeof(head), " meshhelper_%s: ", name);
	do {
		trace = strstr(trace, head);
		if (!trace)
			return "";
		trace += strlen(head);
	} while (nr--);
	snprintf(line, sizeof(line), "%.*s", (int)strcspn(trace, "\n"), trace);
	return line;
}

static unsigned int count_events(const char *trace, const char *name)
{
	unsigned int n = 0;

	while (*event(trace, name, n))
		n++;
	return n;
}

/* A field's value: a number, decimal or hexadecimal. */
static long long field(const char *fields, const char *name)
{
	char key[32];
	const char *at;

	snprintf(key, sizeof(key), " %s=", name);
	at = strstr(fields, key);
	if (at)
		return strtoll(at + strlen(key), NULL, 0);
	return strncmp(fields, key + 1, strlen(key) - 1) ? -999 :
	       strtoll(fields + strlen(key) - 1, NULL, 0);
}

TEST_F(stats, trace_of_a_merge)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 7), page_at(&self->a, 9), SLOT);
	struct arena *a = &self->a;
	const char *fields;
	long long slot;
	char *trace;

	ASSERT_TRUE(trace_on());
	ASSERT_EQ(0, merge_one(a, &pair));
	page_at(a, 7)[0] = 'w';
	ASSERT_EQ(0, madvise(page_at(a, 9), PAGE, MADV_DONTNEED));
	touch(page_at(a, 9));
	ASSERT_EQ(-EEXIST, merge_one(a, &pair));
	ASSERT_EQ(0, madvise(page_at(a, 7), 3 * PAGE, MADV_REMOVE));
	trace = trace_off();

	fields = event(trace, "merge", 0);
	EXPECT_EQ((long long)arena_number(a), field(fields, "arena"));
	EXPECT_EQ((long long)pair.src, field(fields, "src"));
	EXPECT_EQ((long long)pair.dst, field(fields, "dst"));
	EXPECT_EQ(2, field(fields, "dst_index") - field(fields, "src_index"));
	EXPECT_EQ(1, field(fields, "pages"));
	EXPECT_EQ(1, field(fields, "saved"));
	EXPECT_EQ(0, field(fields, "armed"));
	slot = field(fields, "slot");
	EXPECT_EQ(field(fields, "dst_index"), slot);
	EXPECT_EQ(1, count_events(trace, "merge"));

	/* Page 9 is at home: only a fault on 7 is one on an alias. */
	fields = event(trace, "alias_fault", 0);
	EXPECT_EQ((long long)pair.src, field(fields, "address"));
	EXPECT_EQ(slot - 2, field(fields, "index"));
	EXPECT_EQ(slot, field(fields, "slot"));
	EXPECT_EQ(1, field(fields, "write"));
	EXPECT_EQ(0, field(fields, "lower"));
	EXPECT_EQ(1, count_events(trace, "alias_fault"));

	fields = event(trace, "abort", 0);
	EXPECT_EQ((long long)pair.src, field(fields, "src"));
	EXPECT_EQ(-EEXIST, field(fields, "error"));
	EXPECT_NE(NULL, strstr(fields, "reason=exist"));
	EXPECT_EQ(1, count_events(trace, "abort"));

	fields = event(trace, "remove", 0);
	EXPECT_EQ(slot - 2, field(fields, "index"));
	EXPECT_EQ(3, field(fields, "pages"));
	EXPECT_EQ(0, field(fields, "error"));
	free(trace);
}

/* A child that writes to page 0, lets its parent go on, and ends. */
static pid_t traced_child(struct arena *a, int ready[2], int go)
{
	pid_t pid = fork();
	char c = 0;

	if (pid)
		return pid;
	page_at(a, 0)[0] = 'c';
	if (write(ready[1], &c, 1) != 1 || read(go, &c, 1) != 1)
		_exit(1);
	_exit(0);
}

TEST_F(stats, trace_of_a_fork)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 1), page_at(&self->a, 2), SLOT);
	int ready[2], first[2], second[2];
	struct arena *a = &self->a;
	const char *fields;
	pid_t pid[2];
	char *trace, c;

	ASSERT_EQ(0, pipe(ready) | pipe(first) | pipe(second));
	ASSERT_EQ(0, merge_one(a, &pair));
	ASSERT_TRUE(trace_on());
	pid[0] = traced_child(a, ready, first[0]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	page_at(a, 1)[0] = 'p';
	pid[1] = traced_child(a, ready, second[0]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	page_at(a, 3)[0] = 'p';
	ASSERT_EQ(1, write(second[1], &c, 1));
	ASSERT_TRUE(exited_well(pid[1]));
	ASSERT_EQ(1, write(first[1], &c, 1));
	ASSERT_TRUE(exited_well(pid[0]));
	trace = trace_off();

	ASSERT_EQ(2, count_events(trace, "fork"));
	fields = event(trace, "fork", 0);
	EXPECT_EQ((long long)arena_number(a), field(fields, "arena"));
	EXPECT_EQ((long long)(uintptr_t)a->base, field(fields, "start"));
	EXPECT_EQ((long long)(uintptr_t)a->base + PAGES * (long long)PAGE, field(fields, "end"));
	EXPECT_EQ(0, field(fields, "failed"));

	/* The first child's page 0, its copy of the parent's group, the second's page 0. */
	ASSERT_EQ(4, count_events(trace, "copy_up"));
	fields = event(trace, "copy_up", 0);
	EXPECT_NE(NULL, strstr(fields, "whose=own"));
	EXPECT_EQ(1, field(fields, "members"));
	EXPECT_EQ(field(fields, "index"), field(fields, "from"));
	EXPECT_EQ((1LL << 32) + field(fields, "index"), field(fields, "to"));
	fields = event(trace, "copy_up", 1);
	EXPECT_NE(NULL, strstr(fields, "whose=relative"));
	EXPECT_EQ(2, field(fields, "members"));
	EXPECT_NE(NULL, strstr(event(trace, "copy_up", 2), "whose=own"));
	/* Both children see page 3 of the parent: one copy for both, in the snapshot. */
	EXPECT_NE(NULL, strstr(event(trace, "copy_up", 3), "whose=snapshot"));

	/* When the second child ends, the snapshot and the first one's layer become one. */
	fields = event(trace, "collapse", 0);
	EXPECT_EQ(0, field(fields, "snapshot"));
	EXPECT_EQ((long long)arena_number(a), field(fields, "arena"));
	EXPECT_EQ(1, count_events(trace, "collapse"));
	free(trace);
}

TEST_HARNESS_MAIN
