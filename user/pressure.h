/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * pressure.h: being told that memory is short.
 */
#ifndef MESH_PRESSURE_H
#define MESH_PRESSURE_H

/**
 * pressure_open() - have the kernel tell when programs wait for memory
 *
 * In the process's own cgroup if it has a file for it, in the whole system if not.
 *
 * Return: a descriptor that has POLLPRI, once, when that has happened, and POLLERR for ever
 * when its cgroup has gone; or -errno.
 */
int pressure_open(void);

#endif /* MESH_PRESSURE_H */
