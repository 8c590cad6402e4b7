/* SPDX-License-Identifier: MIT */
/*
 * orderedmap.h - a map in the order of its keys: integers, or byte strings of one size.
 *
 * The entries are an ordered list (list.h). Towers over it are hints where to begin a walk, as in a
 * skip list (Pugh, Skip Lists: A Probabilistic Alternative to Balanced Trees, 1990): one entry in
 * eight has one in level 1, one of these in eight in level 2, and so on. Each level is a list of
 * the same kind, with the same code:
 *
 *	level 2   head ---------------------> [d]-----------------------> end
 *	                                       | down
 *	level 1   head -------> [b]---------> [d]----------> [g]--------> end
 *	                         | down        |              |
 *	entries   head -> [a]-> [b]-> [c]---> [d]-> [e]----> [g]-> [h]--> end
 *
 * `down` is {offset of the entry below:32, its life + 1:32}. A hint may be stale: the entry below was
 * deleted, and perhaps used again. Its life tells: it changes after an entry is marked as deleted and
 * before it can be taken again, and who makes a hint knows the life in which it has published the
 * entry. So a walk may begin at an entry whose link is not marked, if after the link was read the
 * life is that of the hint: then it was in the list, with that link. All else is as in list.h, and a
 * missing or stale hint costs steps, never the answer. Who writes and meets a stale one deletes it.
 *
 * An integer's order is the number itself, with the sign bit turned over if it is signed; such a map
 * stores no keys but the order (key_size is 0). A byte string's order is its first 8 bytes, most
 * significant first; equal ones are told apart by the whole key.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at
 *                  once. Reading works through a read-only mapping.
 * Cost             find: about 4 lines a level, one level for each factor of 8 in the entries, no
 *                  atomics. insert, delete: that, 2 CAS and 1 CAS on the pool's line; one time in 8
 *                  again for the towers. first, pop_first: no levels.
 * Commit           one CAS, in list.h.
 * Death            as in list.h; towers may lack a hint or keep a stale one.
 * Memory runs out  ADS_NO_MEMORY, ADS_FULL: counted, nothing changed. A hint for which there is no
 *                  memory is left out.
 * Budget runs out  ADS_BUDGET, counted: not an answer.
 * Limits           keys up to 512 bytes, values up to 64 KiB; above some millions of entries the
 *                  highest level grows long. Pointers into entries: as in hashmap.h.
 */
#ifndef ARENADS_ORDEREDMAP_H
#define ARENADS_ORDEREDMAP_H

#include "list.h"

/* --- keys ----------------------------------------------------------------------------------- */

/* The order of an integer of `size` bytes. */
static ADS_INLINE __u64 ads_order_of_integer(const void *key, __u32 size, __u32 flags)
{
	__u64 order = ads_word(key, 0, size);

	if (flags & ADS_SIGNED)
		order = (__u64)((__s64)(order << (64 - 8 * size)) >> (64 - 8 * size)) ^ (1ull << 63);
	return order;
}

/* The reverse: put the integer with an order into `size` bytes. */
static ADS_INLINE void ads_integer_of_order(void *key, __u32 size, __u32 flags, __u64 order)
{
	ads_put_word(key, 0, size, flags & ADS_SIGNED ? order ^ (1ull << 63) : order);
}

static ADS_INLINE __u64 ads_order_of_bytes(const void *key, __u32 size)
{
	return __builtin_bswap64(ads_word(key, 0, size));
}

/* Levels that the tower of a key has, 0 for most: known to whoever has the key. */
static ADS_INLINE __u32 ads_orderedmap_height(struct ads_arena *a, struct ads_ref ref, __u64 order, const void *key)
{
	__u64 hash = ads_at(a, struct ads_header, ref.offset)->seed ^ order;
	__u32 height = 0;
	__u32 i;

	(void)a;
	for (i = 0; i < ADS_WORDS(ref.key_size); i++)
		hash = (hash ^ ads_word(key, i, ref.key_size)) * 0xbf58476d1ce4e5b9ull;
	/* The finalizer of SplitMix64: neighbours' towers have nothing to do with one another. */
	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9ull;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111ebull;
	for (i = 0; i < ADS_LEVELS && !(hash >> 61); i++, hash <<= 3)
		height++;
	return height;
}

/* --- levels --------------------------------------------------------------------------------- */

static ADS_INLINE struct ads_ref ads_orderedmap_index(struct ads_ref ref)
{
	struct ads_ref index = {
		ref.offset + (__u32)__builtin_offsetof(struct ads_orderedmap, index), ref.key_size, 8, ref.flags & ~(__u32)ADS_GRACE};

	return index;
}

static ADS_INLINE __u32 ads_orderedmap_head(struct ads_ref ref, __u32 level)
{
	return level ? ref.offset + (__u32)__builtin_offsetof(struct ads_orderedmap, heads) + 8 * level
		     : ref.offset + (__u32)__builtin_offsetof(struct ads_collection, head);
}

/* Whether the entry that `down` leads to is in its list, in the life that `down` is about. */
static ADS_INLINE int ads_down_alive(struct ads_arena *a, struct ads_ref ref, __u64 down)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	__u64 link;

	if (!(down >> 32) || ads_bad(a, (__u32)down, pool.life + 8))
		return 0;
	link = ads_load_acquire(ads_link_of(a, (__u32)down)); /* A3, pairs with R3 */
	ads_fence_acquire(); /* F17: the link was read before the life */
	return !(link & ADS_LINK_MARK) && (__u32)ads_load(ads_at(a, __u64, (__u32)down + pool.life)) + 1 == down >> 32;
}

/*
 * Loops that look for a place again because the entry where they began has gone. Nobody is overtaken so
 * often; damaged memory says it for ever, each time after a whole walk. BPF's own budget is time.
 */
#define ADS_OVERTAKEN 64u
#if ADS_BPF
#define ads_loop_overtaken(i) ads_loop(i)
#define ads_overtaken(times) ((void)(times), 0)
#else
#define ads_loop_overtaken(i) ads_each(i, ADS_OVERTAKEN)
#define ads_overtaken(times) (++(times) > ADS_OVERTAKEN)
#endif

/* How to seek: the level where it ends, and whether stale hints are deleted on the way. */
#define ADS_SEEK_LEVEL 15u
#define ADS_SEEK_WRITE 16u

/*
 * Where a walk for (order, key) in a level may begin, as ads_walk_from() takes it: at an entry before it,
 * or the head. An error is {code:32, 0:32}. Writers delete stale hints that they meet, of smaller keys and
 * of this one.
 */
static ADS_INLINE __u64 ads_orderedmap_descend(struct ads_arena *a, struct ads_ref ref, __u64 order, const void *key,
					       __u32 how)
{
	struct ads_ref index = ads_orderedmap_index(ref);
	__u32 level = ADS_LEVELS + ads_unknown_zero();
	__u64 from = ads_orderedmap_head(ref, level);
	__u32 stale = 0; /* a hint that we have marked, in this level */
	__u32 lost = 0;
	__u32 i;

	for (ads_loop(i)) {
		struct ads_walk w = ads_walk_from(from);
		__u32 hint;
		__u64 link, down;
		int rc;

		if (level <= (how & ADS_SEEK_LEVEL))
			return from;
		rc = ads_walk_find(a, &w, 0, index, order, key, how & ADS_SEEK_WRITE ? ADS_WRITE : ADS_READ);
		if (rc == ADS_LOST) {
			if (ads_overtaken(lost))
				break;
			/* With a marked hint not before this level has been walked past it. */
			if (!stale)
				level = ADS_LEVELS;
			from = ads_orderedmap_head(ref, level);
			continue;
		}
		if (rc != ADS_OK && rc != ADS_ABSENT)
			return (__u64)(__u32)rc << 32;
		if (stale) {
			ads_pool_retire(a, ads_pool_of(index), stale);
			stale = 0;
		}
		hint = w.prev;
		link = w.prev_link;
		if (rc == ADS_OK && how & ADS_SEEK_WRITE) {
			/* A hint of this very key: look whether it is stale, then at the one before it. */
			down = ads_load(ads_at(a, __u64, w.entry + ads_entry_value_offset(index)));
			ads_fence_acquire(); /* F13: the value was read before the check that it is this hint's */
			if (ads_load(ads_link_of(a, w.entry)) != w.link)
				continue;
			if (!ads_down_alive(a, level == 1 ? ref : index, down)) {
				hint = w.entry;
				link = w.link;
			}
		}
		if (hint == w.prev) {
			if (hint == (__u32)from && !(from >> 32)) {
				level--;
				from = ads_orderedmap_head(ref, level);
				continue;
			}
			down = ads_load(ads_at(a, __u64, hint + ads_entry_value_offset(index)));
			ads_fence_acquire(); /* F13, as above */
			if (ads_load(ads_link_of(a, hint)) != link)
				continue;
			if (ADS_LIKELY(ads_down_alive(a, level == 1 ? ref : index, down))) {
				level--;
				from = down;
				continue;
			}
		}
		if (how & ADS_SEEK_WRITE) {
			ads_hand_delete(a, ads_pool_of(index).offset, hint, ads_link_later(link));
			/* R3, as of a delete. */
			if (ads_cas(ads_link_of(a, hint), link,
				    ads_link_change(link, ads_link_next(link)) | ads_deleted_bits()) != link)
				continue;
			stale = hint;
			if (hint == (__u32)from) /* the walk began at it */
				from = ads_orderedmap_head(ref, level);
			continue;
		}
		/* A reader goes on below the hint where this level began, or from the head. */
		down = 0;
		if (from >> 32 && hint != (__u32)from) {
			down = ads_load(ads_at(a, __u64, (__u32)from + ads_entry_value_offset(index)));
			if (!ads_down_alive(a, index, from) || !ads_down_alive(a, level == 1 ? ref : index, down))
				down = 0;
		}
		level--;
		from = down ? down : ads_orderedmap_head(ref, level);
	}
	return (__u64)(__u32)ADS_BUDGET << 32;
}

/* ads_orderedmap_descend(), as operations take it: a BPF program has one for each map, in which the
 * sizes are constants. */
typedef __u64 (*ads_seek)(struct ads_arena *a, const struct ads_ref *ref, __u64 order, const void *key, __u32 how);

static ADS_INLINE __u64 ads_orderedmap_seek(struct ads_arena *a, const struct ads_ref *ref, __u64 order, const void *key,
					    __u32 how)
{
	return ads_orderedmap_descend(a, *ref, order, key, how);
}

static ADS_INLINE int ads_seek_failed(__u64 start)
{
	return (__u32)start ? ADS_OK : (int)(start >> 32);
}

/* --- towers ----------------------------------------------------------------------------------- */

/*
 * Make the tower of an entry that was just stored: `down` is {its offset:32, its life + 1:32}. As far as
 * there is memory: a hint less costs steps only.
 */
static ADS_INLINE void ads_orderedmap_tower(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					    const void *key, __u32 height, __u64 down)
{
	struct ads_ref index = ads_orderedmap_index(ref);
	__u32 level = 1 + ads_unknown_zero();
	__u32 lost = 0, cleared = 0;
	__u32 i;

	for (ads_loop(i)) {
		__u64 start;
		__u32 entry = 0, life = 0;
		int rc;

		if (level > height)
			return;
		start = seek(a, &ref, order, key, level | ADS_SEEK_WRITE);
		if (ads_seek_failed(start))
			return;
		rc = ads_list_store_from(a, start, ads_orderedmap_head(ref, level), 0, index, order, key, &down,
					 ADS_INSERT, &entry, &life);
		if (rc == ADS_LOST && !ads_overtaken(lost))
			continue;
		if (rc == ADS_EXISTS && cleared < level) {
			/* Most often the stale one of the entry that was replaced: the way down deletes it. */
			cleared = level;
			if (!ads_seek_failed(seek(a, &ref, order, key, (level - 1) | ADS_SEEK_WRITE)))
				continue;
		}
		if (rc)
			return;
		if (!ads_down_alive(a, level == 1 ? ref : index, down)) {
			/* Deleted meanwhile, by somebody who did not see this hint yet. */
			seek(a, &ref, order, key, (level - 1) | ADS_SEEK_WRITE);
			return;
		}
		down = (__u64)life << 32 | entry;
		level++;
	}
}

/* --- operations -------------------------------------------------------------------------------- */

/* What an operation returns: the codes that say that it could not be done are counted. */
static ADS_INLINE int ads_orderedmap_result(struct ads_arena *a, struct ads_ref ref, int rc)
{
	return rc == ADS_OK || rc == ADS_ABSENT || rc == ADS_EXISTS ? rc : ads_count(a, ref.offset, rc);
}

/* Entry of a key: its offset, for in-place access. */
static ADS_INLINE int ads_orderedmap_find(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					  const void *key, __u32 *entry)
{
	int rc = ADS_BUDGET;
	__u32 i;

	for (ads_loop_overtaken(i)) {
		__u64 start = seek(a, &ref, order, key, 0);
		struct ads_walk w = ads_walk_from(start);

		rc = ads_seek_failed(start);
		if (!rc)
			rc = ads_walk_find(a, &w, 0, ref, order, key, ADS_READ);
		*entry = w.entry;
		if (rc != ADS_LOST)
			break;
		rc = ADS_BUDGET;
	}
	return ads_orderedmap_result(a, ref, rc);
}

/* Copy the value of a key, whole, as it was stored. */
static ADS_INLINE int ads_orderedmap_get(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					 const void *key, void *value)
{
	int rc = ADS_BUDGET;
	__u32 i;

	for (ads_loop_overtaken(i)) {
		__u64 start = seek(a, &ref, order, key, 0);

		rc = ads_seek_failed(start);
		if (!rc)
			rc = ads_list_get_from(a, start, 0, ref, order, key, value);
		if (rc != ADS_LOST)
			break;
		rc = ADS_BUDGET;
	}
	return ads_orderedmap_result(a, ref, rc);
}

/* Store key -> value; see enum ads_update_mode. *entry: who holds the key now. */
static ADS_INLINE int ads_orderedmap_update(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					    const void *key, const void *value, enum ads_update_mode mode,
					    __u32 *entry)
{
	int rc = ads_may_change(a, ref.offset);
	__u32 height, life = 0;
	__u32 i;

	*entry = 0;
	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_loop_overtaken(i)) {
		__u64 start = seek(a, &ref, order, key, ADS_SEEK_WRITE);

		rc = ads_seek_failed(start);
		if (!rc)
			rc = ads_list_store_from(a, start, ads_orderedmap_head(ref, 0), 0, ref, order, key, value, mode,
						 entry, &life);
		if (rc != ADS_LOST)
			break;
		rc = ADS_BUDGET;
	}
	height = rc ? 0 : ads_orderedmap_height(a, ref, order, key);
	if (height)
		ads_orderedmap_tower(a, ref, seek, order, key, height, (__u64)life << 32 | *entry);
	ads_hand_clear(a);
	return ads_orderedmap_result(a, ref, rc);
}

/* Delete a key; `value`, if not NULL, receives what it was. */
static ADS_INLINE int ads_orderedmap_pop(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					 const void *key, void *value)
{
	int rc = ads_may_change(a, ref.offset);
	__u32 height;
	__u32 i;

	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_loop_overtaken(i)) {
		__u64 start = seek(a, &ref, order, key, ADS_SEEK_WRITE);

		rc = ads_seek_failed(start);
		if (!rc)
			rc = ads_list_delete_from(a, start, ads_orderedmap_head(ref, 0), 0, ref, order, key, value, 0);
		if (rc != ADS_LOST)
			break;
		rc = ADS_BUDGET;
	}
	/* Its hints are stale now, the lowest first: each time one level more is seen to be. */
	height = rc ? 0 : ads_orderedmap_height(a, ref, order, key);
	for (ads_each(i, height))
		seek(a, &ref, order, key, ADS_SEEK_WRITE);
	ads_hand_clear(a);
	return ads_orderedmap_result(a, ref, rc);
}

/*
 * Begin at the first entry that is not before (order, key), or with `after` the first behind it; go on with
 * ads_orderedmap_next(), whose first call gets the same key as its last_key.
 */
static ADS_INLINE int ads_orderedmap_scan_from(struct ads_arena *a, struct ads_ref ref, ads_seek seek,
					       struct ads_scan *s, __u64 order, const void *key, int after)
{
	__u64 start = seek(a, &ref, order, key, 0);
	struct ads_scan fresh = {ads_walk_from(start), order, 1, !after};
	int rc = ads_seek_failed(start);

	if (rc)
		return ads_orderedmap_result(a, ref, rc);
	*s = fresh;
	ads_walk_restart(a, &s->walk, ads_pool_of(ref));
	return ADS_OK;
}

/* Begin at the first entry of all. */
static ADS_INLINE int ads_orderedmap_scan(struct ads_arena *a, struct ads_ref ref, struct ads_scan *s)
{
	return ads_scan_start(a, s, ads_orderedmap_head(ref, 0));
}

/* The next entry in order, as ads_scan_next(); s->hash becomes its order. */
static ADS_INLINE int ads_orderedmap_next(struct ads_arena *a, struct ads_ref ref, ads_seek seek, struct ads_scan *s,
					  const void *last_key, void *key, void *value, __u32 *entry)
{
	int rc = ADS_BUDGET;
	__u32 i;

	for (ads_loop_overtaken(i)) {
		rc = ads_scan_next(a, s, ref, last_key, key, value, entry);
		if (rc != ADS_LOST)
			break;
		/* What was returned last has gone: find the place again. */
		rc = ads_orderedmap_scan_from(a, ref, seek, s, s->hash, last_key, !s->inclusive);
		if (rc)
			return rc;
		rc = ADS_BUDGET;
	}
	return ads_orderedmap_result(a, ref, rc);
}

/*
 * Delete the first entry of all: its order, and if they are not NULL its key and value. ADS_ABSENT: there is
 * none.
 */
static ADS_INLINE int ads_orderedmap_pop_first(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 *order,
					       void *key, void *value)
{
	__u32 head = ads_orderedmap_head(ref, 0);
	int rc = ads_may_change(a, ref.offset);
	__u32 height;
	__u32 i, h;

	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_loop(i)) {
		struct ads_scan s;
		__u32 entry;

		rc = ads_scan_start(a, &s, head);
		if (!rc)
			rc = ads_scan_next(a, &s, ref, 0, key, 0, &entry);
		if (rc == ADS_LOST)
			continue;
		if (rc)
			break;
		*order = s.hash;
		rc = ads_list_delete_from(a, head, head, 0, ref, s.hash, key, value, 0);
		/* Absent: somebody else has popped it. One that came before it since counts as later. */
		if (rc != ADS_ABSENT)
			break;
		rc = ADS_BUDGET;
	}
	height = rc ? 0 : ads_orderedmap_height(a, ref, *order, key);
	for (ads_each(h, height))
		seek(a, &ref, *order, key, ADS_SEEK_WRITE);
	ads_hand_clear(a);
	return ads_orderedmap_result(a, ref, rc);
}

#endif /* ARENADS_ORDEREDMAP_H */
