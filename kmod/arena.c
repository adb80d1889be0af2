// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Life of arenas and families.
 *
 * mmap() of the device makes a store, a family around it, and the first arena with its
 * layer. The store becomes the VMA's file. Each VMA holds a reference to its arena;
 * the family goes with the last VMA's file, or with the last look at its arenas after that.
 */
#include <linux/file.h>
#include <linux/mman.h>
#include <linux/slab.h>

#include "meshhelper.h"

static LIST_HEAD(mh_arenas);
static DEFINE_MUTEX(mh_arenas_lock);

/**
 * mh_arena_create - make an arena without a layer
 * @family: where it belongs
 * @mm: whose it will be
 *
 * It is in no list yet. The first reference belongs to the caller, who gives it to a VMA.
 * Context: process; sleeps.
 * Return: the arena, or NULL when memory is out.
 */
struct mh_arena *mh_arena_create(struct mh_family *family, struct mm_struct *mm)
{
	struct mh_arena *arena = kzalloc(sizeof(*arena), GFP_KERNEL_ACCOUNT);

	if (!arena)
		return NULL;
	kref_init(&arena->ref);
	mutex_init(&arena->lock);
	xa_init_flags(&arena->armed, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&arena->family_node);
	INIT_LIST_HEAD(&arena->node);
	arena->family = family;
	arena->mm = mm;
	return arena;
}

/**
 * mh_arena_publish - let an arena be found
 * @arena: new, with its layer
 *
 * Context: process; sleeps. No lock of the family held.
 */
void mh_arena_publish(struct mh_arena *arena)
{
	mutex_lock(&mh_arenas_lock);
	list_add(&arena->node, &mh_arenas);
	mutex_unlock(&mh_arenas_lock);
	mh_count(MH_COUNT_arenas, 1);
}

/* Free what mh_arena_create() made, when nobody else has seen it. */
void mh_arena_free(struct mh_arena *arena)
{
	mh_erase_all(&arena->armed);
	kfree(arena);
}

static bool mh_arena_unpublish(struct mh_arena *arena)
{
	bool published;

	mutex_lock(&mh_arenas_lock);
	published = !list_empty(&arena->node);
	list_del_init(&arena->node);
	mutex_unlock(&mh_arenas_lock);
	return published;
}

/*
 * The last VMA is gone, so none of the process's page table entries is left. What
 * relatives still see stays.
 */
static void mh_arena_release(struct kref *ref)
{
	struct mh_arena *arena = container_of(ref, struct mh_arena, ref);
	struct mh_family *family = arena->family;
	struct mh_layer *unused;

	if (mh_arena_unpublish(arena))
		mh_count(MH_COUNT_arenas, -1);
	down_write(&family->tree);
	list_del(&arena->family_node);
	unused = mh_layer_leave(arena);
	up_write(&family->tree);
	mh_layers_destroy(family, unused);
	mh_arena_free(arena);
}

/**
 * mh_arena_put - drop a reference
 * @arena: the arena; gone with its last reference
 *
 * Context: process, no lock of the family or the arena held; sleeps. The caller
 * keeps the family alive, by a VMA or by the family's file.
 */
void mh_arena_put(struct mh_arena *arena)
{
	kref_put(&arena->ref, mh_arena_release);
}

/**
 * mh_arena_of_mm - find a process's arena in a family
 * @family: the family, its tree held
 * @mm: the process
 *
 * Return: the arena with a reference for the caller, or NULL.
 */
struct mh_arena *mh_arena_of_mm(struct mh_family *family, struct mm_struct *mm)
{
	struct mh_arena *arena;

	lockdep_assert_held(&family->tree);
	list_for_each_entry(arena, &family->arenas, family_node)
		if (arena->mm == mm)
			return kref_get_unless_zero(&arena->ref) ? arena : NULL;
	return NULL;
}

/* Context: mh_arenas_lock held, so @arena has at least not been released yet. */
static bool mh_arena_pin(struct mh_arena *arena)
{
	if (!kref_get_unless_zero(&arena->ref))
		return false;
	kref_get(&arena->family->ref);
	ihold(arena->family->store->host);
	return true;
}

/**
 * mh_arena_unpin - be done with an arena that mh_arena_next() has returned
 * @arena: the arena, which goes if all its mappings have gone meanwhile
 *
 * Context: process, no locks held; sleeps.
 */
void mh_arena_unpin(struct mh_arena *arena)
{
	struct mh_family *family = arena->family;
	struct inode *inode = family->store->host;

	mh_arena_put(arena);
	mh_family_put(family);
	iput(inode);
}

/**
 * mh_arena_next - go through the arenas of a process
 * @arena: the one before, which is unpinned; NULL to begin
 * @mm: the process; the caller keeps its address from being used anew
 *
 * Each call holds mh_arenas_lock to look at list entries only. Arenas that are made
 * meanwhile are not found, so this comes to an end.
 *
 * Context: process, no locks held; sleeps.
 * Return: an arena that the caller may use without one of its VMAs; NULL at the end.
 */
struct mh_arena *mh_arena_next(struct mh_arena *arena, struct mm_struct *mm)
{
	struct mh_arena *next = list_prepare_entry(arena, &mh_arenas, node);

	mutex_lock(&mh_arenas_lock);
	list_for_each_entry_continue(next, &mh_arenas, node)
		if (next->mm == mm && mh_arena_pin(next))
			break;
	if (list_entry_is_head(next, &mh_arenas, node))
		next = NULL;
	mutex_unlock(&mh_arenas_lock);
	if (arena)
		mh_arena_unpin(arena);
	return next;
}

static void mh_vm_close(struct vm_area_struct *vma)
{
	if (vma->vm_private_data)
		mh_arena_put(vma->vm_private_data);
}

/*
 * A huge page can only be mapped where virtual address and file offset agree modulo its
 * size. An arena's never do: MADV_COLLAPSE and khugepaged collapse the page cache of the
 * VMA's file, which has slots and not indices, and then map the result without asking our
 * fault handler.
 */
static bool mh_huge_fits(unsigned long addr, pgoff_t pgoff)
{
	return IS_ALIGNED((addr >> PAGE_SHIFT) - pgoff, PMD_SIZE >> PAGE_SHIFT);
}

static int mh_vm_mremap(struct vm_area_struct *vma)
{
	return mh_huge_fits(vma->vm_start, vma->vm_pgoff) ? -EINVAL : 0;
}

/**
 * mh_get_unmapped_area - get_unmapped_area() of a store's file, for mremap()
 * @file: the store
 * @addr: address that is asked for
 * @len: bytes
 * @pgoff: index that will be there
 * @flags: MAP_*
 *
 * Where the kernel chooses, it would choose an address that suits huge pages, if the size
 * does, and mh_vm_mremap() would refuse that.
 *
 * Context: mmap_lock held for writing.
 * Return: an address or an errno.
 */
unsigned long mh_get_unmapped_area(struct file *file, unsigned long addr, unsigned long len,
				   unsigned long pgoff, unsigned long flags)
{
	addr = mm_get_unmapped_area(file, addr, len, pgoff, flags);
	if (flags & MAP_FIXED || IS_ERR_VALUE(addr) || !mh_huge_fits(addr, pgoff))
		return addr;
	/* With a page to spare there are two addresses, and one of them is right. */
	addr = mm_get_unmapped_area(file, 0, len + PAGE_SIZE, pgoff, flags);
	if (IS_ERR_VALUE(addr) || !mh_huge_fits(addr, pgoff))
		return addr;
	return addr + PAGE_SIZE;
}

/*
 * mm/ asks for this with rcu_read_lock held, and mh_fault_around() sleeps. But only where it can
 * ask does it call mh_fault() with the lock of the VMA instead of mmap_lock.
 */
static vm_fault_t mh_map_pages(struct vm_fault *vmf, pgoff_t first, pgoff_t last)
{
	return 0;
}

const struct vm_operations_struct mh_vm_ops = {
	.open = mh_vm_open,
	.close = mh_vm_close,
	.mremap = mh_vm_mremap,
	.fault = mh_fault,
	.map_pages = mh_map_pages,
	.page_mkwrite = mh_page_mkwrite,
};

static struct mh_family *mh_family_create(struct file *store)
{
	struct mh_family *family = kzalloc(sizeof(*family), GFP_KERNEL_ACCOUNT);

	if (!family)
		return NULL;
	kref_init(&family->ref);
	init_rwsem(&family->tree);
	INIT_LIST_HEAD(&family->arenas);
	spin_lock_init(&family->shrink.items_lock);
	mutex_init(&family->shrink.lock);
	xa_init_flags(&family->regions, XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT);
	family->store = file_inode(store)->i_mapping;
	store->private_data = family;
	return family;
}

/* The store's file is closed: nobody is left. */
static void mh_family_release(struct kref *ref)
{
	struct mh_family *family = container_of(ref, struct mh_family, ref);

	WARN_ON_ONCE(!list_empty(&family->arenas) || !xa_empty(&family->regions));
	mh_shrink_forget(family);
	xa_destroy(&family->regions);
	kfree(family);
}

void mh_family_put(struct mh_family *family)
{
	kref_put(&family->ref, mh_family_release);
}

static struct mh_arena *mh_arena_create_first(struct file *store, struct mm_struct *mm)
{
	struct mh_family *family = mh_family_create(store);
	struct mh_arena *arena;

	if (!family)
		return NULL;
	arena = mh_arena_create(family, mm);
	if (!arena)
		return NULL;
	arena->top = mh_layer_create(family);
	if (!arena->top) {
		mh_arena_free(arena);
		return NULL;
	}
	mh_layer_set_arena(arena->top, arena);
	list_add(&arena->family_node, &family->arenas);
	mh_arena_publish(arena);
	return arena;
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
	struct mh_arena *arena;
	struct file *store;

	if (!(vma->vm_flags & VM_SHARED) || vma->vm_pgoff ||
	    vma_pages(vma) >= MH_MAX_ARENA_PAGES)
		return -EINVAL;
	store = mh_store_create();
	if (IS_ERR(store))
		return PTR_ERR(store);
	arena = mh_arena_create_first(store, vma->vm_mm);
	if (arena) {
		vma_set_file(vma, store);
		vma->vm_ops = &mh_vm_ops;
		vma->vm_private_data = arena;
		vm_flags_set(vma, VM_NOHUGEPAGE);
		vma->vm_pgoff = mh_huge_fits(vma->vm_start, 0) ? 1 : 0;
	}
	fput(store);
	return arena ? 0 : -ENOMEM;
}
