/* SPDX-License-Identifier: GPL-2.0-only */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * What the files of this module share: the arena, its alias map, its locks.
 *
 * An arena is a layer over one shmem file, its store. Three kinds of numbers:
 *
 *	index	page of the arena as the process sees it: vma->vm_pgoff counts it
 *	slot	page of the store, where the contents are: the page cache counts it
 *	alias	the map index -> slot; an index that is not in it is its own slot
 *
 * Before the first merge every index is its own slot and the arena is plain
 * shared memory. Merging index s into index d makes both map to d's slot and
 * frees the page of s's slot, which is then the group's spare:
 *
 *	index   0   1   2   3            index   0   1   2   3
 *	        |   |   |   |   merge            |    \  |   |
 *	slot    0   1   2   3   1 -> 2   slot    0   1  `2   3
 *	                                             ^ spare of the group {1, 2}
 *
 * A group of n indices that share one slot owns n - 1 spares, so an index that
 * leaves its group always finds a slot of its own, without allocation.
 *
 * Family. vm_ops->open() at fork can neither fail nor move the child's VMA into
 * another reverse map (dup_mmap() inserts it next to the parent's). So all VMAs
 * that descend from one mmap() stay in the reverse map of the first store, the
 * family's, and every process of the family has an arena, thus a store, of its
 * own. PTEs are removed through the family's reverse map; that may hit the same
 * index of relatives, who simply fault again.
 *
 * Lock order, outermost first:
 *
 *	mmap_lock (fork: write; fault: read or the VMA's own; MERGE, ARM: read)
 *	  family->lock		list of the family's arenas
 *	  arena->lock		groups, removal window, who may change the alias map
 *	    folio locks		several only under arena->lock
 *	      i_mmap_rwsem, page table locks, xa_lock: inside mm/
 *
 *	mh_arenas_lock (arena.c) is taken with none of these held, or innermost.
 *
 * The folio lock is the barrier between faults and merges: the alias of an index
 * changes only while its slot's folio is locked, and a fault looks the alias up
 * again after it has locked the folio it found. Removal has a barrier of its own,
 * the removal window (remove.c), as it frees whole ranges at once.
 */
#ifndef MESHHELPER_INTERNAL_H
#define MESHHELPER_INTERNAL_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>
#include <linux/xarray.h>

#include <linux/meshhelper.h>

/* Most indices that may share one slot; -EMLINK beyond. */
#define MH_MAX_GROUP	64

/* Mark in the alias map, at an index: the slot of that number is a spare of a group. */
#define MH_SPARE	XA_MARK_1

/* Bounds the arena's index space: the size of its store. */
#define MH_MAX_ARENA_PAGES	((u64)1 << (44 - PAGE_SHIFT))

/**
 * struct mh_family - processes that descend from one mmap() of the device
 * @rmap: mapping whose i_mmap holds every VMA of every member
 * @lock: protects @arenas
 * @arenas: one struct mh_arena for each process
 *
 * Owned by the file that all these VMAs have as vm_file; freed with it.
 */
struct mh_family {
	struct address_space *rmap;
	struct mutex lock;	/* protects arenas */
	struct list_head arenas;
};

/**
 * struct mh_group - indices that share one slot
 * @slot: the shared slot
 * @nr: members, at least 2
 * @capacity: room for members
 * @member: the @nr indices, then from @capacity on the @nr - 1 spare slots
 */
struct mh_group {
	pgoff_t slot;
	unsigned int nr;
	unsigned int capacity;
	pgoff_t member[];
};

/**
 * struct mh_arena - one process's arena
 * @ref: held by each VMA, and by whoever works on the arena without mmap_lock
 * @family: the relatives
 * @mm: whose arena this is; compared, never dereferenced
 * @store: shmem file that has the contents
 * @lock: see the lock order above
 * @alias: index -> slot, as values; faults read it without a lock
 * @groups: slot -> struct mh_group, for slots with more than one index
 * @armed: slots that are watched for writes, as values
 * @window_first: first index of the removal window
 * @window_end: end of the window; 0: no removal is going on
 * @nr_meshed: indices that need no page of their own
 * @nr_merged: pages merged since the arena was made
 * @family_node: in @family->arenas
 * @node: in the list of all arenas
 */
struct mh_arena {
	struct kref ref;
	struct mh_family *family;
	struct mm_struct *mm;
	struct file *store;
	struct mutex lock;	/* protects groups and the removal window */
	struct xarray alias;
	struct xarray groups;
	struct xarray armed;
	pgoff_t window_first;
	pgoff_t window_end;
	atomic64_t nr_meshed;
	atomic64_t nr_merged;
	struct list_head family_node;
	struct list_head node;
};

static inline struct inode *mh_store_inode(struct mh_arena *arena)
{
	return file_inode(arena->store);
}

static inline struct address_space *mh_store_mapping(struct mh_arena *arena)
{
	return mh_store_inode(arena)->i_mapping;
}

/* arena.c: life of arenas and families */
int mh_arena_init(void);
void mh_arena_exit(void);
extern const struct vm_operations_struct mh_vm_ops;
int mh_arena_mmap(struct file *file, struct vm_area_struct *vma);
struct mh_arena *mh_arena_create(struct mh_family *family, struct mm_struct *mm,
				 struct file *store);
struct file *mh_store_create(void);
struct mh_arena *mh_arena_of_mm(struct mh_family *family, struct mm_struct *mm);
void mh_arena_put(struct mh_arena *arena);
void mh_arena_show(struct seq_file *m, struct mm_struct *mm);
void mh_zap(struct mh_arena *arena, pgoff_t index, unsigned long nr);
bool mh_slot_present(struct mh_arena *arena, pgoff_t slot);
struct page *mh_slot_page(struct mh_arena *arena, pgoff_t slot);

/* alias.c: the alias map and its groups */
pgoff_t mh_slot(struct mh_arena *arena, pgoff_t index);
bool mh_slot_spare(struct mh_arena *arena, pgoff_t slot);
struct mh_group *mh_group(struct mh_arena *arena, pgoff_t slot);
struct mh_group *mh_join_prepare(struct mh_arena *arena, pgoff_t src, pgoff_t dst);
void mh_join_abort(struct mh_arena *arena, pgoff_t src, pgoff_t dst,
		   struct mh_group *joined);
void mh_join_commit(struct mh_arena *arena, pgoff_t src, pgoff_t dst,
		    struct mh_group *joined);
void mh_group_leave(struct mh_arena *arena, pgoff_t index);
int mh_alias_copy(struct mh_arena *to, struct mh_arena *from);
void mh_alias_destroy(struct mh_arena *arena);

/* fault.c: page faults */
vm_fault_t mh_fault(struct vm_fault *vmf);
vm_fault_t mh_page_mkwrite(struct vm_fault *vmf);

/* merge.c, batch.c: requests */
int mh_arm_pair(struct mm_struct *mm, const struct meshhelper_pair *pair);
int mh_merge_pair(struct mm_struct *mm, const struct meshhelper_pair *pair,
		  u32 mode, bool *may_drain);
long mh_batch(unsigned int cmd, struct meshhelper_batch __user *arg);

/* drain.c */
int mh_drain_init(void);
void mh_drain_exit(void);
void mh_drain_local(void);
void mh_drain(void);

/* remove.c: giving pages back */
void mh_free_slots(struct mh_arena *arena, pgoff_t first, pgoff_t end);
long mh_fallocate(struct file *file, int mode, loff_t offset, loff_t len);

/* fork.c */
void mh_vm_open(struct vm_area_struct *vma);

/* stats.c: counters of the whole module, in sysfs */

/*
 * MH_COUNTERS - everything the module counts
 * @X: called with the counter's name, which is also its sysfs attribute
 */
#define MH_COUNTERS(X)			\
	X(arenas)			\
	X(pages_meshed)			\
	X(merges_total)			\
	X(pages_merged_total)		\
	X(merge_aborts_again_total)	\
	X(merge_aborts_busy_total)	\
	X(merge_aborts_other_total)	\
	X(faults_total)			\
	X(pages_removed_total)		\
	X(forks_total)			\
	X(fork_pages_copied_total)	\
	X(fork_failures_total)		\
	X(drains_total)

enum mh_counter {
#define MH_COUNTER_ENUM(name) MH_COUNT_##name,
	MH_COUNTERS(MH_COUNTER_ENUM)
#undef MH_COUNTER_ENUM
	MH_NR_COUNTERS
};

extern const struct attribute_group *mh_sysfs_groups[];
void mh_count(enum mh_counter counter, s64 n);

#endif /* MESHHELPER_INTERNAL_H */
