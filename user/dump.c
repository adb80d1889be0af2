/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Statistics on signals, see dump.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon.h"
#include "dump.h"
#include "options.h"
#include "stats.h"

static atomic_bool stats_wanted;
static atomic_bool histogram_wanted;

/* What is called here is a tgkill(2) at most. */
static void take_note(int sig)
{
	int saved_errno = errno;

	atomic_store(sig == SIGUSR1 ? &stats_wanted : &histogram_wanted, true);
	daemon_kick();
	errno = saved_errno;
}

static void handle(int sig)
{
	struct sigaction old, new = { .sa_handler = take_note, .sa_flags = SA_RESTART };

	if (!sigaction(sig, NULL, &old) && old.sa_handler == SIG_DFL)
		sigaction(sig, &new, NULL);
}

void dump_init(void)
{
	if (!options.dump_signals)
		return;
	handle(SIGUSR1);
	handle(SIGUSR2);
}

void dump_serve(void)
{
	if (atomic_exchange(&stats_wanted, false))
		stats_daemon_dump(2);
	if (atomic_exchange(&histogram_wanted, false))
		stats_histogram_dump(2);
}
