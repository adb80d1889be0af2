/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * pace.h: what the daemon does, and when.
 */
#ifndef MESH_PACE_H
#define MESH_PACE_H

#include <stdbool.h>
#include <stdint.h>

/**
 * pace_run() - the daemon's work, until mesher_quit is set
 * @kick_fd: readable when somebody wants something; emptied and closed here
 *
 * Opens the backend and the loop, both in the caller's descriptor table.
 */
void pace_run(int kick_fd);

/* Answered by daemon.c. */
uint32_t daemon_trims_asked(void);
void daemon_trims_done(uint32_t asked);

#endif /* MESH_PACE_H */
