// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * merge-cost: what merging a page costs, and what it costs others.
 *
 * First table: the time of a merged page by the way the request takes to the module
 * (an ioctl for each pair, an ioctl for a batch, an io_uring command for a batch) and
 * by how writers are kept out (zap; armed: ARM, write-protect, MERGE).
 *
 * Second table: pages merged per second, and how long a bystander's accesses take. The
 * bystander is a thread that accesses a random source page of the request at hand,
 * reading or writing, then rests for a moment and does it again. Requests are small
 * here, or it would seldom meet the page that is being merged.
 *
 * Pages have 32 slots of 128 bytes; the odd ones of each source are live. Costs and
 * rates are medians over rounds, in which the cases take turns; accesses are those of
 * all rounds together.
 *
 *	merge-cost [-n PAIRS] [-r ROUNDS] [-m MODE]
 *
 * With a mode, "zap" or "armed", pairs are merged in that one only, in batches by ioctl,
 * and nothing else is measured: for merge-steps.sh.
 *
 * In a virtual machine without hardware acceleration all times that involve two
 * processors depend on what else the host does. "vm.sh --icount" makes them repeatable:
 * each instruction takes a nanosecond there.
 */
#include "arena.h"
#include "ring.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <time.h>

#define SLOT		128
#define BATCH		256
#define MAX_ROUNDS	99
#define FEW		16
#define REST_US		20
#define MAX_SAMPLES	200000

/* An access that takes longer was more than a memory access. */
#define STALL_US	1.0

/* Pages touched after those that are going to be merged: see fill(). */
#define LATER_PAGES	64

enum path { IOCTL_ONE, IOCTL_BATCH, URING_BATCH, NR_PATHS };

static const char *const path_names[NR_PATHS] = {
	"ioctl, one pair a call", "ioctl, batches of 256", "io_uring, batches of 256",
};

enum mode { ZAP, ARMED, NR_MODES };

static const char *const mode_names[NR_MODES] = { "zap", "armed" };
static const uint32_t mode_flags[NR_MODES] = { MESHHELPER_MERGE_ZAP, MESHHELPER_MERGE_ARMED };

enum bystander { NONE, READER, WRITER, NR_BYSTANDERS };

static unsigned int nr_pairs = 2048;
static unsigned int rounds = 9;
static unsigned int nr_modes = NR_MODES;
static const char *only_mode;

static struct arena arenas[NR_MODES];
static struct ring ring;
static struct meshhelper_pair *pairs;

/* Ticks of the processor's clock in a nanosecond. */
static double ticks_per_ns;

static uint64_t now_ticks(void)
{
	return __builtin_ia32_rdtsc();
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void calibrate(void)
{
	double ns = now_ns();
	uint64_t ticks = now_ticks();

	usleep(200000);
	ticks_per_ns = (now_ticks() - ticks) / (now_ns() - ns);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned int n)
{
	qsort(values, n, sizeof(*values), compare_doubles);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void pin(bool to_one)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < (to_one ? 1 : CPU_SETSIZE); i++)
		CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/*
 * All pages anew. The last pages a processor has touched wait in lists of its own and
 * look busy; it touches some more, so that those do.
 */
static void fill(struct arena *a)
{
	unsigned int i;

	if (madvise(a->base, a->pages * PAGE, MADV_REMOVE))
		die("MADV_REMOVE");
	pin(true);
	for (i = 0; i < a->pages; i++)
		memset(page_at(a, i), i, PAGE);
	pin(false);
	for (i = 0; i < nr_pairs; i++) {
		pairs[i] = make_pair(page_at(a, 2 * i + 1), page_at(a, 2 * i), SLOT);
		pairs[i].live[0] = 0xaaaaaaaa;
	}
}

static void send_request(struct arena *a, enum path path, unsigned long cmd, uint32_t flags,
			 struct meshhelper_pair *some, unsigned int n)
{
	struct meshhelper_batch batch;
	int ret;

	if (path != URING_BATCH) {
		ret = request(a, cmd, flags, some, n, &batch);
	} else {
		batch = (struct meshhelper_batch) {
			.pairs = (uintptr_t)some, .nr_pairs = n, .flags = flags,
		};
		ret = ring_request(&ring, a->fd, cmd, &batch);
	}
	if (ret)
		die("a request");
}

/* Merge some pairs; adds the time of write-protection to @protect_ns. */
static void merge_some(struct arena *a, enum path path, struct meshhelper_pair *some,
		       unsigned int n, double *protect_ns)
{
	uint64_t start;
	unsigned int i;

	if (a->mode == MESHHELPER_MERGE_ARMED) {
		send_request(a, path, MESHHELPER_IOC_ARM, 0, some, n);
		start = now_ticks();
		for (i = 0; i < n; i++)
			protect(a, (void *)(uintptr_t)some[i].src, PAGE);
		*protect_ns += (now_ticks() - start) / ticks_per_ns;
	}
	send_request(a, path, MESHHELPER_IOC_MERGE, a->mode, some, n);
}

static unsigned int count_merged(void)
{
	unsigned int i, merged = 0;

	for (i = 0; i < nr_pairs; i++)
		merged += !pairs[i].result;
	return merged;
}

/*
 * The first table.
 */
struct cost {
	double all[MAX_ROUNDS];
	double protect[MAX_ROUNDS];
	double unmerged[MAX_ROUNDS];
};

static struct cost costs[NR_MODES][NR_PATHS];

static void measure_cost(enum mode mode, enum path path, unsigned int round)
{
	unsigned int at, step = path == IOCTL_ONE ? 1 : BATCH, merged;
	struct cost *c = &costs[mode][path];
	struct arena *a = &arenas[mode];
	double protect_ns = 0;
	uint64_t ticks;

	fill(a);
	ticks = now_ticks();
	for (at = 0; at < nr_pairs; at += step)
		merge_some(a, path, pairs + at, step, &protect_ns);
	ticks = now_ticks() - ticks;
	merged = count_merged();
	if (!merged)
		die("nothing was merged");
	c->all[round] = ticks / ticks_per_ns / merged;
	c->protect[round] = protect_ns / merged;
	c->unmerged[round] = nr_pairs - merged;
}

static void print_costs(void)
{
	unsigned int path, mode;

	printf("ns for a merged page        ");
	for (mode = 0; mode < nr_modes; mode++)
		printf(" %9s", mode_names[mode]);
	printf("   of which write-protecting   pairs not merged\n");
	for (path = 0; path < NR_PATHS; path++) {
		double unmerged = 0;

		printf("%-28s", path_names[path]);
		for (mode = 0; mode < nr_modes; mode++) {
			printf(" %9.0f", median(costs[mode][path].all, rounds));
			unmerged += median(costs[mode][path].unmerged, rounds);
		}
		printf("   %25.0f   %16.0f\n",
		       nr_modes > ARMED ? median(costs[ARMED][path].protect, rounds) : 0,
		       unmerged);
	}
}

/*
 * The second table.
 */
struct stall {
	double rate[MAX_ROUNDS];
	double unmerged[MAX_ROUNDS];
	unsigned int samples;
	float us[MAX_SAMPLES];
};

static struct stall stalls[NR_MODES][NR_BYSTANDERS];
static struct stall quiet[NR_BYSTANDERS];

static struct {
	struct arena *arena;
	struct stall *to;
	bool writes;
	atomic_uint at;
	atomic_bool stop;
	atomic_bool started;
} watch;

static void *stand_by(void *unused)
{
	struct stall *s = watch.to;
	uint64_t state = 1, start;

	/* Or each rest would be 50 us longer. */
	prctl(PR_SET_TIMERSLACK, 1);
	watch.started = true;
	while (!watch.stop && s->samples < MAX_SAMPLES) {
		unsigned int pair = watch.at + next_random(&state) % FEW;
		/* A word of the first live slot. */
		volatile uint64_t *word = (void *)(page_at(watch.arena, 2 * pair + 1) + SLOT);

		start = now_ticks();
		if (watch.writes)
			*word = state;
		else
			(void)*word;
		s->us[s->samples++] = (now_ticks() - start) / ticks_per_ns / 1000;
		usleep(next_random(&state) % (2 * REST_US));
	}
	return unused;
}

static void merge_few_by_few(struct arena *a)
{
	double protect_ns = 0;
	unsigned int at;

	for (at = 0; at < nr_pairs; at += FEW) {
		watch.at = at;
		merge_some(a, IOCTL_BATCH, pairs + at, FEW, &protect_ns);
	}
}

/* @merging: else some time is spent asleep. */
static void measure_stalls(enum mode mode, enum bystander who, bool merging, unsigned int round)
{
	struct stall *s = merging ? &stalls[mode][who] : &quiet[who];
	struct arena *a = &arenas[mode];
	pthread_t thread;
	uint64_t ticks;

	fill(a);
	watch.arena = a;
	watch.to = s;
	watch.writes = who == WRITER;
	watch.at = 0;
	watch.stop = false;
	watch.started = false;
	if (who != NONE && pthread_create(&thread, NULL, stand_by, NULL))
		die("pthread_create");
	while (who != NONE && !watch.started)
		usleep(100);
	ticks = now_ticks();
	if (merging)
		merge_few_by_few(a);
	else
		usleep(100000);
	ticks = now_ticks() - ticks;
	watch.stop = true;
	if (who != NONE)
		pthread_join(thread, NULL);
	s->rate[round] = count_merged() / (ticks / ticks_per_ns / 1e9);
	s->unmerged[round] = 100.0 * (nr_pairs - count_merged()) / nr_pairs;
}

static int compare_floats(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void print_accesses(struct stall *s)
{
	unsigned int n = s->samples, quick = 0;

	if (!n) {
		printf("%10s %9s %9s %9s\n", "-", "-", "-", "-");
		return;
	}
	qsort(s->us, n, sizeof(*s->us), compare_floats);
	while (quick < n && s->us[quick] <= STALL_US)
		quick++;
	printf("%10u %9.1f %9.1f %9.1f\n", n, 100.0 * (n - quick) / n,
	       s->us[n - 1 - n / 100], s->us[n - 1]);
}

static void print_stall(const char *mode, enum bystander who, struct stall *s, bool merging)
{
	static const char *const names[NR_BYSTANDERS] = { "nobody", "reader", "writer" };

	printf("%-10s %-8s", mode, names[who]);
	if (merging)
		printf(" %10.0f %8.1f", median(s->rate, rounds), median(s->unmerged, rounds));
	else
		printf(" %10s %8s", "-", "-");
	print_accesses(s);
}

static void print_stalls(void)
{
	unsigned int mode, who;

	printf("writers    bystander    pages      not  accesses    over       p99       max\n");
	printf("kept out                per s   merged             1 us, %%       us        us\n");
	for (who = READER; who < NR_BYSTANDERS; who++)
		print_stall("no merges", who, &quiet[who], false);
	for (mode = 0; mode < nr_modes; mode++)
		for (who = 0; who < NR_BYSTANDERS; who++)
			print_stall(mode_names[mode], who, &stalls[mode][who], true);
}

static void measure(unsigned int round)
{
	unsigned int mode, path, who;

	for (mode = 0; mode < nr_modes; mode++) {
		for (path = 0; path < NR_PATHS; path++)
			measure_cost(mode, path, round);
		for (who = 0; who < NR_BYSTANDERS; who++)
			measure_stalls(mode, who, true, round);
	}
	for (who = READER; who < NR_BYSTANDERS; who++)
		measure_stalls(ZAP, who, false, round);
}

static void forget_accesses(void)
{
	unsigned int mode, who;

	for (who = 0; who < NR_BYSTANDERS; who++) {
		quiet[who].samples = 0;
		for (mode = 0; mode < NR_MODES; mode++)
			stalls[mode][who].samples = 0;
	}
}

static void parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "n:r:m:")) != -1) {
		if (option == 'n')
			nr_pairs = strtoul(optarg, NULL, 0);
		else if (option == 'r')
			rounds = strtoul(optarg, NULL, 0);
		else if (option == 'm')
			only_mode = optarg;
		else
			exit(2);
	}
	nr_pairs = nr_pairs / BATCH * BATCH;
	if (!nr_pairs || !rounds || rounds > MAX_ROUNDS) {
		fprintf(stderr, "merge-cost: at least %u pairs, 1 to %u rounds\n", BATCH,
			MAX_ROUNDS);
		exit(2);
	}
}

static void measure_one_mode(void)
{
	unsigned int mode, round;

	for (mode = 0; mode < nr_modes; mode++) {
		if (strcmp(only_mode, mode_names[mode]))
			continue;
		for (round = 0; round < rounds; round++)
			measure_cost(mode, IOCTL_BATCH, round);
		printf("%.0f ns for a merged page\n", median(costs[mode][IOCTL_BATCH].all, rounds));
	}
}

int main(int argc, char **argv)
{
	unsigned int mode, round;

	parse(argc, argv);
	if (!mode_supported(MESHHELPER_MERGE_ARMED))
		nr_modes = ARMED;
	for (mode = 0; mode < nr_modes; mode++)
		arenas[mode] = arena_open(2 * nr_pairs + LATER_PAGES, mode_flags[mode]);
	pairs = calloc(nr_pairs, sizeof(*pairs));
	if (!pairs)
		die("calloc");
	ring = ring_open(8, 0);
	calibrate();
	if (only_mode) {
		measure_one_mode();
		return 0;
	}
	/* Once for nothing: code, page tables, the worker thread. */
	measure(0);
	forget_accesses();
	for (round = 0; round < rounds; round++)
		measure(round);
	printf("%u pairs of one page, %u rounds\n\n", nr_pairs, rounds);
	print_costs();
	printf("\n");
	print_stalls();
	return 0;
}
