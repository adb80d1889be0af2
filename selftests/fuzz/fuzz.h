/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A fuzzer of meshhelper.ko: processes that do random things to their arenas and know
 * at any time what each byte of them must be.
 *
 *	main.c		options, the supervisor, TAP
 *	worker.c	one process: its beginning, its loop and its end
 *	ops.c		table of the operations, which are in
 *	memory.c	  mmap family, reads and writes
 *	merge.c		  requests to the device, one at a time
 *	uring.c		  requests in flight
 *	process.c	  fork, exec, exit, kill, timers
 *	threads.c	  writers at work while their process merges and forks
 *	liar.c		  an arena whose owner breaks every promise
 *	request.c	how requests are made, and what is recorded of them
 *	model.c		what memory must contain
 *	report.c	what a process did last, and its last words
 *	random.c	random numbers
 *
 * The model knows frames, like the module: a page of an arena shows a frame, and what
 * was merged shows the same one. It is private memory, so a forked child inherits it as
 * it inherits the arena. It follows the interface to the letter: a merge with result 0
 * copies exactly the live slots, and any other result changes nothing (but, in armed
 * mode, bytes of dst that the caller has declared not to be in use). So no promise has
 * to be kept for it to be exact, as long as a process has one thread.
 */
#ifndef SELFTESTS_FUZZ_H
#define SELFTESTS_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/meshhelper.h>

/* ring.h wants it */
void die(const char *what) __attribute__((noreturn));
#include "ring.h"

#define PAGE		4096UL
#define WORDS		(PAGE / sizeof(uint64_t))
#define DEVICE		"/dev/meshhelper"
#define CGROUP_ROOT	"/sys/fs/cgroup"
#define CGROUP		CGROUP_ROOT "/fuzz"

#define MAX_ARENAS	3
#define MAX_PAGES	96
#define MAX_CHILDREN	16
#define MAX_PROCESSES	64
#define MAX_OPERATIONS	64
#define MAX_ERRNO	134
#define MAX_BATCH	12
#define RING		50

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof(*(a)))

/**
 * struct frame - what the pages of one group show
 * @refs: pages that show it
 * @word: contents
 * @unknown: bit set: the word may be anything until it is looked at or written
 */
struct frame {
	unsigned int refs;
	uint64_t word[WORDS];
	uint64_t unknown[WORDS / 64];
};

/**
 * struct page - one index of an arena
 * @addr: where it is mapped; NULL if it is not, but its contents are still there, until a fork:
 *	the child has none
 * @frame: what it shows; NULL for zeroes that nobody else shows
 * @prot: PROT_* bits
 * @locked: by mlock()
 * @not_forked: by madvise(MADV_DONTFORK)
 */
struct page {
	char *addr;
	struct frame *frame;
	int prot;
	bool locked;
	bool not_forked;
};

/**
 * struct arena - an arena of this process
 * @nr: indices that were ever mapped; 0: no such arena
 * @page: the indices
 */
struct arena {
	unsigned int nr;
	struct page page[MAX_PAGES];
};

/* Pages of one arena, next to each other in memory too, with the same protection. */
struct range {
	struct arena *arena;
	unsigned int first;
	unsigned int nr;
};

/* One line about an operation that was done. */
struct record {
	unsigned int op;
	char text[400];
};

/**
 * struct worker - this process
 * @random: state of its random stream
 * @ordinal: number of the process, never used again
 * @parent: ordinal of the process it was forked from
 * @parent_op: operation of the parent that forked it
 * @generation: forks since the supervisor
 * @op: operations done, those before the fork included
 * @last_op: the process ends after this one
 * @burst: operations that remain to be of the kind that fork is sensitive to
 * @timer: are there signals, from a timer?
 * @device: descriptor of the device
 * @uffd: userfaultfd, -1 if there is none
 * @uring: an io_uring; its fd is -1 if there is none
 * @slot: its place in the control page's table
 * @children: those not yet reaped
 * @nr_children: how many
 * @arena: its arenas
 * @ring: what it did last
 */
struct worker {
	uint64_t random;
	unsigned int ordinal;
	unsigned int parent;
	unsigned int parent_op;
	unsigned int generation;
	unsigned int op;
	unsigned int last_op;
	unsigned int burst;
	bool timer;
	int device;
	int uffd;
	struct ring uring;
	int slot;
	pid_t children[MAX_CHILDREN];
	unsigned int nr_children;
	struct arena arena[MAX_ARENAS];
	struct record ring[RING];
};

extern struct worker self;

/**
 * struct control - memory that all processes share
 * @seed: of this run
 * @max_ops: operations of one process, 0 for no limit
 * @max_processes: how many may live at the same time
 * @verbose: print each operation
 * @stop: everybody comes to an end
 * @reporting: somebody has found something and is about to say so
 * @failed: somebody has found something
 * @live: processes that live or have not been reaped
 * @next_ordinal: number for the next process
 * @merged: pairs merged
 * @refused: pairs left alone, by errno
 * @done: operations done, by their place in the table
 * @effective: those of them that had an effect
 * @process: what each process is doing, for the report about one that hangs
 */
struct control {
	uint64_t seed;
	unsigned int max_ops;
	unsigned int max_processes;
	bool verbose;
	atomic_bool stop;
	atomic_bool reporting;
	atomic_bool failed;
	atomic_int live;
	atomic_uint next_ordinal;
	atomic_ulong merged;
	atomic_ulong refused[MAX_ERRNO];
	atomic_ulong done[MAX_OPERATIONS];
	atomic_ulong effective[MAX_OPERATIONS];
	struct {
		atomic_int pid;
		atomic_uint ordinal;
		atomic_uint op;
		atomic_uint kind;
	} process[MAX_PROCESSES];
};

extern struct control *control;
extern int control_fd;

/* A thread's own, NULL for that of the process. */
extern _Thread_local uint64_t *random_stream;

/**
 * struct operation - something that a process can do
 * @name: for reports
 * @weight: how often, relative to the others
 * @run: does it; whether it had any effect
 */
struct operation {
	const char *name;
	unsigned int weight;
	bool (*run)(void);
};

/* ops.c */
extern const struct operation operations[];
extern const unsigned int nr_operations;
unsigned int choose_operation(bool burst);

/* random.c */
uint64_t next_random(uint64_t *state);
uint64_t mix(uint64_t value);
uint64_t random64(void);
unsigned int below(unsigned int n);
bool one_in(unsigned int n);

/* report.c */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* worker.c */
void worker_start(uint64_t seed);
void worker_run(void) __attribute__((noreturn));
void worker_end(void) __attribute__((noreturn));
void worker_enlist(void);
void reaped(pid_t pid);
uint64_t stamp(unsigned int number, unsigned int word);

/* model.c */
struct frame *page_frame(struct page *page);
void page_clear(struct page *page);
void page_fill(struct page *page, unsigned int first, unsigned int nr, const uint64_t *words);
void arena_forget_if_unmapped(struct arena *arena);
struct arena *arena_unused(void);
bool pick_arena(struct arena **arena);
bool pick_range(struct range *range, unsigned int max, int prot);
char *range_addr(const struct range *range);
size_t range_len(const struct range *range);
struct range run_of(struct arena *arena, unsigned int index);
bool find_span(uint64_t addr, unsigned int nr, struct range *span);
bool pair_allowed(const struct meshhelper_pair *pair);
void model_result(const struct meshhelper_pair *pair, uint32_t mode);
void check_at(struct page *page, unsigned int index, const char *addr);
void check_range(const struct range *range);
void check_all(void);
void check_shared(struct arena *arena);

/* request.c */
bool make_pair(struct meshhelper_pair *pair);
unsigned int make_pairs(struct meshhelper_pair *pairs, unsigned int max);
void spoil_pair(struct meshhelper_pair *pair);
unsigned int random_ring(void);
struct ring *the_ring(void);
void uring_drop(void);
bool given_up(int result);
int ask(unsigned long cmd, const void *arg);
int request(unsigned long cmd, uint32_t flags, struct meshhelper_pair *pairs, unsigned int nr,
	    struct meshhelper_batch *batch);
void account_pair(const struct meshhelper_pair *pair);
void record_results(struct meshhelper_pair *pairs, unsigned int nr, uint32_t mode,
		    const struct meshhelper_batch *batch);
void check_pairs(const struct meshhelper_pair *pairs, unsigned int nr);
void uffd_drop(void);
bool protect_frame(struct arena *arena, struct frame *frame);
bool protect_span(uint64_t addr, unsigned int nr);
unsigned int arm(struct meshhelper_pair *pairs, unsigned int nr);
void arm_pairs(struct meshhelper_pair *pairs, unsigned int nr);
bool result_is_visible(const struct meshhelper_pair *pair);
void find_out_result(struct meshhelper_pair *pair);

/* memory.c */
void write_some(const struct range *range, char *at);
bool op_map(void);
bool op_map_invalid(void);
bool op_grow(void);
bool op_move(void);
bool op_twin(void);
bool op_unmap(void);
bool op_unmap_arena(void);
bool op_protect(void);
bool op_lock(void);
bool op_dontfork(void);
bool op_remove(void);
bool op_advise(void);
bool op_pageout(void);
bool op_reclaim(void);
bool op_write(void);
bool op_write_syscall(void);
bool op_pipe(void);
bool op_check(void);

/* merge.c */
bool op_merge_zap(void);
bool op_merge_armed(void);
bool op_merge_written(void);
bool op_merge_invalid(void);
bool op_merge_pinned(void);
bool op_arm(void);
bool op_pairs_inside(void);
bool op_pairs_unwritable(void);
bool op_batch_invalid(void);
bool op_ioctl_invalid(void);
bool op_device(void);
bool op_uffd_close(void);

/* uring.c */
bool op_uring(void);
bool op_uring_closed(void);
bool op_uring_fork(void);
bool op_uring_inherit(void);
bool op_uring_die(void);
bool op_uring_invalid(void);
bool op_uring_drop(void);

/* process.c */
pid_t spawn(bool raw);
bool op_fork(void);
bool op_clone(void);
bool op_siblings(void);
bool op_chain(void);
void exec_anew(void) __attribute__((noreturn));
bool op_exec(void);
bool op_exit(void);
bool op_kill(void);
bool op_reap(void);
bool op_timer(void);

/* threads.c, liar.c */
bool op_threads(void);
bool op_liar(void);

#endif /* SELFTESTS_FUZZ_H */
