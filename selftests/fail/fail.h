/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * fail.h: system calls of the library that fail on demand.
 *
 * Included in front of user/os.c, by an option of the compiler: each of its system calls goes
 * through fail_sys6() then. Programs include it to say which one shall fail. It brings no header
 * of the system along, for os.c says first what it wants of those.
 */
#ifndef FAIL_H
#define FAIL_H

#ifdef FAIL_IN_OS
#define sys6	kernel_sys6
#include "os_syscall.h"
#undef sys6
#define sys6	fail_sys6
#endif

long fail_sys6(long nr, long a, long b, long c, long d, long e, long f);

enum fail_how {
	FAIL_ONCE,	/* one call, with an error that it may well have */
	FAIL_BURST,	/* some calls in a row, so also what is done about the first one */
	FAIL_EVER,	/* and all later ones of the same kind, until fail_disarm() */
	FAIL_FILTER,	/* the same, but refused as by a seccomp filter */
	FAIL_HOLE,	/* one mapping over another, which is gone: as before Linux 6.12 */
	FAIL_LOST,	/* a batch of merges, which is made, but nobody hears of it */
};

/* Of the @nth call from now on that can fail so. */
void fail_arm(enum fail_how how, unsigned long nth);

/* No call fails any more. */
void fail_disarm(void);

/* The number of the call that has failed first since fail_arm(), or -1. */
long fail_fired(void);

/* Calls since fail_arm() that could have failed, in all threads. */
unsigned long fail_counted(void);

#endif /* FAIL_H */
