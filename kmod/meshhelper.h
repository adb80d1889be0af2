/* SPDX-License-Identifier: GPL-2.0-only */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * What the files of this module share: arenas, their layers, alias maps and locks.
 *
 * An arena is one process's view of a shmem file, the store, that it may have in
 * common with relatives. Three kinds of numbers:
 *
 *	index	page of the arena as the process sees it: vma->vm_pgoff counts it
 *	slot	page of the store, where the contents are: the page cache counts it
 *	home	an index's own slot in a layer: that layer's base + index
 *
 * Before the first merge every index is at home and the arena is plain shared
 * memory. Merging index s into index d makes both show d's slot and frees the page
 * of s's slot, which is then the group's spare:
 *
 *	index   0   1   2   3            index   0   1   2   3
 *	        |   |   |   |   merge            |    \  |   |
 *	slot    0   1   2   3   1 -> 2   slot    0   1  `2   3
 *	                                             ^ spare of the group {1, 2}
 *
 * A group of n indices that share one slot owns n - 1 spares, so an index that
 * leaves its group always finds a slot of its own, without allocation.
 *
 * Layers. fork copies nothing. The child's arena gets an empty layer on top of its
 * parent's; an index that the layer has no entry for is seen through it, in the
 * layer below. The parent goes on in its own layer, so before it changes an index
 * that the layer above still looks through to, that one gets a copy (copy-up,
 * copyup.c), and so does a child that writes. Thus a layer that belongs to no
 * process any more, or never did, does not change. A layer is all of
 *
 *	alias	index -> slot, for what is not at home, and for all that differs
 *		from the layer below
 *	base	first slot of its region of the store; 2^32 slots
 *	groups	slot -> indices that share it
 *	spares	slots that are kept for the groups' members
 *
 *	 parent's arena     child 1    child 2         child 3
 *	      | top           | top      | top            | top
 *	      |            +-----+    +-----+          +-----+
 *	      |            | 0 2 |    |   3 |          | 1   |	what each has written to
 *	      |            +--+--+    +--+--+          +--+--+
 *	      |               +----+-----+                |
 *	      |                 +--+--+   snapshot: what  |
 *	      |                 | 1   |   the parent has  |
 *	      |                 +--+--+   written to since|
 *	      |                    +-----------+----------+
 *	      |                             +--+--+
 *	      |                             |     |   snapshot, newer
 *	      |                             +--+--+
 *	+-----+--------------------------------+--+
 *	| 0  1  2  3                              |
 *	+-----------------------------------------+
 *
 * So a layer with a process has at most one other directly above it, and one
 * without has at least two: when fewer are left it is collapsed (collapse.c), and a
 * chain of forks in which every parent exits has one layer, however long it is.
 *
 * Family. vm_ops->open() at fork can neither fail nor move the child's VMA into
 * another reverse map (dup_mmap() inserts it next to the parent's). So all VMAs
 * that descend from one mmap() share one store and its reverse map. PTEs removed
 * by way of it may be those of relatives at the same index, who fault again.
 *
 * Lock order, outermost first:
 *
 *	mmap_lock (fork: write; fault: read, or lock of the VMA; MERGE, ARM: read)
 *	  family->tree		which layers there are, and whose; written by fork and exit
 *	    arena->lock		groups of the arena's layer, removal window
 *	      folio locks	several only under arena->lock, or as in copyup.c
 *	        i_mmap_rwsem, page table locks, xa_lock: inside mm/
 *	        xa_lock of an alias map, then that of the page cache (copyup.c)
 *
 *	mh_arenas_lock (arena.c) is taken with none of these held; family->tree inside it.
 *	Reclaim takes family->shrink.lock, and family->tree for reading in it, under any lock
 *	that is held while memory is allocated, so only if they are free (shrink.c).
 *
 * The folio lock is the barrier between faults and everything else: the slot that an
 * index shows changes only while the old slot's folio is locked, and a fault looks the
 * slot up again after it has locked the folio it found. Removal has a barrier of its
 * own, the removal window (remove.c), as it frees whole ranges at once.
 *
 * A fault takes family->tree, for reading, only in an arena that has relatives; for writing
 * it only tries to get it (around.c).
 */
#ifndef MESHHELPER_INTERNAL_H
#define MESHHELPER_INTERNAL_H

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rwsem.h>
#include <linux/shmem_fs.h>
#include <linux/xarray.h>

#include <linux/meshhelper.h>

/* Most indices that may share one slot; -EMLINK beyond. */
#define MH_MAX_GROUP	64

/* Slots in a layer's region of the store: bounds the arena's index space. */
#define MH_REGION_SHIFT		32
#define MH_MAX_ARENA_PAGES	(1UL << MH_REGION_SHIFT)

/* Regions that fit into the largest file; the first is that of the oldest layer. */
#define MH_MAX_REGIONS		((1UL << (63 - PAGE_SHIFT - MH_REGION_SHIFT)) - 1)

/**
 * struct mh_shrink - what the shrinker knows of a family
 * @mapped: page table entries that faults have made for pages away from home since @lock's
 *	holder last began to look for them; they may be gone
 * @items: one for each memory cgroup that has to do with it, see shrink.c; read under RCU
 * @items_lock: for who adds to @items, or takes from them
 * @lock: protects what follows; taken in reclaim, so only if it is free
 * @mapped_before: @mapped when going through the family began
 * @base: region of the layer where it goes on
 * @index: where in that layer
 */
struct mh_shrink {
	atomic_long_t mapped;
	struct hlist_head items;
	spinlock_t items_lock;	/* protects changes to @items */
	struct mutex lock;	/* protects the rest */
	long mapped_before;
	pgoff_t base;
	pgoff_t index;
};

/**
 * struct mh_family - processes that descend from one mmap() of the device
 * @ref: held by the file that all these VMAs have as vm_file, and by mh_arena_next()
 * @store: mapping of the store, whose i_mmap holds every VMA of every member
 * @tree: protects @arenas, and of all layers: that they exist, how they are linked,
 *	and whose they are
 * @arenas: one struct mh_arena for each process
 * @regions: region -> how many reasons there are to keep it, as a value: being a
 *	layer's own, and each of its slots that has passed to another layer
 * @shrink: under memory pressure
 */
struct mh_family {
	struct kref ref;
	struct address_space *store;
	struct rw_semaphore tree;
	struct list_head arenas;
	struct xarray regions;
	struct mh_shrink shrink;
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
 * struct mh_layer - what has changed since the layer below
 * @lower: the layer seen where this one has nothing; NULL: it reads as zeroes there
 * @uppers: layers that see this one as @lower, by @upper_node
 * @upper_node: in @lower's @uppers
 * @arena: whose top layer it is; NULL: that of nobody, it does not change
 * @inherit_end: indices from here on are never seen in @lower
 * @base: first slot of its region
 * @alias: index -> slot, as values; faults read it without a lock
 * @groups: slot -> struct mh_group, for slots with more than one index
 * @spares: slots of @groups' members that no index shows
 * @lent: slots that processes have looked through to from a layer above since the arena's
 *	process has last written to them: there may be references to their pages, for reading
 *	and none for writing, that live longer than the look-through
 * @nr_meshed: indices that need no page of their own
 *
 * Of the indices that it has, each owns one slot: the one it shows or, but for one
 * member of each group, a spare.
 */
struct mh_layer {
	struct mh_layer *lower;
	struct list_head uppers;
	struct list_head upper_node;
	struct mh_arena *arena;
	pgoff_t inherit_end;
	pgoff_t base;
	struct xarray alias;
	struct xarray groups;
	struct xarray spares;
	struct xarray lent;
	atomic_long_t nr_meshed;
};

/**
 * struct mh_arena - one process's arena
 * @ref: held by each VMA, and by whoever works on the arena without mmap_lock
 * @family: the relatives
 * @mm: whose arena this is; compared, never dereferenced
 * @top: its layer
 * @related: does @top have a layer above or below? If not, it stays until the next
 *	fork of this process; if so, only family->tree keeps it
 * @touched_end: no index from here on was ever touched
 * @lock: see the lock order above
 * @armed: slots that are watched for writes, as values
 * @window_first: first index of the removal window
 * @window_end: end of the window; 0: no removal is going on
 * @nr_merged: pages merged since the arena was made
 * @family_node: in @family->arenas
 * @node: in the list of all arenas
 */
struct mh_arena {
	struct kref ref;
	struct mh_family *family;
	struct mm_struct *mm;
	struct mh_layer *top;
	bool related;
	atomic_long_t touched_end;
	struct mutex lock;	/* protects groups of @top and the removal window */
	struct xarray armed;
	pgoff_t window_first;
	pgoff_t window_end;
	atomic64_t nr_merged;
	struct list_head family_node;
	struct list_head node;
};

static inline pgoff_t mh_region(pgoff_t slot)
{
	return slot >> MH_REGION_SHIFT;
}

/* What names a family outside the module: /proc/PID/maps shows it, too. */
static inline u64 mh_family_id(struct mh_family *family)
{
	return family->store->host->i_ino;
}

/* arena.c: life of arenas and families */
extern const struct vm_operations_struct mh_vm_ops;

static inline bool mh_vma_shows(const struct vm_area_struct *vma, const struct mh_arena *arena)
{
	return vma->vm_ops == &mh_vm_ops && vma->vm_private_data == arena;
}

int mh_arena_mmap(struct file *file, struct vm_area_struct *vma);
struct mh_arena *mh_arena_create(struct mh_family *family, struct mm_struct *mm);
void mh_arena_publish(struct mh_arena *arena);
void mh_arena_free(struct mh_arena *arena);
void mh_family_put(struct mh_family *family);
struct mh_arena *mh_arena_of_mm(struct mh_family *family, struct mm_struct *mm);
void mh_arena_put(struct mh_arena *arena);
struct mh_arena *mh_arena_next(struct mh_arena *arena, struct mm_struct *mm);
void mh_arena_unpin(struct mh_arena *arena);
unsigned long mh_get_unmapped_area(struct file *file, unsigned long addr, unsigned long len,
				   unsigned long pgoff, unsigned long flags);

/* store.c: pages of a family's store, and page table entries for them */
struct file *mh_store_create(void);
void mh_store_free(struct mh_family *family, pgoff_t first, pgoff_t end);
unsigned long mh_store_count(struct mh_family *family, pgoff_t first, pgoff_t end);
bool mh_slot_present(struct mh_family *family, pgoff_t slot);
struct page *mh_slot_page(struct mh_family *family, pgoff_t slot);
struct page *mh_slot_lock(struct mh_family *family, pgoff_t slot, enum sgp_type sgp);
void mh_slot_forget(struct mh_family *family, pgoff_t slot);
bool mh_slot_page_is(struct mh_family *family, struct page *page, pgoff_t slot);
int mh_page_refs(struct page *page);
bool mh_page_held(struct page *page, int ours);
pgoff_t mh_next_held(struct mh_family *family, pgoff_t slot, pgoff_t last);
int mh_slot_renew(struct mh_family *family, struct page *page, pgoff_t slot);
void mh_zap(struct mh_family *family, pgoff_t index, unsigned long nr);
int mh_store_init(void);
void mh_store_exit(void);

/* layer.c: which layers there are, and what is seen through them */
struct mh_layer *mh_layer_create(struct mh_family *family);
void mh_layers_destroy(struct mh_family *family, struct mh_layer *layer);
pgoff_t mh_resolve(struct mh_layer *layer, pgoff_t index, struct mh_layer **owner);
bool mh_layer_has(struct mh_layer *layer, pgoff_t index);
struct mh_layer *mh_layer_upper(struct mh_layer *layer);
bool mh_index_shared(struct mh_layer *layer, pgoff_t index);
void mh_region_add(struct mh_family *family, pgoff_t region, long n);
void mh_slot_disown(struct mh_family *family, struct mh_layer *layer, pgoff_t slot);
void mh_layer_set_arena(struct mh_layer *layer, struct mh_arena *arena);
void mh_layer_free(struct mh_family *family, struct mh_layer *layer);
void mh_layer_put_on(struct mh_layer *upper, struct mh_layer *lower);
void mh_layer_settle(struct mh_family *family, struct mh_layer *layer);
int mh_layer_fork(struct mh_arena *parent, struct mh_arena *child);
struct mh_layer *mh_layer_leave(struct mh_arena *arena);

/* collapse.c: one layer out of two */
void mh_collapse(struct mh_family *family, struct mh_layer *layer);

/* alias.c: the alias map of a layer and its groups */
struct mh_group *mh_group_alloc(unsigned int nr);
pgoff_t *mh_group_spares(struct mh_group *group);
int mh_group_reserve(struct mh_layer *layer, struct mh_group *group);
void mh_group_insert(struct mh_layer *layer, struct mh_group *group);
struct mh_group *mh_join_prepare(struct mh_layer *layer, pgoff_t src, pgoff_t dst);
void mh_join_abort(struct mh_layer *layer, struct mh_group *joined);
void mh_join_commit(struct mh_layer *layer, pgoff_t src, struct mh_group *joined);
void mh_group_leave(struct mh_layer *layer, pgoff_t index);
void mh_erase_all(struct xarray *xa);
void mh_alias_destroy(struct mh_layer *layer);

/* copyup.c: a layer's own copy of what it sees in the layers below */
int mh_copy_up(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
	       struct vm_area_struct *vma);
int mh_copy_up_fault(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
		     struct vm_area_struct *vma, struct page **copy);
int mh_copy_up_range(struct mh_family *family, struct mh_layer *layer, pgoff_t first,
		     pgoff_t end);
int mh_copy_up_held(struct mh_arena *arena);
int mh_leave_to_readers(struct mh_arena *arena, pgoff_t index);
int mh_hide_range(struct mh_family *family, struct mh_layer *layer, pgoff_t first, pgoff_t end);
void mh_drop_spare(struct mh_family *family, struct mh_layer *layer, pgoff_t slot);
pgoff_t mh_next_content(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
			pgoff_t end);

/* fault.c: page faults */
void mh_touch(struct mh_arena *arena, pgoff_t index);
vm_fault_t mh_fault(struct vm_fault *vmf);
vm_fault_t mh_page_mkwrite(struct vm_fault *vmf);

/* written.c: page table entries for what is written to */
bool mh_map_written(struct mh_arena *arena, struct vm_fault *vmf, struct page *page,
		    pgoff_t slot, bool copied);

/* around.c: what lies around a page fault */
bool mh_fault_around(struct mh_arena *arena, struct vm_fault *vmf);

/* main.c, merge.c, batch.c: requests */
long mh_request(unsigned int cmd, void __user *arg);
int mh_arm_pair(struct mm_struct *mm, const struct meshhelper_pair *pair);
int mh_merge_pair(struct mm_struct *mm, const struct meshhelper_pair *pair,
		  u32 mode, bool *may_drain);
long mh_batch(unsigned int cmd, struct meshhelper_batch __user *arg);

/* uring.c */
#ifdef CONFIG_IO_URING
int mh_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags);
#else
#define mh_uring_cmd	NULL
#endif

/* drain.c */
int mh_drain_init(void);
void mh_drain_exit(void);
void mh_drain_local(void);
void mh_drain(void);

/* remove.c: giving pages back */
int mh_remove_unmapped(struct mh_arena *arena, pgoff_t first, pgoff_t end);
long mh_fallocate(struct file *file, int mode, loff_t offset, loff_t len);

/* fork.c, dontfork.c */
void mh_vm_open(struct vm_area_struct *vma);
int mh_dontfork(struct mh_arena *parent, struct mh_arena *child);

/* shrink.c: memory pressure */
int mh_shrink_init(void);
void mh_shrink_exit(void);
void mh_shrink_know(struct mh_family *family);
void mh_shrink_note(struct mh_family *family, unsigned long nr);
void mh_shrink_forget(struct mh_family *family);

/* usage.c: what the arenas of a process hold, for fdinfo */
void mh_usage_show(struct seq_file *m, struct mm_struct *mm);

/* stats.c: counters of the whole module, in sysfs */

/*
 * MH_COUNTERS - everything the module counts
 * @X: called with the counter's name, which is also its sysfs attribute
 *
 * First the gauges, the last of which is pages_meshed.
 */
#define MH_COUNTERS(X)			\
	X(arenas)			\
	X(layers)			\
	X(snapshots)			\
	X(pages_meshed)			\
	X(pairs_total)			\
	X(merges_total)			\
	X(pages_merged_total)		\
	X(faults_total)			\
	X(pages_removed_total)		\
	X(forks_total)			\
	X(copy_ups_total)		\
	X(fork_failures_total)		\
	X(drains_total)			\
	X(pages_unmapped_total)

/*
 * MH_ABORTS - why a pair may be left alone
 * @X: called with the reason and its errno
 *
 * Each has a counter merge_aborts_REASON_total. An errno that is not here counts as
 * merge_aborts_other_total, so that nothing is missing from the sum.
 */
#define MH_ABORTS(X)			\
	X(again, EAGAIN)		\
	X(pinned, ETXTBSY)		\
	X(busy, EBUSY)			\
	X(shared, EUSERS)		\
	X(noent, ENOENT)		\
	X(exist, EEXIST)		\
	X(inval, EINVAL)		\
	X(fault, EFAULT)		\
	X(xdev, EXDEV)			\
	X(perm, EPERM)			\
	X(opnotsupp, EOPNOTSUPP)	\
	X(mlink, EMLINK)		\
	X(nomem, ENOMEM)		\
	X(io, EIO)			\
	X(intr, EINTR)

enum mh_counter {
#define MH_COUNTER_ENUM(name) MH_COUNT_##name,
#define MH_ABORT_ENUM(reason, error) MH_COUNT_merge_aborts_##reason##_total,
	MH_COUNTERS(MH_COUNTER_ENUM)
	MH_ABORTS(MH_ABORT_ENUM)
	MH_COUNTER_ENUM(merge_aborts_other_total)
#undef MH_ABORT_ENUM
#undef MH_COUNTER_ENUM
	MH_NR_COUNTERS,
	MH_NR_GAUGES = MH_COUNT_pages_meshed + 1
};

extern const struct attribute_group *mh_sysfs_groups[];
void mh_count(enum mh_counter counter, s64 n);
void mh_count_abort(int err);

#endif /* MESHHELPER_INTERNAL_H */
