/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * daemon.h: the thread that meshes and gives memory back.
 *
 * One thread per process, started when the heap is large enough to be worth it.
 * While it has nothing to gain it sleeps until enough has been freed, and looks around
 * ever more rarely. A child of fork starts without one.
 *
 * Who may call what:
 *	daemon_poke()		malloc's slow path, with no lock held
 *	daemon_note_free()	any thread, under any lock: it only makes a tgkill(2)
 *	daemon_trim()		malloc_trim(), with no lock held
 *	daemon_thread_exit()	the thread-exit destructor, with no lock held
 *	daemon_thread_leaves(), _restricts()
 *				any thread, under any lock
 *	daemon_fork_prepare(), _parent(), _child()
 *				the atfork handlers; prepare comes before every other
 *				lock of the heap is taken, parent and child after all
 *				of them are released
 *	daemon_fork_bare_child() what has just been forked without those, before
 *				anything else; after mesher_fork_prepare(), whose lock it
 *				has or not
 */
#ifndef MESH_DAEMON_H
#define MESH_DAEMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Set when the arena has outgrown MESH_START_KIB and there is no daemon yet. */
extern atomic_bool daemon_wanted;

/*
 * What came back to the heap, in slots and free pages, and the value at which a
 * daemon that sleeps without a timer is to be woken.
 */
extern atomic_ulong daemon_frees;
extern atomic_ulong daemon_wake_at;

void daemon_start(void);
void daemon_wake(void);

/**
 * daemon_kick() - have the daemon look for requests, if there is one
 *
 * Safe in signal handlers.
 */
void daemon_kick(void);

/**
 * daemon_heap_grown() - one of the areas now has @bytes of memory mapped
 *
 * Under the lock of the page heap; decides whether a daemon is wanted.
 */
void daemon_heap_grown(size_t bytes);

/**
 * daemon_poke() - start the daemon if it is time
 *
 * Keeps errno.
 */
static inline void daemon_poke(void)
{
	if (__builtin_expect(atomic_load_explicit(&daemon_wanted,
						  memory_order_relaxed), 0))
		daemon_start();
}

/**
 * daemon_note_free() - @n slots came back to a central list, or @n pages became
 * free
 *
 * Makes the daemon look around again. Keeps errno.
 */
static inline void daemon_note_free(unsigned long n)
{
	/* The order of these two pairs with the one in daemon.c:doze(). */
	unsigned long frees = atomic_fetch_add(&daemon_frees, n) + n;

	if (__builtin_expect(frees >= atomic_load(&daemon_wake_at), 0))
		daemon_wake();
}

/**
 * daemon_trim() - mesh and give back all that can be, now
 *
 * Waits, for a bounded time, until a pass that began after the call is complete.
 *
 * Return: true if memory was given back.
 */
bool daemon_trim(void);

/**
 * daemon_trim_pending() - is somebody waiting in daemon_trim()?
 */
bool daemon_trim_pending(void);

/**
 * daemon_thread_exit() - the calling thread is about to end
 *
 * A process whose main thread has called pthread_exit() ends with its last
 * thread, which must not be the daemon: it ends together with the main thread.
 */
void daemon_thread_exit(void);

/**
 * daemon_thread_leaves() - the calling thread is about to end, by a system call
 *
 * Waits for the daemon as daemon_thread_exit() does, but not for long: in a signal handler it
 * may have interrupted what the daemon waits for. Only the main thread makes system calls here.
 */
void daemon_thread_leaves(void);

/**
 * daemon_thread_restricts() - the calling thread is about to be allowed no system call but its end
 *
 * If it is the main thread there is no daemon afterwards, which it could neither wake nor send
 * away. Waits as daemon_thread_leaves() does.
 */
void daemon_thread_restricts(void);

void daemon_fork_prepare(void);
void daemon_fork_parent(void);
void daemon_fork_child(void);
void daemon_fork_bare_child(bool held);

#endif /* MESH_DAEMON_H */
