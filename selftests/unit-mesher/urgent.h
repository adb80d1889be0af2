/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * urgent.h: a descriptor that has POLLPRI when the test wants it, in place of one for
 * memory pressure: the master of a pseudo terminal in packet mode, which wakes who polls it
 * in the same way. (io_uring ignores urgent data of sockets.) Unlike the real one it has
 * POLLPRI until it is read.
 */
#ifndef URGENT_H
#define URGENT_H

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "check.h"

static atomic_int urgent_number = -1;

/* The end to be polled. */
static inline int urgent_open(void)
{
	int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	int on = 1, off = 0;
	unsigned int number;

	CHECK(fd >= 0);
	CHECK(!ioctl(fd, TIOCPKT, &on));
	CHECK(!ioctl(fd, TIOCSPTLCK, &off));
	CHECK(!ioctl(fd, TIOCGPTN, &number));
	atomic_store(&urgent_number, (int)number);
	return fd;
}

/* The other end of what some thread opens, which is waited for. */
static inline int urgent_other_end(void)
{
	char path[32];
	int fd;

	while (atomic_load(&urgent_number) < 0)
		usleep(1000);
	snprintf(path, sizeof(path), "/dev/pts/%d", atomic_exchange(&urgent_number, -1));
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

/* Give the polled end POLLPRI; take it away again; give it POLLHUP for ever. */
static inline void urgent_send(int other_end)
{
	CHECK(!tcflush(other_end, TCIFLUSH));
}

static inline void urgent_read(int fd)
{
	char c;

	CHECK(read(fd, &c, 1) == 1);
}

static inline void urgent_hang_up(int other_end)
{
	CHECK(!close(other_end));
}

#endif /* URGENT_H */
