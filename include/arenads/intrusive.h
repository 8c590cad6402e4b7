/* SPDX-License-Identifier: MIT */
/*
 * intrusive.h - a lock-free ordered list of records that users allocate, own and link themselves.
 *
 * The list of list.h, walked by the same functions, whose entries are nodes inside records of a
 * pool. Nothing is copied and nothing is freed: linking a record changes words of the record,
 * and whoever removes it has it again. A record has one node for each list that it can be in
 * at the same time.
 *
 *	list          record                     record
 *	+------+     +-----+-------------+     +-----+-------------+
 *	| head |--+  | pid | link  order |  +->| pid | link  order |--> end
 *	+------+  |  +-----+--^-|--------+  |  +-----+-------------+
 *	          +-----------+ +-----------+
 *
 * Why a node has a third word beside link and order: with the list that it is in, `remove` knows
 * a node of another list without walking, and what a dead process began with it can be ended by
 * anyone who comes across the node, in the right list.
 *
 * States of a node are those of its link word, whose version grows with each change and never
 * restarts:
 *
 *	       +--------------------- out <-------------------------+
 *	insert | CAS, for one caller             unlinked; CAS, by the remover
 *	       |                                 or who wants to link it again
 *	       v                                                    |
 *	    claimed ---- CAS of the predecessor ----> in ---- CAS ---> removed
 *	                 commit of insert                     commit of remove
 *
 *	out	 0, or marked and next 0	the record's owner may do with it what it likes
 *	claimed	 not marked, next = list | 2	one caller is about to link it; | 4: user space
 *	in	 not marked, next = what follows	(aimed just before it is linked)
 *	removed	 marked, next = what followed	deleted for every reader, perhaps still linked;
 *						writers that pass unlink it
 *
 * Why a removed node must not be linked before it is out: the old predecessor still leads to it,
 * and would lead into the new list.
 *
 *	remover of N                    who links N again
 *	1 marks N: P -> N -> S
 *	2 (dies, or is slow)            3 reads N.link: removed, not out. Walks N's list up to
 *	                                  N's order as a writer, so N is unlinked
 *	                                4 CAS N.link from that very word to out, then claims it
 *	5 its CAS to out fails
 *
 * Step 3 ends behind N: live entries have different orders, so a walk for N's order meets N
 * before anything that stops it.
 *
 *	operation	commit (one CAS or load)		death afterwards leaves
 *	insert, push	link of the predecessor: cur -> node	nothing
 *	remove, pop	link of the node: next -> next | mark	a removed node: the next insert of it
 *								sees to it that it is out
 *	find, next	as in list.h				nothing, readers change nothing
 *
 * Death before the commit of insert: the node stays claimed (ADS_LINKED) until a reaper comes: who
 * links or removes a node names it, by its record, in the registry of owner.h. The record that a
 * dead process owned is not this list's to free.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at once.
 *                  find, first, next and len work through a read-only mapping.
 * Cost             one line an entry passed. insert 2 CAS, remove 3, find and next none. push does
 *                  not walk; insert, remove and find walk up to the node's order.
 * Memory           none but the records.
 * Budget runs out  ADS_BUDGET, counted, nothing changed, as in list.h.
 * Removed lists    nothing can be linked any more, ADS_REMOVED; what is in can be taken out.
 * Limits           orders are unique within a list. A walk disturbed in the middle goes on from
 *                  the head. pop_first takes what was first at a moment of the call: something
 *                  that is put before it meanwhile stays.
 *
 * What users must do: never write to a node. Zeroed memory is a node in no list, and a record
 * that was freed and allocated again keeps its nodes as they are; assigning or clearing a whole
 * record in C would let versions restart. Remove a record from its lists before freeing it: a
 * check reports what was freed while linked. A record that `find` or `next` returned may be removed
 * and freed by others at any time, it stays memory of that type.
 */
#ifndef ARENADS_INTRUSIVE_H
#define ARENADS_INTRUSIVE_H

#include "list.h"

#define ads_node_at(arena, offset) ads_at(arena, struct ads_node, offset)

/* What a walk must know of a list of nodes; to it they are entries without key and value. Those
 * take a word more than a node, which is there: records end well before their chunk does. */
static ADS_INLINE struct ads_ref ads_nodes_ref(__u32 list)
{
	struct ads_ref ref = {list, 0, 0, 0};

	return ref;
}

/* --- states ------------------------------------------------------------------------------- */

static ADS_INLINE int ads_node_is_out(__u64 link)
{
	return !link || (link & ADS_LINK_MARK && !ads_link_next(link));
}

/* Claimed or in. */
static ADS_INLINE int ads_node_is_taken(__u64 link)
{
	return link && !(link & ADS_LINK_MARK);
}

/* The list that a node is in, was in last, or is about to be linked into: the word of a claimed one
 * says so, its list may not have been told. */
static ADS_INLINE __u32 ads_node_list(struct ads_arena *a, __u32 node, __u64 link)
{
	if (ads_node_is_taken(link) && ads_link_next(link) & ADS_LINK_PENDING)
		return ads_link_next(link) & ~7u;
	return (__u32)ads_load(&ads_node_at(a, node)->list);
}

/* The pool's entry that holds the record of a node. */
static ADS_INLINE __u32 ads_node_entry(struct ads_arena *a, struct ads_ref ref, __u32 node)
{
	const struct ads_header __arena *h = ads_at(a, struct ads_header, ref.offset);

	return node - h->most - ads_entry_value_offset(ref);
}

/* Whether the node at this offset can be one of the list's, in a record that is in use. */
static ADS_INLINE int ads_node_is_usable(struct ads_arena *a, struct ads_ref ref, __u32 node)
{
	__u32 entry = ads_node_entry(a, ref, node);
	__u64 link;

	if (node < ADS_HEAP_OFFSET || node & 7 || entry < ADS_HEAP_OFFSET || entry > node ||
	    ads_bad(a, entry, sizeof(struct ads_entry)) || ads_bad(a, node, sizeof(struct ads_node)))
		return 0;
	link = ads_load(ads_link_of(a, entry));
	return link && !(link & ADS_LINK_MARK);
}

/*
 * Unlink a node that was removed, its link word being `link`, and say that it is out. ADS_OK too if
 * others have done so meanwhile.
 */
ADS_GLOBAL int ads_node_settle(struct ads_arena *a, __u32 node, __u64 link)
{
	struct ads_node __arena *n = ads_node_at(a, node);
	__u64 order = ads_load(&n->order);
	struct ads_ref ref = ads_nodes_ref((__u32)ads_load(&n->list));
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	int rc;

	ads_fence_acquire(); /* F13 */
	if (ads_load(&n->link) != link)
		return ADS_OK; /* order and list may be of its next life */
	if (ads_bad(a, ref.offset, sizeof(struct ads_intrusive)) ||
	    ads_at(a, struct ads_header, ref.offset)->kind != ADS_KIND_INTRUSIVE)
		return ADS_DAMAGED;
	rc = ads_walk_find(a, &w, 0, ref, order, 0, ADS_WRITE);
	if (rc != ADS_OK && rc != ADS_ABSENT)
		return rc;
	ads_cas(&n->link, link, ads_link_change(link, 0) | ADS_LINK_MARK); /* R3 */
	return ADS_OK;
}

/* Take out the node that w is at: 1 if it was this caller who did. */
static ADS_INLINE int ads_node_delete(struct ads_arena *a, struct ads_ref ref, struct ads_walk *w)
{
	__u32 next = ads_link_next(w->link);
	__u64 marked = ads_link_change(w->link, next) | ADS_LINK_MARK;

	ads_hand_delete(a, ads_pool_of(ref).offset, ads_node_entry(a, ref, w->entry), ads_link_later(w->link));
	/* Commit of remove and pop. R3: passes on what comes next. */
	if (ads_cas(ads_link_of(a, w->entry), w->link, marked) != w->link)
		return 0;
	if (ads_walk_unlink(a, w, next))
		ads_cas(ads_link_of(a, w->entry), marked, ads_link_change(marked, 0) | ADS_LINK_MARK); /* R3 */
	else
		ads_node_settle(a, w->entry, marked); /* if it cannot, the next who links the node will */
	return 1;
}

/* Get a node that is out for linking it into the list: ADS_OK for one caller, ADS_LINKED. */
static ADS_INLINE int ads_node_claim(struct ads_arena *a, struct ads_ref ref, __u32 node)
{
	struct ads_node __arena *n = ads_node_at(a, node);
	__u32 i;

	for (ads_loop(i)) {
		__u64 link = ads_load_acquire(&n->link); /* A3, pairs with R3 */
		__u32 low = ref.offset | ADS_LINK_PENDING | (ads_by_user() ? ADS_LINK_USER : 0);
		int rc;

		if (ads_node_is_taken(link))
			return ADS_LINKED;
		if (!ads_node_is_out(link)) {
			rc = ads_node_settle(a, node, link);
			if (rc)
				return rc;
			continue;
		}
		ads_hand_take(a, ads_pool_of(ref).offset, ads_node_entry(a, ref, node), ads_link_later(link));
		/* R13: order and list change after the link. */
		if (ads_cas(&n->link, link, ads_link_change(link, low)) == link) {
			ads_store(&n->list, ref.offset);
			return ADS_OK;
		}
	}
	return ADS_BUDGET;
}

/* Give up a claim. */
static ADS_INLINE void ads_node_release(struct ads_arena *a, __u32 node)
{
	__u64 __arena *link = ads_link_of(a, node);

	/* R3: the next claimer's words come after ours. */
	ads_store_release(link, ads_link_change(ads_load(link), 0) | ADS_LINK_MARK);
}

/*
 * Where a node is said to be: ADS_OK with *order if it is in the list or about to be, which only a
 * walk tells apart; ADS_ABSENT if it is not. Words of different lives do no harm: between those lives
 * it was out, and that may be the answer.
 */
static ADS_INLINE int ads_node_order(struct ads_arena *a, struct ads_ref ref, __u32 node, __u64 *order)
{
	struct ads_node __arena *n = ads_node_at(a, node);
	__u64 link = ads_load_acquire(&n->link); /* A3, pairs with R3 */

	*order = ads_load(&n->order);
	return ads_node_is_taken(link) && (__u32)ads_load(&n->list) == ref.offset ? ADS_OK : ADS_ABSENT;
}

/* --- changing and reading -------------------------------------------------------------------- */
/*
 * In BPF these are global functions, verified once and shared by all lists of a program; what
 * they need of a list is its place.
 */

static ADS_INLINE int ads_intrusive_count(struct ads_arena *a, __u32 list, int rc)
{
	return rc == ADS_FULL || rc == ADS_BUDGET || rc == ADS_DAMAGED ? ads_count(a, list, rc) : rc;
}

/* Link a node: at its *order, or at the head with the *order that it gets there. */
ADS_GLOBAL int ads_nodes_link(struct ads_arena *a, __u32 list, __u32 node, __u64 *order, __u32 at_head)
{
	struct ads_ref ref = ads_nodes_ref(list);
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	struct ads_node __arena *n = ads_node_at(a, node);
	int rc = ADS_BUDGET, claimed = 0;
	__u64 link;
	__u32 i;

	if (!order || ads_bad(a, list, sizeof(struct ads_intrusive)))
		return ADS_INVALID;
	rc = ads_may_change(a, list);
	if (rc)
		return rc;
	if (!ads_node_is_usable(a, ref, node))
		return ADS_INVALID;
	if (ads_node_is_taken(ads_load(&n->link)))
		return ADS_LINKED;
	for (ads_retry(i)) {
		rc = at_head ? ads_walk_first(a, &w, ref, ADS_WRITE)
			     : ads_walk_find(a, &w, 0, ref, *order, 0, ADS_WRITE);
		if (rc != ADS_OK && rc != ADS_ABSENT)
			break;
		if (at_head && rc == ADS_OK && !w.hash) {
			rc = ADS_FULL;
			break;
		}
		if (at_head) {
			*order = rc == ADS_OK ? w.hash - 1 : ADS_LIST_FIRST_ORDER;
		} else if (rc == ADS_OK) {
			/* It may be this node: somebody has just linked it there. */
			rc = w.entry == node ? ADS_LINKED : ADS_EXISTS;
			break;
		}
		if (!claimed) {
			rc = ads_node_claim(a, ref, node);
			if (rc)
				break;
			claimed = 1;
		}
		link = ads_load(&n->link);
		ads_hand_aim(a, ads_node_entry(a, ref, node), ads_link_later(link));
		ads_store(&n->order, *order);
		ads_store(&n->link, ads_link_change(link, w.entry));
		/* Commit of insert and push. R3: the node's words are visible before it is linked. */
		if (ads_cas(ads_link_of(a, w.prev), w.prev_link, ads_link_change(w.prev_link, node)) == w.prev_link) {
			ads_hand_clear(a);
			return ADS_OK;
		}
		rc = ADS_BUDGET;
	}
	if (claimed)
		ads_node_release(a, node);
	ads_hand_clear(a);
	return ads_intrusive_count(a, list, rc);
}

/* Take a node out. */
ADS_GLOBAL int ads_nodes_remove(struct ads_arena *a, __u32 list, __u32 node)
{
	struct ads_ref ref = ads_nodes_ref(list);
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	__u64 order = 0;
	__u32 i;
	int rc;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	if (node < ADS_HEAP_OFFSET || node & 7 || ads_bad(a, node, sizeof(struct ads_node)))
		return ADS_INVALID;
	rc = ads_node_order(a, ref, node, &order);
	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_retry(i)) {
		rc = ads_walk_find(a, &w, 0, ref, order, 0, ADS_WRITE);
		/* Another has its order: it was not linked yet, or removed since. */
		if (rc == ADS_OK && w.entry != node)
			rc = ADS_ABSENT;
		if (rc || ads_node_delete(a, ref, &w))
			break;
		rc = ADS_BUDGET;
	}
	ads_hand_clear(a);
	return ads_intrusive_count(a, list, rc);
}

/* The node with *order, or the first one and its *order; with `take` it is taken out. Or an error. */
ADS_GLOBAL __s64 ads_nodes_find(struct ads_arena *a, __u32 list, __u64 *order, __u32 first, __u32 take)
{
	struct ads_ref ref = ads_nodes_ref(list);
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	enum ads_walk_mode mode = take ? ADS_WRITE : ADS_READ;
	int rc = ADS_BUDGET;
	__u32 i;

	if (!order)
		return ADS_INVALID;
	if (take && !ads_writable(a))
		return ADS_READ_ONLY;
	for (ads_retry(i)) {
		rc = first ? ads_walk_first(a, &w, ref, mode) : ads_walk_find(a, &w, 0, ref, *order, 0, mode);
		if (rc || !take || ads_node_delete(a, ref, &w))
			break;
		rc = ADS_BUDGET;
	}
	if (take)
		ads_hand_clear(a);
	if (rc)
		return ads_intrusive_count(a, list, rc);
	if (first)
		*order = w.hash;
	return w.entry;
}

/* The next node of a scan, or an error; ADS_ABSENT: no more. */
ADS_GLOBAL __s64 ads_nodes_next(struct ads_arena *a, __u32 list, struct ads_scan *scan)
{
	__u32 node = 0;
	int rc;

	if (!scan)
		return ADS_INVALID;
	rc = ads_scan_next(a, scan, ads_nodes_ref(list), 0, 0, 0, &node);
	return rc ? (__s64)ads_intrusive_count(a, list, rc) : (__s64)node;
}

/* --- the list as a structure ------------------------------------------------------------------ */

static ADS_INLINE int ads_node_or_error(__s64 found, __u32 *node)
{
	*node = found > 0 ? (__u32)found : 0;
	return found > 0 ? ADS_OK : (int)found;
}

/*
 * Link a node where its order belongs. ADS_EXISTS: another has that order. ADS_LINKED: the node
 * is in a list, this or another. ADS_INVALID: it is no node of the list's pool in a record in use.
 */
static ADS_INLINE int ads_intrusive_insert(struct ads_arena *a, struct ads_ref ref, __u64 order, __u32 node)
{
	return ads_nodes_link(a, ref.offset, node, &order, 0);
}

/*
 * Link a node at the head; *order becomes one below that of the first, 2^63 in an empty list.
 * ADS_FULL if the first one's order is 0; else as insert.
 */
static ADS_INLINE int ads_intrusive_push(struct ads_arena *a, struct ads_ref ref, __u32 node, __u64 *order)
{
	return ads_nodes_link(a, ref.offset, node, order, 1);
}

/*
 * Take a node out of the list: with ADS_OK it was this caller who did, and may free the record
 * or link it anywhere. ADS_ABSENT: the node is not in this list.
 */
static ADS_INLINE int ads_intrusive_remove(struct ads_arena *a, struct ads_ref ref, __u32 node)
{
	return ads_nodes_remove(a, ref.offset, node);
}

/* Take out the node that has an order; *node tells which it was. */
static ADS_INLINE int ads_intrusive_pop(struct ads_arena *a, struct ads_ref ref, __u64 order, __u32 *node)
{
	return ads_node_or_error(ads_nodes_find(a, ref.offset, &order, 0, 1), node);
}

/* Take out the first node: what was first at a moment of this call. */
static ADS_INLINE int ads_intrusive_pop_first(struct ads_arena *a, struct ads_ref ref, __u64 *order, __u32 *node)
{
	return ads_node_or_error(ads_nodes_find(a, ref.offset, order, 1, 1), node);
}

/* The node that has an order. */
static ADS_INLINE int ads_intrusive_find(struct ads_arena *a, struct ads_ref ref, __u64 order, __u32 *node)
{
	return ads_node_or_error(ads_nodes_find(a, ref.offset, &order, 0, 0), node);
}

/* The first node and its order. */
static ADS_INLINE int ads_intrusive_first(struct ads_arena *a, struct ads_ref ref, __u64 *order, __u32 *node)
{
	return ads_node_or_error(ads_nodes_find(a, ref.offset, order, 1, 0), node);
}

/* Whether a node is in the list: ADS_OK with its order, or ADS_ABSENT. */
static ADS_INLINE int ads_intrusive_contains(struct ads_arena *a, struct ads_ref ref, __u32 node, __u64 *order)
{
	__u32 found;
	int rc;

	if (node < ADS_HEAP_OFFSET || node & 7 || ads_bad(a, node, sizeof(struct ads_node)))
		return ADS_INVALID;
	rc = ads_node_order(a, ref, node, order);
	if (rc)
		return rc;
	rc = ads_intrusive_find(a, ref, *order, &found);
	return rc == ADS_OK && found != node ? ADS_ABSENT : rc;
}

/*
 * The next node in order; start with ads_scan_start(a, scan, ads_list_head(ref)), or to go on
 * behind an order with ads_scan_after(). scan->hash becomes its order. ADS_ABSENT: no more.
 * Nodes that are in the list throughout are returned once each, whatever happens to others.
 */
static ADS_INLINE int ads_intrusive_next(struct ads_arena *a, struct ads_ref ref, struct ads_scan *scan, __u32 *node)
{
	return ads_node_or_error(ads_nodes_next(a, ref.offset, scan), node);
}

/* Nodes in the list, by walking it: the number, or an error. */
static ADS_INLINE __s64 ads_intrusive_len(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_scan scan;
	__s64 count = 0;
	int rc = ads_scan_start(a, &scan, ads_list_head(ref));
	__u32 i, node;

	if (rc)
		return rc;
	for (ads_loop(i)) {
		rc = ads_intrusive_next(a, ref, &scan, &node);
		if (rc)
			return rc == ADS_ABSENT ? count : rc;
		count++;
	}
	return ads_count(a, ref.offset, ADS_BUDGET);
}

/* --- making --------------------------------------------------------------------------------- */

#if !ADS_BPF

/* Whether the header of a list is one, and its pool and its node fit each other. */
static inline int ads_intrusive_believe(struct ads_arena *a, struct ads_ref ref)
{
	const struct ads_header *h, *pool;

	if (ref.offset % ADS_LINE || ads_bad(a, ref.offset, sizeof(struct ads_intrusive)))
		return ADS_DAMAGED;
	h = ads_at(a, struct ads_header, ref.offset);
	if (h->kind != ADS_KIND_INTRUSIVE || h->key_size || h->value_size != ref.value_size || !h->max_entries || h->flags || ref.flags ||
	    h->table != ads_list_head(ref) || h->most % 8 ||
	    ref.value_size > ADS_MAX_VALUE || (__u64)h->most + sizeof(struct ads_node) > ref.value_size ||
	    h->first % ADS_LINE || ads_bad(a, h->first, sizeof(struct ads_collection)))
		return ADS_DAMAGED;
	pool = ads_at(a, struct ads_header, h->first);
	return pool->kind != ADS_KIND_POOL || pool->value_size != ref.value_size ? ADS_DAMAGED : ADS_OK;
}

/*
 * Create a list of records of a pool, linked by their node at this offset; ref->offset becomes its
 * place. ADS_INVALID: the offset is not a multiple of 8 with room for a node in a record.
 */
static inline int ads_intrusive_create(struct ads_arena *a, struct ads_ref *ref, struct ads_ref pool, __u32 node)
{
	struct ads_intrusive *list;
	int rc;

	if (node % 8 || (__u64)node + sizeof(struct ads_node) > pool.value_size ||
	    ads_bad(a, pool.offset, sizeof(struct ads_collection)) ||
	    ads_at(a, struct ads_header, pool.offset)->kind != ADS_KIND_POOL)
		return ADS_INVALID;
	rc = ads_alloc(a, sizeof(struct ads_intrusive), &ref->offset);
	if (rc)
		return rc;
	ref->key_size = 0;
	ref->value_size = pool.value_size;
	ref->flags = 0;
	list = ads_at(a, struct ads_intrusive, ref->offset);
	list->header.kind = ADS_KIND_INTRUSIVE;
	list->header.value_size = ref->value_size;
	list->header.max_entries = ads_at(a, struct ads_header, pool.offset)->max_entries;
	list->header.table = ads_list_head(*ref);
	list->header.first = pool.offset;
	list->header.most = node;
	list->head = ADS_LINK_END;
	return ADS_OK;
}

#endif /* !ADS_BPF */
#endif /* ARENADS_INTRUSIVE_H */
