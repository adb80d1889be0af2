/* SPDX-License-Identifier: GPL-2.0-only */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Everything that differs between the supported kernels, included before every
 * source file by Kbuild. The sources themselves read as if written for the newest
 * kernel. MH_HAVE_* come from the Kbuild file: whether something exists is
 * asked of the kernel's headers, never concluded from a version.
 */
#ifndef MH_COMPAT_H
#define MH_COMPAT_H

#include <linux/fs.h>
#ifdef MH_HAVE_IO_URING_CMD_H
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#endif
#include <linux/highmem.h>
#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/swap.h>

#ifdef MH_HAVE_LEAFOPS_H
#include <linux/leafops.h>
#else
#include <linux/swapops.h>
#endif

#ifdef MH_HAVE_FOLIO_BATCH_H
#include <linux/folio_batch.h>
#else
#include <linux/pagevec.h>
#endif

#ifdef MH_HAVE_PAGEVEC_RELEASE
/* A batch of folios was the same thing as a batch of pages. */
#define __folio_batch_release(batch)	__pagevec_release((struct pagevec *)(batch))
#endif

/* Elsewhere it is a stub that answers 0. */
#define MH_HAVE_PTE_PGPROT	(IS_ENABLED(CONFIG_X86) || IS_ENABLED(CONFIG_ARM64))

#ifndef MH_HAVE_VM_FLAGS_SET
static inline void vm_flags_init(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags = flags;
}

static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#ifndef CONFIG_USERFAULTFD
#define __VM_UFFD_FLAGS	VM_NONE
#endif

/* No guard pages in mappings of files, or no flag that tells. */
#ifndef VM_MAYBE_GUARD
#define VM_MAYBE_GUARD	VM_NONE
#endif

#ifdef MH_HAVE_LEAFOPS_H
static inline bool mh_pte_is_migration(pte_t entry)
{
	return softleaf_is_migration(softleaf_from_pte(entry));
}
#else
static inline bool mh_pte_is_migration(pte_t entry)
{
	return is_swap_pte(entry) && is_migration_entry(pte_to_swp_entry(entry));
}
#endif

#ifndef MH_HAVE_VMA_START_WRITE
/* All page faults hold mmap_lock. */
static inline void vma_start_write(struct vm_area_struct *vma)
{
}
#endif

/*
 * Where a command's payload is: in the SQE, or in a copy that io_uring has made of
 * it. The newest kernel's io_uring_sqe_cmd() is the same, but takes a type.
 */
#ifdef MH_HAVE_IO_URING_CMD_H
#define mh_uring_payload(ioucmd)	((const void *)(ioucmd)->sqe->cmd)
#else
#define mh_uring_payload(ioucmd)	((ioucmd)->cmd)
#endif

#ifndef MH_HAVE_IO_URING_F_CANCEL
/* Never set: such a kernel does not ask for commands to be cancelled. */
#define IO_URING_F_CANCEL	0
#endif

#ifndef IORING_URING_CMD_MASK
#define IORING_URING_CMD_MASK	IORING_URING_CMD_FIXED
#endif

#ifndef MH_HAVE_FOLIO_MAPCOUNT
/* There, but not for modules. Of no huge mappings, which arenas do not have. */
static inline int mh_folio_mapcount(struct folio *folio)
{
	int mapcount = 0;
	long i;

	for (i = 0; i < folio_nr_pages(folio); i++)
		mapcount += page_mapcount(folio_page(folio, i));
	return mapcount;
}

#define folio_mapcount	mh_folio_mapcount
#endif

#ifdef MH_HAVE_APPLY_TO_EXISTING_PAGE_RANGE
#define MH_APPLY_MAKES_TABLES	false
#else
/* Makes the page tables that are missing, too. */
#define MH_APPLY_MAKES_TABLES	true
#define apply_to_existing_page_range	apply_to_page_range
#endif

#ifndef CONFIG_MEMCG
#define mem_cgroup_from_task(task)	((struct mem_cgroup *)NULL)
#endif

#ifndef MH_HAVE_MEM_CGROUP_TRYGET
static inline bool mem_cgroup_tryget(struct mem_cgroup *memcg)
{
#ifdef CONFIG_MEMCG
	return !memcg || css_tryget(&memcg->css);
#else
	return true;
#endif
}
#endif

/* Survives memory errors where the kernel can. Return: is the copy incomplete? */
#ifndef MH_HAVE_COPY_MC_HIGHPAGE
static inline int copy_mc_highpage(struct page *to, struct page *from)
{
	copy_highpage(to, from);
	return 0;
}
#endif

/* May the process have memory pinned for I/O? Before 6.3 direct I/O leaves no mark. */
static inline bool mh_mm_has_pinned(struct mm_struct *mm)
{
#ifndef MH_HAVE_EXTRACT_PAGES
	return true;
#elif defined(MH_HAVE_MM_FLAGS_TEST)
	return mm_flags_test(MMF_HAS_PINNED, mm);
#else
	return test_bit(MMF_HAS_PINNED, &mm->flags);
#endif
}

#ifndef MH_HAVE_REPLACE_PAGE_CACHE_FOLIO
#define replace_page_cache_folio(old, new)	replace_page_cache_page(&(old)->page, &(new)->page)
#endif

#ifndef MH_HAVE_ZAP_VMA_RANGE
/* Where nothing that works on one VMA is exported, relatives lose their entries, too. */
static inline void zap_vma_range(struct vm_area_struct *vma, unsigned long addr,
				 unsigned long size)
{
#ifdef MH_HAVE_ZAP_PAGE_RANGE_SINGLE
	zap_page_range_single(vma, addr, size, NULL);
#else
	unmap_mapping_range(vma->vm_file->f_mapping,
			    ((loff_t)vma->vm_pgoff << PAGE_SHIFT) + addr - vma->vm_start, size, 0);
#endif
}
#endif

#ifndef MH_HAVE_SHMEM_GET_FOLIO
/* There, but not for modules. What they have instead clears every new page. */
static inline int mh_shmem_get_folio(struct inode *inode, pgoff_t index, loff_t write_end,
				     struct folio **folio, enum sgp_type sgp)
{
	struct address_space *mapping = inode->i_mapping;
	struct page *page;

	for (;;) {
		page = shmem_read_mapping_page_gfp(mapping, index, mapping_gfp_mask(mapping));
		if (IS_ERR(page))
			return PTR_ERR(page);
		*folio = page_folio(page);
		folio_lock(*folio);
		if ((*folio)->mapping == mapping)
			return 0;
		folio_unlock(*folio);
		folio_put(*folio);
	}
}

#define shmem_get_folio	mh_shmem_get_folio
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

#ifndef MH_HAVE_LIST_LRU_ADD_OBJ
/* Once the only way: memory cgroup and node are those of the item. */
#define list_lru_add_obj	list_lru_add
#define list_lru_del_obj	list_lru_del
#endif

/* Parameters of a list_lru_walk_cb: once with the lock of the list, which nobody needs here. */
#ifdef MH_HAVE_LRU_WALK_LOCK
#define MH_LRU_WALK_ARGS	struct list_head *entry, struct list_lru_one *list,	\
				spinlock_t *lock, void *arg
#else
#define MH_LRU_WALK_ARGS	struct list_head *entry, struct list_lru_one *list, void *arg
#endif

/* Registering allocates on older kernels, and can fail there. */
#ifdef MH_HAVE_SHRINKER_ALLOC
static inline int mh_shrinker_register(struct shrinker *shrinker)
{
	shrinker_register(shrinker);
	return 0;
}
#else
static inline struct shrinker *shrinker_alloc(unsigned int flags, const char *name)
{
	struct shrinker *shrinker = kzalloc(sizeof(*shrinker), GFP_KERNEL);

	if (shrinker) {
		shrinker->flags = flags;
		shrinker->seeks = DEFAULT_SEEKS;
	}
	return shrinker;
}

static inline int mh_shrinker_register(struct shrinker *shrinker)
{
	return register_shrinker(shrinker, "meshhelper");
}

/* Does nothing but free what is not registered. */
static inline void shrinker_free(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(shrinker);
}
#endif

/* Once a method of the address space, then a function that is told which one. */
#if !defined(MH_HAVE_MM_GET_UNMAPPED_AREA)
#define mm_get_unmapped_area(file, addr, len, pgoff, flags)	\
	(current->mm->get_unmapped_area(file, addr, len, pgoff, flags))
#elif !defined(MH_HAVE_GET_UNMAPPED_AREA_FILE)
#define mm_get_unmapped_area(file, addr, len, pgoff, flags)	\
	mm_get_unmapped_area(current->mm, file, addr, len, pgoff, flags)
#endif

#endif /* MH_COMPAT_H */
