/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Processes that act in steps, which they give each other by pipes.
 */
#ifndef SELFTESTS_KMOD_PEER_H
#define SELFTESTS_KMOD_PEER_H

#include "arena.h"

#include <sys/wait.h>

static inline void tell(int fd)
{
	if (write(fd, "x", 1) != 1)
		die("write");
}

static inline void hear(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		die("read");
}

static inline int exit_code(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif /* SELFTESTS_KMOD_PEER_H */
