// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Stores: the shmem files that keep the pages of arenas, and page table entries that
 * map them.
 *
 * A family has one store, which is the file of all its VMAs. A page at its root's home
 * is where shmem expects it, VMA offset equal to file offset, so it is in the reverse
 * map like any shmem page and can be swapped out. A page that is mapped anywhere else
 * cannot while it is mapped.
 */
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/swap.h>
#include <uapi/linux/fcntl.h>

#include "meshhelper.h"

/*
 * Where stores live: a tmpfs of our own, so that shmem_enabled does not apply. A page
 * of a large folio cannot be merged, and one folio would span spare slots. Only "force",
 * which is for testing, applies to every tmpfs; then such a folio must at least do no harm.
 */
static struct vfsmount *mh_stores;

int mh_store_init(void)
{
	struct file_system_type *tmpfs = get_fs_type("tmpfs");
	char options[] = "huge=never";

	if (!tmpfs)
		return -ENODEV;
	mh_stores = vfs_kern_mount(tmpfs, SB_KERNMOUNT, tmpfs->name, options);
	return PTR_ERR_OR_ZERO(mh_stores);
}

void mh_store_exit(void)
{
	kern_unmount(mh_stores);
}

static int mh_store_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		mh_family_put(file->private_data);
	return 0;
}

/* No read, write, mmap: what is left is madvise(MADV_REMOVE), mremap(), and msync() in vain. */
static const struct file_operations mh_store_fops = {
	.owner = THIS_MODULE,
	.fallocate = mh_fallocate,
	.get_unmapped_area = mh_get_unmapped_area,
	.fsync = noop_fsync,
	.release = mh_store_release,
};

/**
 * mh_store_create - make a shmem file that keeps a family's pages
 *
 * The seals are for whoever opens it through /proc/PID/map_files, as plain shmem:
 * nobody may write to it, punch holes or truncate behind the alias maps' back.
 *
 * Context: process; sleeps.
 * Return: the file, to be given back by fput(), or an ERR_PTR.
 */
struct file *mh_store_create(void)
{
	const struct file_operations *fops = &mh_store_fops;
	struct file *file;

	file = shmem_file_setup_with_mnt(mh_stores, "mesh-arena", MAX_LFS_FILESIZE,
					 VM_NORESERVE);
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
 * mh_store_free - free the pages of a range of slots
 * @family: whose
 * @first: first slot
 * @end: slot after the last
 *
 * Context: process; sleeps. No page table entry shows a slot of the range, or only
 * where slot and index are the same, and none can come back.
 */
void mh_store_free(struct mh_family *family, pgoff_t first, pgoff_t end)
{
	shmem_truncate_range(family->store->host, (loff_t)first << PAGE_SHIFT,
			     ((loff_t)end << PAGE_SHIFT) - 1);
}

/* How many slots of a range have a page, in memory or in swap. */
unsigned long mh_store_count(struct mh_family *family, pgoff_t first, pgoff_t end)
{
	unsigned long slot = first, nr = 0;

	for (; xa_find(&family->store->i_pages, &slot, end - 1, XA_PRESENT); slot++) {
		nr++;
		cond_resched();
	}
	return nr;
}

/* Is there a page, in memory or in swap? */
bool mh_slot_present(struct mh_family *family, pgoff_t slot)
{
	return xa_load(&family->store->i_pages, slot);
}

/**
 * mh_slot_page - get a slot's page, from swap or zero-filled if need be
 * @family: whose store
 * @slot: page of the store
 *
 * Context: process; sleeps, allocates from the caller's memory cgroup.
 * Return: the page with a reference, not locked; or an ERR_PTR.
 */
struct page *mh_slot_page(struct mh_family *family, pgoff_t slot)
{
	return shmem_read_mapping_page_gfp(family->store, slot,
					   mapping_gfp_mask(family->store));
}

/**
 * mh_slot_lock - the same, and lock the page
 * @family: whose store
 * @slot: page of the store
 * @sgp: SGP_CACHE; SGP_WRITE if the caller overwrites all of it, and makes it uptodate then: as
 *	long as it is not, it reads as zeroes
 *
 * Context: process; sleeps, allocates from the caller's memory cgroup.
 * Return: the page of the slot with a reference, locked; or an ERR_PTR, that of -EHWPOISON for
 * a page that was lost to a memory error.
 */
struct page *mh_slot_lock(struct mh_family *family, pgoff_t slot, enum sgp_type sgp)
{
	struct folio *folio;
	struct page *page;
	int err = shmem_get_folio(family->store->host, slot, 0, &folio, sgp);

	if (err)
		return ERR_PTR(err);
	page = folio_file_page(folio, slot);
	if (!PageHWPoison(page) && (folio_test_uptodate(folio) || !folio_test_large(folio)))
		return page;
	err = PageHWPoison(page) ? -EHWPOISON : 0;
	folio_unlock(folio);
	folio_put(folio);
	/* Not all of a large folio is overwritten, but only all of it can be uptodate. */
	return err ? ERR_PTR(err) : mh_slot_lock(family, slot, SGP_CACHE);
}

/**
 * mh_slot_forget - free the page of a slot if nothing was ever made of it
 * @family: whose store
 * @slot: page of the store
 *
 * That is what reclaim may do at any time to a page that is not dirty, not locked, and that nobody
 * else refers to or maps: who comes for it later finds a new one of zeroes. A page with contents is
 * dirty from before it is unlocked for the first time. Who has just found the page has a reference
 * to it. So this is best effort: what is on another CPU's list stays.
 *
 * Context: process, no folio lock; sleeps.
 */
void mh_slot_forget(struct mh_family *family, pgoff_t slot)
{
	mh_drain_local();
	invalidate_mapping_pages(family->store, slot, slot);
}

/* With @page locked: is it still that of @slot? */
bool mh_slot_page_is(struct mh_family *family, struct page *page, pgoff_t slot)
{
	struct folio *folio = page_folio(page);

	return folio->mapping == family->store &&
	       folio->index + folio_page_idx(folio, page) == slot;
}

/**
 * mh_page_refs - references to a page beyond the page cache's and those of page table entries
 * @page: page of a store
 *
 * An entry that goes meanwhile may count for one too many; for one too few only one that
 * comes, which is up to the caller.
 * Context: any; the caller has a reference.
 */
int mh_page_refs(struct page *page)
{
	struct folio *folio = page_folio(page);
	int refs = folio_ref_count(folio);

	/* Pairs with the atomic operations of mm/, which unmaps before it drops the reference. */
	smp_rmb();
	return refs - folio_nr_pages(folio) - folio_mapcount(folio);
}

/* Has anybody a reference to the page, but for @ours and this CPU's lists of pages? */
bool mh_page_held(struct page *page, int ours)
{
	if (mh_page_refs(page) <= ours)
		return false;
	mh_drain_local();
	return mh_page_refs(page) > ours;
}

/* Context: RCU, by which the folio was found. Who has it frozen has it for himself. */
static bool mh_folio_referenced(struct folio *folio)
{
	bool referenced;

	if (!folio_try_get(folio))
		return false;
	referenced = mh_page_refs(&folio->page) > 1;
	folio_put(folio);
	return referenced;
}

/**
 * mh_next_held - the next slot with a page that somebody has a reference to
 * @family: whose store
 * @slot: first slot
 * @last: last slot
 *
 * A page on its way to the LRU counts as well.
 * Context: process; sleeps.
 * Return: the slot, or ULONG_MAX if there is none.
 */
pgoff_t mh_next_held(struct mh_family *family, pgoff_t slot, pgoff_t last)
{
	XA_STATE(xas, &family->store->i_pages, slot);
	struct folio *folio;

	rcu_read_lock();
	xas_for_each(&xas, folio, last) {
		if (xas_retry(&xas, folio))
			continue;
		if (!xa_is_value(folio) && mh_folio_referenced(folio))
			break;
		if (need_resched()) {
			xas_pause(&xas);
			rcu_read_unlock();
			cond_resched();
			rcu_read_lock();
		}
	}
	rcu_read_unlock();
	return folio ? xas.xa_index : ULONG_MAX;
}

/* Who has mapped the store itself, by way of /proc/PID/map_files, sees slots. @folio is locked. */
static void mh_zap_file(struct mh_family *family, struct folio *folio, pgoff_t slot)
{
	if (folio_mapped(folio))
		mh_zap(family, slot, 1);
}

/**
 * mh_slot_renew - let a slot go on with a copy of its page
 * @family: whose store
 * @page: the slot's page, locked and shown by no arena; keeps what it has for those who have
 *	references to it, and goes with the last of them
 * @slot: the slot
 *
 * The copy is charged to who the page is charged to, and may for a while be above the limit.
 * Context: process; sleeps.
 * Return: 0, -ENOMEM, or -EIO for a page that cannot be read or replaced.
 */
int mh_slot_renew(struct mh_family *family, struct page *page, pgoff_t slot)
{
	struct folio *old = page_folio(page), *new;

	if (folio_test_large(old))
		return -EIO;
	mh_zap_file(family, old, slot);
	if (WARN_ON_ONCE(folio_mapcount(old)))
		return -EIO;
	new = folio_alloc(mapping_gfp_mask(family->store), 0);
	if (!new)
		return -ENOMEM;
	if (copy_mc_highpage(&new->page, page)) {
		folio_put(new);
		return -EIO;
	}
	flush_dcache_page(&new->page);
	__folio_set_locked(new);
	__folio_set_swapbacked(new);
	folio_mark_uptodate(new);
	replace_page_cache_folio(old, new);
	folio_clear_dirty(old);
	folio_mark_dirty(new);
	folio_add_lru(new);
	folio_unlock(new);
	folio_put(new);
	return 0;
}

/**
 * mh_zap - remove all page table entries of some indices, those of relatives included
 * @family: the relatives
 * @index: first index
 * @nr: how many
 *
 * Context: process; sleeps. Whether entries can come back at once is up to the
 * caller, who holds the folio's lock or has the removal window over them.
 */
void mh_zap(struct mh_family *family, pgoff_t index, unsigned long nr)
{
	unmap_mapping_range(family->store, (loff_t)index << PAGE_SHIFT,
			    (loff_t)nr << PAGE_SHIFT, 0);
}
