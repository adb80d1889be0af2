/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * pressure.c: triggers of pressure stall information.
 *
 * See Documentation/accounting/psi.rst of the kernel. A kernel may be built or booted
 * without, and older ones only let the privileged write to these files: all that is a reason
 * to do without, no error.
 *
 * Threads: any, no state.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "message.h"
#include "os.h"
#include "pressure.h"
#include "proc.h"

/*
 * Some task has waited for memory for a tenth of the time. Who is not privileged can only
 * ask for windows of whole multiples of two seconds. There is one event in a window at most.
 */
static const char trigger[] = "some 200000 2000000";

#define CGROUP_ROOT	"/sys/fs/cgroup"
#define CGROUP_FILE	"memory.pressure"
#define SYSTEM_FILE	"/proc/pressure/memory"

/* The terminating NUL is written, too: the kernel puts its own there. */
static int open_trigger(const char *path)
{
	int fd = os_open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	long ret;

	if (fd < 0)
		return fd;
	ret = os_write(fd, trigger, sizeof(trigger));
	if (ret >= 0)
		return fd;
	os_close(fd);
	return (int)ret;
}

/* The line of the unified hierarchy in /proc/self/cgroup is "0::PATH". */
static char *own_cgroup(char *text)
{
	char *line, *next;

	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!strncmp(line, "0::/", 4))
			return line + 3;
	}
	return NULL;
}

static int open_own(void)
{
	char text[4096], path[sizeof(text) + sizeof(CGROUP_ROOT "/" CGROUP_FILE)];
	struct text t = { .fd = -1, .size = sizeof(path) - 1, .buf = path };
	long ret = proc_read("/proc/self/cgroup", text, sizeof(text));
	char *group;

	if (ret < 0)
		return (int)ret;
	group = own_cgroup(text);
	if (!group)
		return -ENOENT;
	text_printf(&t, "%s%s/%s", CGROUP_ROOT, group, CGROUP_FILE);
	path[t.len] = '\0';
	return open_trigger(path);
}

int pressure_open(void)
{
	int fd = open_own();

	return fd >= 0 ? fd : open_trigger(SYSTEM_FILE);
}
