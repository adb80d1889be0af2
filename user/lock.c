/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Slow paths of the futex mutex, and the rank check of MESH_DEBUG builds: each
 * thread keeps a bit for each rank it holds.
 */
#include "lock.h"
#include "message.h"
#include "os.h"

/* Short critical sections: look this often before sleeping. */
#define SPINS	64

MESH_TLS bool lock_fork_owner;

static void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* Whoever finds 0 in here takes the lock as 2: somebody else may be waiting. */
MESH_NOINLINE void lock_wait(struct lock *l)
{
	int i;

	for (i = 0; i < SPINS; i++) {
		uint32_t free = 0;

		if (atomic_load_explicit(&l->word, memory_order_relaxed) == 0 &&
		    atomic_compare_exchange_weak_explicit(&l->word, &free, 1,
				memory_order_acquire, memory_order_relaxed))
			return;
		cpu_relax();
	}
	while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire) != 0)
		os_futex_wait(&l->word, 2, NULL);
}

MESH_NOINLINE void lock_wake(struct lock *l)
{
	os_futex_wake(&l->word, 1);
}

#ifdef MESH_DEBUG

static MESH_TLS uint32_t held;
static MESH_TLS bool only_in_mesh;

/* The calling thread takes locks of a rank after LOCK_MESH only while it holds that, or not so. */
void lock_only_in_mesh(bool on)
{
	only_in_mesh = on;
}

void lock_rank_push(const struct lock *l)
{
	uint32_t bit = 1U << l->rank;

	if (only_in_mesh && l->rank > LOCK_MESH && !(held & 1U << LOCK_MESH))
		fatal("lock of rank %u taken by the daemon while the program may fork", l->rank);

	/* bits above: locks that must be taken later */
	if (held & ~(bit | (bit - 1)))
		fatal("lock of rank %u taken after one of a higher rank (%x)", l->rank,
		      held);
	if (held & bit)
		fatal("two locks of rank %u taken at once", l->rank);
	held |= bit;
}

void lock_rank_pop(const struct lock *l)
{
	uint32_t bit = 1U << l->rank;

	if (!(held & bit))
		fatal("lock of rank %u released but not held", l->rank);
	held &= ~bit;
}

#endif
