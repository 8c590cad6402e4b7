/* SPDX-License-Identifier: MIT */
/*
 * check.h - find out whether the books of a structure, and of the arena, balance. User space only.
 *
 * Every entry that was ever carved is in exactly one place: linked, free, or not taken
 * from its chunk yet. One that is in none has been leaked by a writer that died between
 * taking it and publishing it (or between unlinking it and giving it back).
 *
 * While others work on the structure, an entry in their hands looks leaked and one that they
 * move looks misplaced, so what a live check reports must be read with that in mind, and
 * repair is for when no writer is running. Reading is safe at any time: every offset is
 * checked and every walk is bounded by the memory there is.
 */
#ifndef ARENADS_CHECK_H
#define ARENADS_CHECK_H

#include "directory.h"

#if !ADS_BPF

#include <stdlib.h>

struct ads_check_report {
	__u64 live;	/* linked, not deleted */
	__u64 deleted;	/* linked, deleted, waiting for the next writer to unlink them */
	__u64 free;	/* on a free list */
	__u64 waiting;	/* for a grace period to end */
	__u64 unused;	/* in a chunk, never taken */
	__u64 carved;	/* all of the above and the leaked ones */
	__u64 leaked;	/* in no place; of an intrusive list: in no list, and not free to be linked */
	__u64 repaired; /* leaked entries given back */
	__u64 errors;	/* things that no sequence of operations and deaths can produce */
	__u64 error_at; /* offset of the first */
};

/* One bit for each 8 bytes of the arena: whether an entry starts there and was seen. */
struct ads_check {
	struct ads_arena *a;
	unsigned char *linked, *freed;
	__u64 cells;
	struct ads_check_report *report;
};

static inline void ads_check_error(struct ads_check *c, __u64 at)
{
	if (!c->report->errors++)
		c->report->error_at = at;
}

/* Set the bit of an offset; whether it was set before. */
static inline int ads_check_mark(unsigned char *bits, __u32 offset)
{
	unsigned char bit = (unsigned char)(1 << (offset / 8 % 8));
	int was = bits[offset / 64] & bit;

	bits[offset / 64] |= bit;
	return was;
}

static inline int ads_check_seen(const unsigned char *bits, __u32 offset)
{
	return bits[offset / 64] >> (offset / 8 % 8) & 1;
}

/* How the keys of two entries compare; equal ones may not be in one list. */
static inline int ads_check_order(struct ads_arena *a, __u32 entry, __u32 next, struct ads_ref ref)
{
	__u64 key[ADS_MAX_KEY / 8];

	ref.key_size = ads_round_up(ref.key_size, 8);
	ads_copy_out(a, key, next + 16, ref.key_size);
	return ads_compare_key(a, entry, key, ref);
}

static inline __u64 ads_check_hash(struct ads_arena *a, __u32 entry, __u32 key_size, __u64 seed)
{
	__u64 key[ADS_MAX_KEY / 8];

	ads_copy_out(a, key, entry + 16, ads_round_up(key_size, 8));
	return ads_hash(key, key_size, seed);
}

/* Every shortcut that says it is ready must have been met in the list. */
static inline void ads_check_tables(struct ads_check *c, struct ads_ref ref)
{
	__u64 table = ads_table_newest(c->a, ref.offset);
	__u32 tables;

	for (tables = 0; table && tables < 32; tables++, table = ads_table_previous(c->a, table)) {
		__u64 links = 1ull << ads_table_bits(table);
		__u64 i;

		if (ads_bad(c->a, (__u32)table, sizeof(struct ads_table) + 8 * links)) {
			ads_check_error(c, (__u32)table);
			return;
		}
		for (i = 0; i < links; i++) {
			__u32 at = (__u32)(table + sizeof(struct ads_table) + 8 * i);

			if (ads_link_ready(ads_load_acquire(ads_at(c->a, __u64, at))) && /* A3 */
			    !ads_check_seen(c->linked, at))
				ads_check_error(c, at);
		}
	}
}

/* Follow all links from the first word on: hashes only grow, and at the same hash come the
 * shortcuts of older tables, those of newer ones, the entries. */
static inline void ads_check_links(struct ads_check *c, __u32 kind, struct ads_ref ref, __u32 at)
{
	__u32 map = ads_kind_is_hashed(kind);
	__u32 stride = ads_entry_stride(ref);
	__u64 seed = ads_at(c->a, struct ads_header, ref.offset)->seed;
	__u64 step, link, hash = 0, shift = 64;
	__u32 last = 0; /* the live entry before */

	if (ads_bad(c->a, at, 8) || (map && ads_check_mark(c->linked, at))) {
		ads_check_error(c, at);
		return;
	}
	link = ads_load_acquire(ads_at(c->a, __u64, at)); /* A3, pairs with R3 */
	for (step = 0; step < c->cells; step++) {
		__u32 next = (link & ADS_LINK_MARK ? ads_deleted_next(link) : ads_link_next(link)) & ~ADS_LINK_PENDING;
		struct ads_entry *e;

		if (next == ADS_LINK_END)
			return;
		if (next & ADS_LINK_TAG) {
			__u64 table, first;

			at = next & ~ADS_LINK_TAG;
			table = map ? ads_shortcut_table(c->a, ref.offset, at) : 0;
			first = map ? ads_shortcut_hash(c->a, ref.offset, at) : 0;
			if (!table || ads_bad(c->a, at, 8) || ads_check_mark(c->linked, at) || first < hash ||
			    (first == hash && table >> 32 >= shift)) {
				ads_check_error(c, at);
				return;
			}
			hash = first;
			shift = table >> 32;
			last = 0; /* keys are compared only with those behind the same shortcut */
			link = ads_load_acquire(ads_at(c->a, __u64, at)); /* A3 */
			continue;
		}
		if (ads_bad(c->a, next, stride) || ads_check_mark(c->linked, next)) {
			ads_check_error(c, next); /* outside, or a cycle */
			return;
		}
		e = ads_at(c->a, struct ads_entry, next);
		link = ads_load_acquire(&e->link); /* A3 */
		if (link & ADS_LINK_MARK) {
			c->report->deleted++;
			continue;
		}
		c->report->live++;
		if (e->hash < hash || (last && e->hash == hash && ads_check_order(c->a, last, next, ref) >= 0))
			ads_check_error(c, next);
		if (map && ads_check_hash(c->a, next, ref.key_size, seed) != e->hash)
			ads_check_error(c, next);
		hash = e->hash;
		last = next;
		shift = 0; /* no shortcut may follow an entry of its own hash */
	}
	ads_check_error(c, ref.offset);
}

/* Go on to where a position of a ring is now; 0: it is nowhere. */
static inline int ads_check_seek(struct ads_check *c, struct ads_ref ref, enum ads_mpmc_end end,
				 struct ads_mpmc_place *at)
{
	int rc = ads_mpmc_seek(c->a, ref, end, at);

	if (rc != ADS_DAMAGED && rc != ADS_BUDGET)
		return 1;
	ads_check_error(c, ref.offset);
	return 0;
}

/*
 * Look at every slot of an MPMC ring: each has the record, or waits for the record, of a position
 * that the ring can be at. Positions only grow, so they are read before and after: who works on
 * the ring meanwhile makes no error.
 */
static inline void ads_check_slots(struct ads_check *c, struct ads_ref ref)
{
	__u32 bits = ads_at(c->a, struct ads_header, ref.offset)->most & 31;
	__u64 slots = 1ull << bits;
	struct ads_mpmc_place head, tail, head_now, tail_now;
	__u64 i;

	ads_mpmc_start(c->a, ref, ADS_MPMC_HEAD, &head);
	ads_mpmc_start(c->a, ref, ADS_MPMC_TAIL, &tail);
	if (!ads_check_seek(c, ref, ADS_MPMC_HEAD, &head) || !ads_check_seek(c, ref, ADS_MPMC_TAIL, &tail))
		return;
	head_now = head;
	tail_now = tail;
	if (!ads_check_seek(c, ref, ADS_MPMC_HEAD, &head_now))
		return;
	if ((__s64)(tail.position - head.position) < 0 || (__s64)(tail.position - head_now.position) > (__s64)slots)
		ads_check_error(c, ref.offset + (__u32)sizeof(struct ads_collection));
	for (i = 0; i < slots; i++) {
		__u64 *slot = ads_at(c->a, __u64, ref.offset + sizeof(struct ads_mpmc) + 8 * i);
		__u32 at = (__u32)((char *)slot - c->a->base);
		__u64 seen = ads_load_acquire(slot); /* A41, pairs with R41 */
		__u32 entry = ads_mpmc_entry(seen), full = (__u32)seen & ADS_MPMC_FULL;
		__u64 lap = head.position >> bits, first, end;

		if (!ads_check_seek(c, ref, ADS_MPMC_HEAD, &head_now) ||
		    !ads_check_seek(c, ref, ADS_MPMC_TAIL, &tail_now))
			return;
		lap += (__u64)(__s32)((__u32)(seen >> 32) - (__u32)lap); /* the slot's, all 64 bits */
		first = full ? head.position : tail.position;
		end = full ? tail_now.position : head_now.position + slots;
		if ((lap << bits) + i - first >= end - first || (full && !entry))
			ads_check_error(c, at);
		/* One that is claimed is in somebody's hand, as far as entries are counted. */
		if (!entry || (__u32)seen & ADS_MPMC_CLAIMED)
			continue;
		if (ads_bad(c->a, entry, ads_mpmc_pool(ref).stride) ||
		    ads_check_mark(full ? c->linked : c->freed, entry) || ads_check_seen(full ? c->freed : c->linked, entry) ||
		    (ads_load(ads_link_of(c->a, entry)) & ADS_LINK_MARK && ads_load(slot) == seen)) {
			ads_check_error(c, at);
			continue;
		}
		c->report->live += !!full;
		c->report->free += !full;
	}
}

/* Follow the free lists; the count in each entry must be that of the entries below it. */
static inline void ads_check_free(struct ads_check *c, struct ads_pool_ref pool)
{
	__u32 s;

	for (s = 0; s < ADS_ALL_SHARDS; s++) {
		__u64 top = ads_load_acquire(&ads_shard_of(c->a, pool, s)->free); /* A2, pairs with R2 */
		__u32 at = (__u32)top & ~ADS_TOP_FLAGS;
		__u32 taken = (__u32)top & ADS_TOP_TAKEN ? at : 0;
		__u64 left = ~0ull;

		if (!at && (__u32)top)
			ads_check_error(c, pool.offset); /* marks of an entry that is none */
		while (at) {
			__u64 word;

			if (ads_bad(c->a, at, pool.stride) || (at != taken && ads_check_mark(c->freed, at))) {
				ads_check_error(c, at);
				return;
			}
			word = ads_load(&ads_at(c->a, struct ads_entry, at)->hash);
			if (left != ~0ull && word >> 32 != left)
				ads_check_error(c, at);
			left = (word >> 32) - 1;
			if (ads_check_seen(c->linked, at))
				ads_check_error(c, at);
			/* The topmost one may be in somebody's hand already. */
			c->report->free += at != taken && s < ADS_SHARD_RETIRED;
			c->report->waiting += at != taken && s >= ADS_SHARD_RETIRED;
			at = (__u32)word;
		}
		if (left && left != ~0ull)
			ads_check_error(c, pool.offset); /* the lowest one does not count 1 */
	}
	for (s = 0; s < ADS_SHARDS; s++) {
		__u64 word = ads_load_acquire(&ads_shard_of(c->a, pool, s)->spare); /* A2 */
		__u32 at = (__u32)word & ~ADS_MPMC_LENT;

		if (!at)
			continue;
		c->report->free++;
		if (ads_bad(c->a, at, pool.stride) || ads_check_mark(c->freed, at) || ads_check_seen(c->linked, at) ||
		    s >= ads_at(c->a, struct ads_pool, pool.offset)->own_spares)
			ads_check_error(c, ads_shard_place(pool, s));
	}
}

/* Give a leaked entry back, first to a shard that lacks its spare one: as nobody writes meanwhile, that
 * is lost. Not in an MPMC ring, whose BPF programs give a shard one when they can. */
static inline void ads_check_give(struct ads_check *c, struct ads_pool_ref pool, __u32 entry)
{
	const struct ads_pool *p = ads_at(c->a, struct ads_pool, pool.offset);
	__u32 s, own = p->spares ? p->own_spares : 0;

	for (s = 0; s < own && s < ADS_SHARDS; s++)
		if (!(__u32)ads_load(&ads_shard_of(c->a, pool, s)->spare)) {
			ads_spare_give(c->a, pool, ads_shard_place(pool, s), entry);
			return;
		}
	ads_pool_give(c->a, pool, entry);
}

/* Visit every entry in the pool's chunks: the heap says which those are. */
static inline void ads_check_chunks(struct ads_check *c, __u32 kind, struct ads_pool_ref pool, int repair)
{
	__u64 cursor = ads_load_acquire(&ads_root_of(c->a)->cursor); /* A1, pairs with R1 */
	__u64 at, placed = 0, last_chunk = 0, books;

	for (at = ADS_HEAP_OFFSET;;) {
		__u64 word, bytes, taken, i;
		__u64 chunk;

		/* A10, pairs with R10 */
		word = ads_arena_reaches(c->a, at + 8) ? ads_load_acquire(ads_at(c->a, __u64, at)) : 0;
		/* At the cursor there may be one more block, whose claimer has died. */
		if (!word && at >= cursor)
			break;
		if ((word & 3) == ADS_BLOCK_CHUNK && ((__u32)word & ~63u) == pool.offset)
			bytes = word >> 32 > 0xffff ? 0 : ads_block_size(word >> 32, pool.stride);
		else
			bytes = ads_block_bytes(c->a, word);
		if (!bytes || !ads_arena_reaches(c->a, at + bytes)) {
			ads_check_error(c, at);
			return;
		}
		if ((word & 3) != ADS_BLOCK_CHUNK || ((__u32)word & ~63u) != pool.offset) {
			at += bytes;
			continue;
		}
		last_chunk = at >= cursor ? word >> 32 : 0;
		chunk = ads_load_acquire(&ads_shard_of(c->a, pool, (word >> 2) & 15)->chunk); /* A12, pairs with R12 */
		taken = word >> 32; /* a newer chunk has taken its place: it is used up */
		if (((__u32)chunk & ~ADS_TOP_FLAGS) == at + 8)
			taken = ((chunk >> 32) & 0xffff) + !!((__u32)chunk & ADS_TOP_TAKEN);
		else if ((__u32)chunk < at)
			taken = 0; /* not given to its shard yet */
		for (i = 0; i < word >> 32; i++) {
			__u32 entry = (__u32)(at + 8 + i * pool.stride);
			int linked = ads_check_seen(c->linked, entry);
			int freed = ads_check_seen(c->freed, entry);

			/* An object of a pool is in use exactly while its link is not marked. */
			if (kind == ADS_KIND_POOL && i < taken && !freed && !ads_bad(c->a, entry, pool.stride) &&
			    ads_load(ads_link_of(c->a, entry)) && !(ads_load(ads_link_of(c->a, entry)) & ADS_LINK_MARK)) {
				linked = 1;
				c->report->live++;
			}
			c->report->carved++;
			placed += (__u64)(linked || freed);
			if (i >= taken) {
				c->report->unused++;
				if (linked || freed)
					ads_check_error(c, entry);
			} else if (!linked && !freed) {
				c->report->leaked++;
				if (repair) {
					ads_check_give(c, pool, entry);
					c->report->repaired++;
				}
			}
		}
		at += bytes;
	}
	books = ads_load_acquire(&ads_at(c->a, struct ads_pool, pool.offset)->carved) >> 32; /* A11, pairs with R11 */
	if (books != c->report->carved && books + last_chunk != c->report->carved)
		ads_check_error(c, pool.offset); /* the books may lack a chunk at the cursor, no more */
	if (placed != c->report->live + c->report->deleted + c->report->free + c->report->waiting)
		ads_check_error(c, pool.offset); /* something linked or free lies in no chunk */
}

/*
 * Visit the nodes of an intrusive list, in the records of its pool. Those that were met in the list
 * must be in records in use, and all of them here. One that was not met and is not out either
 * is leaked: who claimed or removed it has died.
 */
static inline void ads_check_nodes(struct ads_check *c, struct ads_ref ref, int repair)
{
	const struct ads_header *h = ads_at(c->a, struct ads_header, ref.offset);
	struct ads_ref pool = {h->first, 0, ref.value_size, 0};
	__u32 stride = ads_entry_stride(pool), node_at = h->most;
	__u64 at, bytes, i, placed = 0;

	for (at = ADS_HEAP_OFFSET; ads_arena_reaches(c->a, at + 8); at += bytes) {
		__u64 word = ads_load_acquire(ads_at(c->a, __u64, at)); /* A10 */

		bytes = ads_block_bytes(c->a, word);
		if (!bytes || !ads_arena_reaches(c->a, at + bytes))
			break;
		if ((word & 3) != ADS_BLOCK_CHUNK || ((__u32)word & ~63u) != ads_pool_of(pool).offset)
			continue;
		for (i = 0; i < word >> 32; i++) {
			__u32 entry = (__u32)(at + 8 + i * stride);
			__u32 node = entry + ads_entry_value_offset(pool) + node_at;
			struct ads_node *n = ads_node_at(c->a, node);
			__u64 used, link;
			__u32 list;

			if (ads_bad(c->a, entry, stride) || node_at > stride)
				break; /* of another size than its pool says */
			used = ads_load(ads_link_of(c->a, entry));
			link = ads_load_acquire(&n->link); /* A3 */
			list = ads_node_list(c->a, node, link);
			if (ads_check_seen(c->linked, node)) {
				placed++;
				if (ads_node_is_taken(link) && (list != ref.offset || !used || used & ADS_LINK_MARK))
					ads_check_error(c, node); /* freed, or linked elsewhere too */
			} else if (!ads_node_is_out(link) && list == ref.offset) {
				c->report->leaked++;
				if (repair) {
					ads_cas(&n->link, link, ads_link_change(link, 0) | ADS_LINK_MARK); /* R3 */
					c->report->repaired++;
				}
			}
		}
	}
	c->report->carved = c->report->live + c->report->deleted + c->report->leaked;
	if (placed != c->report->live + c->report->deleted)
		ads_check_error(c, ref.offset); /* something linked is no node of the pool's records */
}

/*
 * Whether `object` is one of the pool's, at `chunk` or in a chunk behind it: 1 with *chunk and
 * *count set to its chunk's first object and number of objects, 0 if not. Start with 0.
 */
static inline int ads_pool_chunk_of(struct ads_arena *a, struct ads_ref ref, __u32 object, __u32 *chunk, __u32 *count)
{
	struct ads_pool_ref pool = ads_kind_pool(ads_at(a, struct ads_header, ref.offset)->kind, ref);
	__u64 at = ADS_HEAP_OFFSET;

	while (ads_arena_reaches(a, at + 8)) {
		__u64 word = ads_load_acquire(ads_at(a, __u64, at)); /* A10, pairs with R10 */
		__u64 bytes = ads_block_bytes(a, word);

		if (!bytes || at > object)
			break;
		if ((word & 3) == ADS_BLOCK_CHUNK && ((__u32)word & ~63u) == pool.offset && object < at + bytes) {
			*chunk = (__u32)at + 8 + ads_entry_value_offset(ref);
			*count = (__u32)(word >> 32);
			return object >= *chunk && !((object - *chunk) % pool.stride) &&
			       (object - *chunk) / pool.stride < *count;
		}
		at += bytes;
	}
	return 0;
}

/* Finish what dead threads began at the stacks and chunks of a pool: their entries are leaked then. */
static inline void ads_check_help(struct ads_arena *a, struct ads_pool_ref pool)
{
	__u32 s;

	for (s = 0; s < ADS_ALL_SHARDS; s++) {
		struct ads_shard *shard = ads_shard_of(a, pool, s);
		__u64 chunk = ads_load_acquire(&shard->chunk); /* A12, pairs with R12 */
		__u32 next = ads_chunk_next(chunk, pool);
		int i;

		for (i = 0; i < 2; i++) /* one that was taken, and then what was under it */
			ads_shard_helped(a, shard, ads_load_acquire(&shard->free)); /* A2 */
		if ((__u32)chunk & ADS_TOP_TAKEN && !ads_bad(a, next, pool.stride))
			ads_chunk_help(a, shard, chunk, next);
	}
}

/* Finish the claim at the cursor, if there is one. */
static inline void ads_check_finish(struct ads_arena *a)
{
	__u64 cursor = ads_load_acquire(&ads_root_of(a)->cursor); /* A1, pairs with R1 */

	if (cursor % ADS_LINE == 56 && cursor < a->size && ads_arena_reaches(a, cursor + 8)) {
		__u64 word = ads_load_acquire(ads_at(a, __u64, cursor)); /* A10, pairs with R10 */

		if (word)
			ads_block_finish(a, (__u32)cursor, word);
	}
}

/* Do what the dead left undone: the claim at the cursor, and deleted entries still linked, which
 * are leaked then. */
static inline void ads_check_sweep(struct ads_arena *a, __u32 kind, struct ads_ref ref, __u32 start)
{
	struct ads_pool_ref pool = ads_kind_pool(kind, ref);
	struct ads_walk w;
	__u64 step;

	ads_check_finish(a);
	if (kind != ADS_KIND_INTRUSIVE) /* that has no pool */
		ads_check_help(a, pool);
	if (kind == ADS_KIND_MPMC)
		ads_mpmc_help(a, ref);
	if (!start)
		return;
	w = ads_walk_from(start);
	if (ads_bad(a, w.start, 8))
		return;
	ads_walk_restart(a, &w, pool);
	for (step = 0; step < a->size / 8; step++) {
		enum ads_look seen = ads_walk_look(a, &w, pool, ADS_WRITE);

		if (seen == ADS_LOOK_DAMAGED || w.entry == ADS_LINK_END)
			return;
		if (seen == ADS_LOOK_ENTRY)
			ads_walk_advance(&w);
		if (seen == ADS_LOOK_END) {
			w.start = w.entry & ~ADS_LINK_TAG;
			if (ads_bad(a, w.start, 8))
				return;
			ads_walk_restart(a, &w, pool);
		}
	}
}

/* Where the list of a structure begins, or for towers that of one of their levels; 0: no more lists. */
static inline __u32 ads_check_start(struct ads_arena *a, __u32 kind, struct ads_ref ref, __u32 number)
{
	const struct ads_header *h = ads_at(a, struct ads_header, ref.offset);

	if (kind == ADS_KIND_INDEX) {
		struct ads_ref map = {h->first, 0, 0, 0};

		return number < ADS_LEVELS ? ads_orderedmap_head(map, number + 1) : 0;
	}
	if (number || kind == ADS_KIND_POOL || kind == ADS_KIND_MPMC)
		return 0;
	return ads_kind_is_hashed(kind) ? h->first : ads_list_head(ref);
}

/* A ring has no entries that could leak: its positions and what waits are looked at. */
static inline int ads_check_ring(struct ads_arena *a, struct ads_ref ref, struct ads_check_report *report)
{
	report->error_at = ads_ring_check(a, ref, &report->live);
	report->errors = !!report->error_at;
	report->carved = report->live;
	return ADS_OK;
}

/* What a walk must know of a structure: of an intrusive list, that it is one of nodes. */
static inline struct ads_ref ads_check_walked(__u32 kind, struct ads_ref ref)
{
	return kind == ADS_KIND_INTRUSIVE ? ads_nodes_ref(ref.offset) : ref;
}

static inline void ads_check_all(struct ads_check *c, __u32 kind, struct ads_ref ref, int repair)
{
	struct ads_pool_ref pool = ads_kind_pool(kind, ref);
	struct ads_ref walked = ads_check_walked(kind, ref);
	__u32 start, i;

	if (kind == ADS_KIND_MPMC)
		ads_check_slots(c, ref);
	for (i = 0; (start = ads_check_start(c->a, kind, ref, i)); i++)
		ads_check_links(c, kind, walked, start);
	if (kind == ADS_KIND_INTRUSIVE) {
		ads_check_nodes(c, ref, repair && !c->report->errors);
		return;
	}
	if (ads_kind_is_hashed(kind))
		ads_check_tables(c, ref);
	ads_check_free(c, pool);
	ads_check_chunks(c, kind, pool, repair && !c->report->errors);
}

static inline int ads_collection_check(struct ads_arena *a, __u32 kind, struct ads_ref ref, int repair,
				       struct ads_check_report *report);

/* The towers of an ordered map are hints: only what is wrong with them counts. */
static inline int ads_check_towers(struct ads_arena *a, struct ads_ref index, int repair, struct ads_check_report *report)
{
	struct ads_check_report towers;
	int rc = ads_collection_check(a, ADS_KIND_INDEX, index, repair, &towers);

	if (rc)
		return rc;
	if (!report->errors)
		report->error_at = towers.error_at;
	report->errors += towers.errors;
	report->leaked += towers.leaked;
	report->repaired += towers.repaired;
	return ADS_OK;
}

/*
 * Check an array: each chunk word names a block of the heap that is that chunk, and each block
 * of the heap that is a chunk of this array is named by its word. But for one at the cursor,
 * whose claimer has died: `repair` does the rest of its work.
 */
static inline int ads_array_check(struct ads_arena *a, struct ads_ref ref, int repair, struct ads_check_report *report)
{
	struct ads_check c = {a, 0, 0, a->size / 8, report};
	__u64 entries = ads_array_entries(a, ref);
	__u32 shift = ads_array_shift(ref.value_size);
	__u64 chunks = ads_array_chunks(ref.value_size, entries);
	__u64 cursor = ads_load_acquire(&ads_root_of(a)->cursor); /* A1 */
	__u64 at, number;

	for (number = 0; number < chunks; number++) {
		__u32 place = ads_array_word(ref.offset, (__u32)number);
		__u64 first = number << shift;
		__u64 word;

		if (ads_bad(a, place, 8)) {
			ads_check_error(&c, place);
			return ADS_OK;
		}
		word = ads_load_acquire(ads_at(a, __u64, place)); /* A15 */
		if (!word)
			continue;
		report->carved += entries - first < 1ull << shift ? entries - first : 1ull << shift;
		/* A10, pairs with R10. */
		if (word >> 32 || word % ADS_LINE || ads_bad(a, (__u32)word - 8, ads_array_block_size(a, ref.offset, number)) ||
		    ads_load_acquire(ads_at(a, __u64, (__u32)word - 8)) != (number << 32 | ref.offset | ADS_BLOCK_TABLE))
			ads_check_error(&c, place);
	}
	report->live = report->carved;
	for (at = ADS_HEAP_OFFSET;;) {
		__u64 word = ads_arena_reaches(a, at + 8) ? ads_load_acquire(ads_at(a, __u64, at)) : 0; /* A10 */
		__u64 bytes = ads_block_bytes(a, word);

		if (!word && at >= cursor)
			break;
		if (!bytes || !ads_arena_reaches(a, at + bytes)) {
			ads_check_error(&c, at);
			break;
		}
		if ((word & 3) == ADS_BLOCK_TABLE && ((__u32)word & ~63u) == ref.offset) {
			__u32 place = ads_array_word(ref.offset, (__u32)(word >> 32));
			__u64 names = ads_bad(a, place, 8) ? ~0ull : ads_load_acquire(ads_at(a, __u64, place)); /* A15 */

			if (names != at + 8 && (names || at < cursor))
				ads_check_error(&c, at);
		}
		at += bytes;
	}
	if (repair && !report->errors)
		ads_check_finish(a);
	return ADS_OK;
}

/*
 * Check a structure. 0, or an error if it could not be checked at all; what was
 * found is in *report. `repair` gives leaked entries back: only while no writer is running.
 */
static inline int ads_collection_check(struct ads_arena *a, __u32 kind, struct ads_ref ref, int repair,
				       struct ads_check_report *report)
{
	struct ads_check c = {a, 0, 0, a->size / 8, report};
	int rc = ads_structure_check(a, kind, ref);
	__u32 i;

	memset(report, 0, sizeof(*report));
	if (rc)
		return rc;
	if (repair && !ads_writable(a))
		return ADS_READ_ONLY;
	if (kind == ADS_KIND_RING)
		return ads_check_ring(a, ref, report);
	if (kind == ADS_KIND_ARRAY)
		return ads_array_check(a, ref, repair, report);
	c.linked = (unsigned char *)calloc(1, a->size / 64 + 1);
	c.freed = (unsigned char *)calloc(1, a->size / 64 + 1);
	if (c.linked && c.freed) {
		ads_check_all(&c, kind, ref, 0);
		if (repair && !report->errors) {
			__u64 deleted = report->deleted;

			for (i = 0; i <= ADS_LEVELS; i++)
				ads_check_sweep(a, kind, ads_check_walked(kind, ref), ads_check_start(a, kind, ref, i));
			memset(c.linked, 0, a->size / 64 + 1);
			memset(c.freed, 0, a->size / 64 + 1);
			memset(report, 0, sizeof(*report));
			ads_check_all(&c, kind, ref, 1);
			report->leaked -= deleted < report->leaked ? deleted : report->leaked;
			report->deleted += deleted;
		}
	} else {
		rc = ADS_NO_MEMORY;
	}
	free(c.linked);
	free(c.freed);
	if (!rc && kind == ADS_KIND_ORDEREDMAP)
		rc = ads_check_towers(a, ads_orderedmap_index(ref), repair && !report->errors, report);
	return rc;
}

/* --- the arena as a whole -------------------------------------------------------------------- */

struct ads_heap_report {
	__u64 blocks;	     /* from the start of the heap to the cursor */
	__u64 unnamed;	     /* blocks that no name leads to: removed structures, makers that died, others' own */
	__u64 unnamed_bytes; /* of them */
	__u64 writers;	     /* lines of the registry that are in use */
	__u64 errors;	     /* as in struct ads_check_report */
	__u64 error_at;
};

static inline int ads_kind_has_pool(__u32 kind)
{
	return kind && kind <= ADS_KIND_INDEX && kind != ADS_KIND_QUEUE && kind != ADS_KIND_RING &&
	       kind != ADS_KIND_ARRAY && kind != ADS_KIND_INTRUSIVE;
}

/* What is being found out of the heap: where blocks begin that may hold a structure, and which of
 * them something leads to. */
struct ads_heap_check {
	struct ads_arena *a;
	unsigned char *raw, *led_to;
	struct ads_heap_report *report;
};

static inline void ads_heap_error(struct ads_heap_check *c, __u64 at)
{
	if (!c->report->errors++)
		c->report->error_at = at;
}

/* Whether a structure can be at an offset: alone in a block, or the towers in an ordered map's. */
static inline int ads_heap_has(const struct ads_heap_check *c, __u64 at)
{
	const __u64 index = __builtin_offsetof(struct ads_orderedmap, index);

	if (at >= c->a->size || at % ADS_LINE)
		return 0;
	return ads_check_seen(c->raw, (__u32)at) || (at > index && ads_check_seen(c->raw, (__u32)(at - index)));
}

/* Whether the owner of a chunk or table is a structure that has such. */
static inline int ads_heap_owned(const struct ads_heap_check *c, __u64 word)
{
	__u64 owner = (__u32)word & ~63u;
	__u32 kind;

	if ((word & 3) == ADS_BLOCK_CHUNK)
		owner -= __builtin_offsetof(struct ads_collection, pool);
	if (!ads_heap_has(c, owner) || ads_bad(c->a, (__u32)owner, sizeof(struct ads_header)))
		return 0;
	kind = ads_at(c->a, struct ads_header, owner)->kind;
	if ((word & 3) == ADS_BLOCK_CHUNK)
		return ads_kind_has_pool(kind);
	return ads_kind_has_table(kind) || kind == ADS_KIND_ARRAY;
}

/* Walk the blocks: one after the other they lead to the cursor, and each has an owner or is raw. */
static inline void ads_heap_blocks(struct ads_heap_check *c)
{
	__u64 cursor = ads_load_acquire(&ads_root_of(c->a)->cursor); /* A1, pairs with R1 */
	__u64 at = ADS_HEAP_OFFSET, bytes;

	for (; at < cursor; at += bytes) {
		/* A10, pairs with R10 */
		__u64 word = ads_arena_reaches(c->a, at + 8) ? ads_load_acquire(ads_at(c->a, __u64, at)) : 0;

		bytes = ads_block_bytes(c->a, word);
		if (!bytes || !ads_arena_reaches(c->a, at + bytes)) {
			ads_heap_error(c, at);
			return;
		}
		c->report->blocks++;
		if ((word & 3) == ADS_BLOCK_RAW)
			ads_check_mark(c->raw, (__u32)at + 8);
		else if (!ads_heap_owned(c, word))
			ads_heap_error(c, at);
	}
	if (at != cursor)
		ads_heap_error(c, ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, cursor));
}

/* The registry is the first block, and its lines name pools and entries that can be. */
static inline void ads_heap_owners(struct ads_heap_check *c)
{
	__u64 word = ads_load(&ads_root_of(c->a)->owners);
	__u64 cursor = ads_load(&ads_root_of(c->a)->cursor);
	__u32 first, i, h, count = ads_owners(c->a, &first);

	if (!word)
		return;
	if (!count || !ads_heap_has(c, first) || ads_bad(c->a, first, 64ull * count) ||
	    8 + 64ull * count > ads_block_bytes(c->a, ads_load(ads_at(c->a, __u64, first - 8)))) {
		ads_heap_error(c, ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, owners));
		return;
	}
	ads_check_mark(c->led_to, first);
	for (i = 0; i < count; i++) {
		struct ads_owner *line = ads_at(c->a, struct ads_owner, first + 64 * i);
		__u64 pool = ads_load(&line->pool);

		c->report->writers += !!ads_load(&line->who);
		if (pool && !ads_heap_has(c, pool - __builtin_offsetof(struct ads_collection, pool)))
			ads_heap_error(c, first + 64 * i);
		for (h = 0; h < 2; h++) {
			__u32 entry = (__u32)ads_load(&line->hand[h]) & ADS_HAND_ENTRY;

			if (entry && (entry < ADS_HEAP_OFFSET || entry >= cursor))
				ads_heap_error(c, first + 64 * i);
		}
	}
}

/* Each name leads to a structure of its kind, and to its description. */
static inline void ads_heap_names(struct ads_heap_check *c)
{
	struct ads_directory_value value;
	struct ads_check_report list;
	struct ads_scan scan;
	char last[ADS_NAME_SIZE] = {0}, name[ADS_NAME_SIZE];
	struct ads_ref ref;
	__u32 entry;
	int rc = ads_directory(c->a, 0, &ref);

	if (rc == ADS_ABSENT)
		return;
	if (rc || !ads_heap_has(c, ref.offset)) {
		ads_heap_error(c, ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, directory));
		return;
	}
	ads_check_mark(c->led_to, ref.offset);
	/* A walk in circles would end by its budget only: that is the directory's damage, told there. */
	if (ads_collection_check(c->a, ADS_KIND_LIST, ref, 0, &list) || list.errors)
		return;
	rc = ads_scan_start(c->a, &scan, ads_list_head(ref));
	while (!rc && !(rc = ads_scan_next(c->a, &scan, ref, last, name, &value, &entry))) {
		memcpy(last, name, sizeof(last));
		if (!name[0] || name[ADS_NAME_SIZE - 1] ||
		    scan.hash != ads_hash(name, ADS_NAME_SIZE, ADS_DIRECTORY_SEED) ||
		    !ads_heap_has(c, value.offset) || ads_bad(c->a, value.offset, sizeof(struct ads_header)) ||
		    ads_at(c->a, struct ads_header, value.offset)->kind != value.kind ||
		    (value.schema_size && ads_bad(c->a, value.schema_offset, value.schema_size))) {
			ads_heap_error(c, entry);
			continue;
		}
		ads_check_mark(c->led_to, value.offset);
		if (value.schema_size)
			ads_check_mark(c->led_to, value.schema_offset);
	}
	if (rc != ADS_ABSENT)
		ads_heap_error(c, ref.offset); /* its list has no end */
}

/* Count the blocks that nothing leads to. */
static inline void ads_heap_unnamed(struct ads_heap_check *c)
{
	__u64 at;

	for (at = ADS_HEAP_OFFSET + 8; at < c->a->limit; at += ADS_LINE)
		if (ads_check_seen(c->raw, (__u32)at) && !ads_check_seen(c->led_to, (__u32)at)) {
			c->report->unnamed++;
			c->report->unnamed_bytes += ads_block_bytes(c->a, ads_load(ads_at(c->a, __u64, at - 8)));
		}
}

/*
 * Check what is of no structure: that blocks fill the heap and have owners that can have them, the
 * registry, and where names lead. What is in the structures, and in the list of the names, is for
 * ads_collection_check() and ads_directory_check(). Changes nothing; as live as these.
 */
static inline int ads_heap_check(struct ads_arena *a, struct ads_heap_report *report)
{
	struct ads_heap_check c = {a, (unsigned char *)calloc(1, a->size / 64 + 1),
				   (unsigned char *)calloc(1, a->size / 64 + 1), report};
	int rc = ADS_NO_MEMORY;

	memset(report, 0, sizeof(*report));
	if (c.raw && c.led_to) {
		ads_heap_blocks(&c);
		ads_heap_owners(&c);
		ads_heap_names(&c);
		ads_heap_unnamed(&c);
		rc = ADS_OK;
	}
	free(c.raw);
	free(c.led_to);
	return rc;
}

/*
 * Check the directory's list, as ads_collection_check(): an entry that is leaked in it was of
 * somebody who died while naming or removing a structure. All is 0 while there is no directory.
 */
static inline int ads_directory_check(struct ads_arena *a, int repair, struct ads_check_report *report)
{
	struct ads_ref ref;
	int rc = ads_directory(a, 0, &ref);

	memset(report, 0, sizeof(*report));
	if (rc == ADS_ABSENT)
		return ADS_OK;
	if (!rc)
		return ads_collection_check(a, ADS_KIND_LIST, ref, repair, report);
	report->errors = 1;
	report->error_at = ref.offset ? ref.offset : ADS_ROOT_OFFSET + __builtin_offsetof(struct ads_root, directory);
	return ADS_OK;
}

#endif /* !ADS_BPF */
#endif /* ARENADS_CHECK_H */
