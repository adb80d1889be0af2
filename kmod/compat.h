/* SPDX-License-Identifier: GPL-2.0-only */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Everything that differs between the supported kernels, included before every
 * source file by the Makefile. The sources themselves read as if written for the
 * newest kernel. MH_HAVE_* come from the Kbuild file: whether something exists is
 * asked of the kernel's headers, never concluded from a version.
 */
#ifndef MH_COMPAT_H
#define MH_COMPAT_H

#include <linux/mm.h>
#include <linux/shmem_fs.h>

#ifdef MH_HAVE_FOLIO_BATCH_H
#include <linux/folio_batch.h>
#else
#include <linux/pagevec.h>
#endif

#ifdef MH_HAVE_PAGEVEC_RELEASE
/* A batch of folios was the same thing as a batch of pages. */
#define __folio_batch_release(batch)	__pagevec_release((struct pagevec *)(batch))
#endif

#ifndef MH_HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#ifndef MH_HAVE_FOLIO_MAPCOUNT
/* There, but not for modules. Only asked of folios of one page. */
#define folio_mapcount(folio)	page_mapcount(&(folio)->page)
#endif

#ifdef MH_HAVE_SHMEM_VMA_FLAGS
/* Takes VMA flags as a bitmap, unlike anything else that is used here. */
#define shmem_file_setup_with_mnt(mnt, name, size, flags)	\
	shmem_file_setup_with_mnt(mnt, name, size, legacy_to_vma_flags(flags))
#endif

#ifndef MH_HAVE_WQ_PERCPU
/* What a workqueue was unless it asked for WQ_UNBOUND. */
#define WQ_PERCPU	0
#endif

#endif /* MH_COMPAT_H */
