// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Life of arenas, families and stores.
 *
 * mmap() of the device makes a store (a shmem file with seals and file operations
 * of ours), a family around it and the first arena. The store becomes the VMA's
 * file, so the pages of a process that never forked are in the reverse map like
 * any shmem page and can be swapped out. Each VMA holds a reference to its arena;
 * the family goes with the last VMA's file.
 */
#include <linux/file.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <uapi/linux/fcntl.h>

#include "meshhelper.h"

/*
 * Where stores live: a tmpfs of our own, so that shmem_enabled does not apply. A page
 * of a large folio cannot be merged, and one folio would span spare slots.
 */
static struct vfsmount *mh_stores;

static LIST_HEAD(mh_arenas);
static DEFINE_MUTEX(mh_arenas_lock);

int mh_arena_init(void)
{
	struct file_system_type *tmpfs = get_fs_type("tmpfs");
	char options[] = "huge=never";

	if (!tmpfs)
		return -ENODEV;
	mh_stores = vfs_kern_mount(tmpfs, SB_KERNMOUNT, tmpfs->name, options);
	return PTR_ERR_OR_ZERO(mh_stores);
}

void mh_arena_exit(void)
{
	kern_unmount(mh_stores);
}

static int mh_store_release(struct inode *inode, struct file *file)
{
	struct mh_family *family = file->private_data;

	if (family) {
		WARN_ON_ONCE(!list_empty(&family->arenas));
		kfree(family);
	}
	return 0;
}

/* No read, write, mmap: what is left is madvise(MADV_REMOVE), and msync() in vain. */
static const struct file_operations mh_store_fops = {
	.owner = THIS_MODULE,
	.fallocate = mh_fallocate,
	.fsync = noop_fsync,
	.release = mh_store_release,
};

/**
 * mh_store_create - make a shmem file that keeps an arena's pages
 *
 * The seals are for whoever opens it through /proc/PID/map_files, as plain shmem:
 * nobody may write to it, punch holes or truncate behind the alias map's back.
 *
 * Context: process; sleeps.
 * Return: the file, to be given back by fput(), or an ERR_PTR.
 */
struct file *mh_store_create(void)
{
	const struct file_operations *fops = &mh_store_fops;
	struct file *file;

	file = shmem_file_setup_with_mnt(mh_stores, "mesh-arena",
					 MH_MAX_ARENA_PAGES << PAGE_SHIFT, VM_NORESERVE);
	if (IS_ERR(file))
		return file;
	SHMEM_I(file_inode(file))->seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW |
					   F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
	/* fput() will drop this reference with the file's operations. */
	__module_get(THIS_MODULE);
	replace_fops(file, fops);
	return file;
}

/**
 * mh_arena_create - make an empty arena
 * @family: where it belongs
 * @mm: whose it will be
 * @store: its store; the arena takes a reference of its own
 *
 * The first reference belongs to the caller, who gives it to a VMA.
 * Context: process, mmap_lock of @mm held for writing; sleeps.
 * Return: the arena, or NULL when memory is out.
 */
struct mh_arena *mh_arena_create(struct mh_family *family, struct mm_struct *mm,
				 struct file *store)
{
	struct mh_arena *arena = kzalloc(sizeof(*arena), GFP_KERNEL_ACCOUNT);

	if (!arena)
		return NULL;
	kref_init(&arena->ref);
	mutex_init(&arena->lock);
	xa_init_flags(&arena->alias, XA_FLAGS_ACCOUNT);
	xa_init_flags(&arena->groups, XA_FLAGS_ACCOUNT);
	xa_init_flags(&arena->armed, XA_FLAGS_ACCOUNT);
	arena->family = family;
	arena->mm = mm;
	arena->store = get_file(store);

	mutex_lock(&family->lock);
	list_add(&arena->family_node, &family->arenas);
	mutex_unlock(&family->lock);
	mutex_lock(&mh_arenas_lock);
	list_add(&arena->node, &mh_arenas);
	mutex_unlock(&mh_arenas_lock);
	mh_count(MH_COUNT_arenas, 1);
	return arena;
}

/*
 * The last VMA is gone, so no page is mapped. The pages are freed here and not with
 * the store: relatives may keep the first store's file open for its reverse map.
 */
static void mh_arena_free(struct kref *ref)
{
	struct mh_arena *arena = container_of(ref, struct mh_arena, ref);

	mutex_lock(&mh_arenas_lock);
	list_del(&arena->node);
	mutex_unlock(&mh_arenas_lock);
	shmem_truncate_range(mh_store_inode(arena), 0, -1);
	mh_alias_destroy(arena);
	mh_count(MH_COUNT_pages_meshed, -atomic64_read(&arena->nr_meshed));
	mh_count(MH_COUNT_arenas, -1);
	fput(arena->store);
	kfree(arena);
}

static void mh_arena_unlist(struct kref *ref)
{
	struct mh_arena *arena = container_of(ref, struct mh_arena, ref);

	list_del(&arena->family_node);
	mutex_unlock(&arena->family->lock);
	mh_arena_free(ref);
}

/**
 * mh_arena_put - drop a reference
 * @arena: the arena; gone with its last reference
 *
 * Context: process, arena->lock and family->lock not held; sleeps. The caller
 * keeps the family alive, by a VMA or by the family's file.
 */
void mh_arena_put(struct mh_arena *arena)
{
	kref_put_mutex(&arena->ref, mh_arena_unlist, &arena->family->lock);
}

/**
 * mh_arena_of_mm - find a process's arena in a family
 * @family: the family
 * @mm: the process
 *
 * Return: the arena with a reference for the caller, or NULL.
 */
struct mh_arena *mh_arena_of_mm(struct mh_family *family, struct mm_struct *mm)
{
	struct mh_arena *arena, *found = NULL;

	mutex_lock(&family->lock);
	list_for_each_entry(arena, &family->arenas, family_node) {
		if (arena->mm == mm) {
			kref_get(&arena->ref);
			found = arena;
			break;
		}
	}
	mutex_unlock(&family->lock);
	return found;
}

static void mh_vm_close(struct vm_area_struct *vma)
{
	if (vma->vm_private_data)
		mh_arena_put(vma->vm_private_data);
}

/*
 * A huge page can only be mapped where virtual address and file offset agree modulo its
 * size. An arena's never do: MADV_COLLAPSE and khugepaged collapse the page cache of the
 * VMA's file, which has slots and not indices, and in a child is the parent's, and then
 * map the result without asking our fault handler.
 */
static bool mh_huge_fits(struct vm_area_struct *vma)
{
	return IS_ALIGNED((vma->vm_start >> PAGE_SHIFT) - vma->vm_pgoff,
			  PMD_SIZE >> PAGE_SHIFT);
}

static int mh_vm_mremap(struct vm_area_struct *vma)
{
	return mh_huge_fits(vma) ? -EINVAL : 0;
}

/*
 * There must be no map_pages: it would let faults in without mmap_lock, and fork relies
 * on keeping them out.
 */
const struct vm_operations_struct mh_vm_ops = {
	.open = mh_vm_open,
	.close = mh_vm_close,
	.mremap = mh_vm_mremap,
	.fault = mh_fault,
	.page_mkwrite = mh_page_mkwrite,
};

static struct mh_family *mh_family_create(struct file *store)
{
	struct mh_family *family = kzalloc(sizeof(*family), GFP_KERNEL_ACCOUNT);

	if (!family)
		return NULL;
	mutex_init(&family->lock);
	INIT_LIST_HEAD(&family->arenas);
	family->rmap = file_inode(store)->i_mapping;
	store->private_data = family;
	return family;
}

/**
 * mh_arena_mmap - mmap() of the device: a new arena
 * @file: the device
 * @vma: the mapping; its file becomes the arena's store
 *
 * Index 0 is not used where it would let huge pages in, see mh_huge_fits().
 *
 * Context: mmap_lock held for writing.
 * Return: 0; -EINVAL for a private mapping or an offset; -ENOMEM.
 */
int mh_arena_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct mh_arena *arena = NULL;
	struct mh_family *family;
	struct file *store;

	if (!(vma->vm_flags & VM_SHARED) || vma->vm_pgoff ||
	    vma_pages(vma) >= MH_MAX_ARENA_PAGES)
		return -EINVAL;
	store = mh_store_create();
	if (IS_ERR(store))
		return PTR_ERR(store);
	family = mh_family_create(store);
	if (family)
		arena = mh_arena_create(family, vma->vm_mm, store);
	if (arena) {
		vma_set_file(vma, store);
		vma->vm_ops = &mh_vm_ops;
		vma->vm_private_data = arena;
		vm_flags_set(vma, VM_NOHUGEPAGE);
		vma->vm_pgoff = mh_huge_fits(vma) ? 1 : 0;
	}
	fput(store);
	return arena ? 0 : -ENOMEM;
}

/**
 * mh_zap - remove all page table entries of some indices
 * @arena: the arena; relatives lose their entries of the same indices, too
 * @index: first index
 * @nr: how many
 *
 * Context: process; sleeps. Whether entries can come back at once is up to the
 * caller, who holds the folio's lock or has the removal window over them.
 */
void mh_zap(struct mh_arena *arena, pgoff_t index, unsigned long nr)
{
	unmap_mapping_range(arena->family->rmap, (loff_t)index << PAGE_SHIFT,
			    (loff_t)nr << PAGE_SHIFT, 0);
}

/* Is there a page, in memory or in swap? */
bool mh_slot_present(struct mh_arena *arena, pgoff_t slot)
{
	return xa_load(&mh_store_mapping(arena)->i_pages, slot);
}

/**
 * mh_slot_page - get a slot's page, from swap or zero-filled if need be
 * @arena: the arena
 * @slot: page of the store
 *
 * Context: process; sleeps, allocates from the caller's memory cgroup.
 * Return: the page with a reference, not locked; or an ERR_PTR.
 */
struct page *mh_slot_page(struct mh_arena *arena, pgoff_t slot)
{
	struct address_space *mapping = mh_store_mapping(arena);

	return shmem_read_mapping_page_gfp(mapping, slot, mapping_gfp_mask(mapping));
}

/**
 * mh_arena_show - write what a process's arenas hold to an fdinfo file
 * @m: where to
 * @mm: the process
 */
void mh_arena_show(struct seq_file *m, struct mm_struct *mm)
{
	u64 arenas = 0, resident = 0, meshed = 0, merged = 0;
	struct mh_arena *arena;

	mutex_lock(&mh_arenas_lock);
	list_for_each_entry(arena, &mh_arenas, node) {
		if (arena->mm != mm)
			continue;
		arenas++;
		resident += READ_ONCE(mh_store_mapping(arena)->nrpages);
		meshed += atomic64_read(&arena->nr_meshed);
		merged += atomic64_read(&arena->nr_merged);
	}
	mutex_unlock(&mh_arenas_lock);
	seq_printf(m, "mesh-arenas:\t%llu\n", arenas);
	seq_printf(m, "mesh-resident:\t%llu KiB\n", resident << (PAGE_SHIFT - 10));
	seq_printf(m, "mesh-saved:\t%llu KiB\n", meshed << (PAGE_SHIFT - 10));
	seq_printf(m, "mesh-merged-total:\t%llu pages\n", merged);
}
