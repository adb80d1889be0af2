/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* deny.h: make system calls fail, for the rest of a thread's or this process' life. */
#ifndef DENY_H
#define DENY_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "check.h"

/* What becomes of a call, with the low half of its second argument or, if @any, with all. */
static inline void filter(unsigned int nr, bool any, unsigned int second, unsigned int action,
			  unsigned int flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, any ? 0 : 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {
		.len = sizeof(code) / sizeof(*code),
		.filter = code,
	};

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog));
}

/* For the calling thread and those that it starts. */
static inline void deny(unsigned int nr, unsigned int err)
{
	filter(nr, true, 0, SECCOMP_RET_ERRNO | err, 0);
}

static inline void deny_ioctl(unsigned int request, unsigned int err)
{
	filter(SYS_ioctl, false, request, SECCOMP_RET_ERRNO | err, 0);
}

/* For all threads. */
static inline void deny_everywhere(unsigned int nr, unsigned int err)
{
	filter(nr, true, 0, SECCOMP_RET_ERRNO | err, SECCOMP_FILTER_FLAG_TSYNC);
}

/* SIGSYS for whoever makes the call. */
static inline void trap_everywhere(unsigned int nr)
{
	filter(nr, true, 0, SECCOMP_RET_TRAP, SECCOMP_FILTER_FLAG_TSYNC);
}

#endif /* DENY_H */
