/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * dump LOG [own]: sends itself SIGUSR1, then SIGUSR2, and waits until standard error, which
 * is LOG, has what MESH_DUMP_SIGNALS=1 promises. With "own" it handles both itself, and
 * nothing must be printed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "check.h"

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	(void)sig;
	handled++;
}

static int log_has(const char *path, const char *text)
{
	static char buf[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return strstr(buf, text) != NULL;
}

static void await(const char *path, const char *text)
{
	for (int i = 0; i < 1000 && !log_has(path, text); i++)
		usleep(10000);
	CHECK(log_has(path, text));
}

int main(int argc, char **argv)
{
	static void *keep[1000];
	int own = argc > 2;

	CHECK(argc > 1);
	if (own) {
		signal(SIGUSR1, handler);
		signal(SIGUSR2, handler);
	}
	for (int i = 0; i < 1000; i++)
		keep[i] = opaque(malloc(100 + (size_t)i % 900));
	raise(SIGUSR1);
	if (!own)
		await(argv[1], "= pages of spans");
	raise(SIGUSR2);
	if (!own)
		await(argv[1], "eighths of their slots in use");
	for (int i = 0; i < 1000; i++)
		free(keep[i]);
	if (own) {
		usleep(300000);
		CHECK(handled == 2);
		CHECK(!log_has(argv[1], "libmesh"));
	}
	return 0;
}
