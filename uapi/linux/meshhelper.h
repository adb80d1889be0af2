/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * meshhelper: merging of half-empty pages of one process.
 *
 * A mapping of /dev/meshhelper is an arena: private, zero-filled memory of the
 * process, in which two page ranges (spans) whose live slots do not collide can
 * be told to share physical pages. Documentation/uapi.rst explains the protocol.
 *
 * An arena is created by every
 *
 *	mmap(addr, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
 *
 * and lives as long as it is mapped; the descriptor may be closed at once. It
 * grows by mremap(2) in place, pages are given back by madvise(MADV_REMOVE), and
 * after fork parent and child each go on with what there was: pages are shared until
 * one of them writes, and no process ever sees what another has written since.
 *
 * The requests below act on the arenas of the calling process, through any
 * descriptor of the device: they name addresses, never files.
 */
#ifndef _UAPI_LINUX_MESHHELPER_H
#define _UAPI_LINUX_MESHHELPER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Version of this interface; only grows, and old requests keep their meaning. */
#define MESHHELPER_ABI_VERSION		1

/* Most slots a span may have, and the words that hold one bit for each. */
#define MESHHELPER_MAX_SLOTS		256
#define MESHHELPER_LIVE_WORDS		(MESHHELPER_MAX_SLOTS / 64)

/* Most pages one span may have. */
#define MESHHELPER_MAX_SPAN_PAGES	8

/* Most pairs one request may carry. */
#define MESHHELPER_MAX_PAIRS		1024

/*
 * MESHHELPER_F_UFFD_WP
 *	The running kernel can write-protect arena pages through userfaultfd with
 *	UFFD_FEATURE_WP_ASYNC, so the MERGE mode MESHHELPER_MERGE_ARMED is of use.
 *	Without it only MESHHELPER_MERGE_ZAP keeps writers out.
 */
#define MESHHELPER_F_UFFD_WP		(1ULL << 0)

/*
 * MESHHELPER_F_ZAP
 *	MESHHELPER_MERGE_ZAP is supported.
 */
#define MESHHELPER_F_ZAP		(1ULL << 1)

/*
 * MESHHELPER_F_REMOVE
 *	madvise(MADV_REMOVE) on an arena gives pages back, aliases included.
 */
#define MESHHELPER_F_REMOVE		(1ULL << 2)

/*
 * MESHHELPER_F_URING_CMD
 *	The requests are taken as io_uring commands, too: see struct
 *	meshhelper_uring_cmd.
 */
#define MESHHELPER_F_URING_CMD		(1ULL << 3)

#define MESHHELPER_F_ALL	(MESHHELPER_F_UFFD_WP | MESHHELPER_F_ZAP | \
				 MESHHELPER_F_REMOVE | MESHHELPER_F_URING_CMD)

/**
 * struct meshhelper_info - answer of MESHHELPER_IOC_INFO
 * @abi_version: MESHHELPER_ABI_VERSION of the module
 * @page_size: bytes in a page
 * @features: MESHHELPER_F_* bits; never guess them from a kernel version
 * @max_pairs: most pairs in one struct meshhelper_batch
 * @max_span_pages: most pages in one span
 * @max_arena_pages: limit on the pages of one arena; mmap() wants fewer than that
 * @reserved: zero
 */
struct meshhelper_info {
	__u32 abi_version;
	__u32 page_size;
	__u64 features;
	__u32 max_pairs;
	__u32 max_span_pages;
	__u64 max_arena_pages;
	__u64 reserved[4];
};

/**
 * struct meshhelper_pair - one pair of spans to be merged
 * @src: address of the span that gives up its pages
 * @dst: address of the span whose pages both will use
 * @pages: pages in each of the two spans, 1 to MESHHELPER_MAX_SPAN_PAGES
 * @slot_size: bytes in a slot; slot i is at offset i * @slot_size of its span
 * @result: written back: 0 merged (or armed); otherwise a negative errno, and
 *	both spans are as they were:
 *
 *	* -EAGAIN: a page of @src was written since it was armed, or never armed
 *	* -ETXTBSY: a page of @src is pinned: a device, or another process, reads or
 *	  writes it by its physical address until it says that it is done
 *	* -EBUSY: a page is in use by a pipe, by I/O that does not pin its buffers, or
 *	  by something else inside the kernel; this often passes in a moment
 *	* -EUSERS: a page is shared with a relative since fork; that saves as much
 *	* -ENOENT: too few of the pages exist, so there is nothing to gain; ARM: none
 *	  of @src exists
 *	* -EEXIST: the two spans share their pages already
 *	* -EINVAL: misaligned, overlapping, or a slot that is not inside the span
 *	* -EFAULT: an address outside the arenas of the caller, or a span that is in
 *	  more than one mapping, as mprotect(2) and the like may make of it
 *	* -EXDEV: the spans are in different arenas
 *	* -EPERM: a page is locked into memory, by mlock(2) or mlockall(2)
 *	* -EOPNOTSUPP: a page is part of a large folio
 *	* -EMLINK: more spans than supported would share pages
 *	* -ENOMEM: no memory for the bookkeeping, or to bring a page in from swap
 *	* -EIO: a page was lost to a memory error, or cannot be read from swap
 *	* -EINTR: a fatal signal came before this pair's turn, or the io_uring
 *	  request was cancelled
 * @flags: zero
 * @live: bit i set: slot i of @src, or of any span that shares @src's pages, is
 *	in use and is copied. Slots not set are lost. A slot that is in use in
 *	@dst or in what shares its pages must not be set.
 */
struct meshhelper_pair {
	__u64 src;
	__u64 dst;
	__u32 pages;
	__u32 slot_size;
	__s32 result;
	__u32 flags;
	__u64 live[MESHHELPER_LIVE_WORDS];
};

/*
 * MESHHELPER_MERGE_ARMED
 *	Writers are kept out by userfaultfd: the caller has armed the pairs
 *	(MESHHELPER_IOC_ARM) and then write-protected every address range that
 *	shares @src's pages (UFFDIO_WRITEPROTECT). Readers go on during the copy.
 *	A pair that was written to in between is left alone (-EAGAIN).
 */
#define MESHHELPER_MERGE_ARMED		(1U << 0)

/*
 * MESHHELPER_MERGE_ZAP
 *	Writers are kept out by removing the page table entries before the copy;
 *	readers and writers wait for one copy. Needs no ARM and no userfaultfd.
 */
#define MESHHELPER_MERGE_ZAP		(1U << 1)

/**
 * struct meshhelper_batch - argument of MESHHELPER_IOC_ARM and _MERGE
 * @pairs: user address of an array of struct meshhelper_pair
 * @nr_pairs: elements in the array, 1 to MESHHELPER_MAX_PAIRS
 * @flags: MERGE: exactly one of MESHHELPER_MERGE_*; ARM: zero
 * @nr_done: written back: pairs whose @result is 0
 * @reserved: zero
 * @pss_saved: written back: bytes by which the batch lowered the
 *	proportional set size the caller has when all its pages are mapped
 * @reserved2: zero
 *
 * The ioctl itself fails only when the batch as a whole makes no sense (-EINVAL,
 * -EFAULT) or there is no memory for a copy of it (-ENOMEM); what became of each
 * pair is in its @result. -EFAULT may also mean that results could not be written
 * back: pairs may have been merged then. With the other two nothing was done.
 */
struct meshhelper_batch {
	__u64 pairs;
	__u32 nr_pairs;
	__u32 flags;
	__u32 nr_done;
	__u32 reserved;
	__u64 pss_saved;
	__u64 reserved2[2];
};

#define MESHHELPER_IOC_MAGIC	0xB5

/* What the module and the running kernel can do. */
#define MESHHELPER_IOC_INFO	_IOR(MESHHELPER_IOC_MAGIC, 0x00, struct meshhelper_info)

/* Start to watch the pages of each pair's @src for writes; @dst, @live unused. */
#define MESHHELPER_IOC_ARM	_IOWR(MESHHELPER_IOC_MAGIC, 0x01, struct meshhelper_batch)

/* Merge each pair: @src's addresses show @dst's pages afterwards. */
#define MESHHELPER_IOC_MERGE	_IOWR(MESHHELPER_IOC_MAGIC, 0x02, struct meshhelper_batch)

/**
 * struct meshhelper_uring_cmd - a request as an io_uring command
 * @arg: user address of the argument the ioctl of the same number has
 * @reserved: zero
 *
 * It is at offset 48 of the SQE, "cmd", and fits one of 64 bytes; what a larger SQE
 * has after it is not looked at. The SQE's opcode is IORING_OP_URING_CMD, its
 * cmd_op one of MESHHELPER_IOC_*, its uring_cmd_flags zero. The completion has 0
 * or the negative errno of the ioctl (-ENOTTY: unknown cmd_op).
 *
 * The SQE may be reused when it was submitted; @arg and what it points to stay
 * the kernel's until the completion. A request acts on the process whose thread
 * submitted it, and with IORING_SETUP_SQPOLL on the one that made the ring.
 */
struct meshhelper_uring_cmd {
	__u64 arg;
	__u64 reserved;
};

#endif /* _UAPI_LINUX_MESHHELPER_H */
