// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What a process can do, and how often it does it.
 */
#include "fuzz.h"

const struct operation operations[] = {
	/* The first ones: also what both sides do for a while right after a fork. */
	{ "write",		120,	op_write },
	{ "merge",		100,	op_merge_zap },
	{ "merge armed",	60,	op_merge_armed },
	{ "remove",		50,	op_remove },
	{ "fork",		16,	op_fork },
	{ "clone",		8,	op_clone },
	{ "siblings",		8,	op_siblings },
	{ "chain",		10,	op_chain },
	{ "page out",		12,	op_pageout },
	{ "reclaim",		8,	op_reclaim },
	{ "check",		16,	op_check },
#define BURST_OPERATIONS 11

	{ "map",		16,	op_map },
	{ "map invalid",	4,	op_map_invalid },
	{ "grow",		24,	op_grow },
	{ "move",		12,	op_move },
	{ "twin",		10,	op_twin },
	{ "unmap",		8,	op_unmap },
	{ "unmap arena",	5,	op_unmap_arena },
	{ "protect",		16,	op_protect },
	{ "lock",		12,	op_lock },
	{ "dontfork",		10,	op_dontfork },
	{ "advise",		20,	op_advise },
	{ "write syscall",	20,	op_write_syscall },
	{ "pipe",		12,	op_pipe },

	{ "arm",		12,	op_arm },
	{ "merge written",	12,	op_merge_written },
	{ "merge invalid",	24,	op_merge_invalid },
	{ "merge pinned",	8,	op_merge_pinned },
	{ "pairs inside",	12,	op_pairs_inside },
	{ "pairs unwritable",	6,	op_pairs_unwritable },
	{ "batch invalid",	10,	op_batch_invalid },
	{ "ioctl invalid",	6,	op_ioctl_invalid },
	{ "device",		6,	op_device },
	{ "uffd close",		6,	op_uffd_close },

	{ "uring",		40,	op_uring },
	{ "uring closed",	10,	op_uring_closed },
	{ "uring fork",		10,	op_uring_fork },
	{ "uring inherit",	5,	op_uring_inherit },
	{ "uring die",		8,	op_uring_die },
	{ "uring invalid",	10,	op_uring_invalid },
	{ "uring drop",		8,	op_uring_drop },

	{ "threads",		12,	op_threads },
	{ "liar",		6,	op_liar },
	{ "exec",		1,	op_exec },
	{ "exit",		2,	op_exit },
	{ "kill",		4,	op_kill },
	{ "reap",		20,	op_reap },
	{ "timer",		6,	op_timer },
};

const unsigned int nr_operations = ARRAY_SIZE(operations);
_Static_assert(ARRAY_SIZE(operations) <= MAX_OPERATIONS, "a counter for each");

/**
 * choose_operation - what to do next
 * @burst: only what makes a difference between relatives
 *
 * Return: a place in the table.
 */
unsigned int choose_operation(bool burst)
{
	unsigned int n = burst ? BURST_OPERATIONS : nr_operations;
	unsigned int i, sum = 0, at;

	for (i = 0; i < n; i++)
		sum += operations[i].weight;
	at = below(sum);
	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	return i;
}
