// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * deny SYSCALL ERROR COMMAND...: run a command for which a system call always fails,
 * as container runtimes do it by seccomp.
 *
 * SYSCALL is io_uring_setup or userfaultfd, ERROR is EPERM or ENOSYS. Under
 * userfaultfd, /dev/userfaultfd is not covered: it has its own permissions.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int syscall_number(const char *name)
{
	if (!strcmp(name, "io_uring_setup"))
		return SYS_io_uring_setup;
	if (!strcmp(name, "userfaultfd"))
		return SYS_userfaultfd;
	return -1;
}

static int error_number(const char *name)
{
	if (!strcmp(name, "EPERM"))
		return EPERM;
	if (!strcmp(name, "ENOSYS"))
		return ENOSYS;
	return -1;
}

static int install(int number, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
		.len = sizeof(code) / sizeof(code[0]),
		.filter = code,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	if (argc < 4 || syscall_number(argv[1]) < 0 || error_number(argv[2]) < 0) {
		fputs("usage: deny io_uring_setup|userfaultfd EPERM|ENOSYS COMMAND...\n", stderr);
		return 2;
	}
	if (install(syscall_number(argv[1]), error_number(argv[2]))) {
		perror("deny: seccomp");
		return 2;
	}
	execvp(argv[3], argv + 3);
	perror(argv[3]);
	return 2;
}
