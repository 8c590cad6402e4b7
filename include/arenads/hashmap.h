/* SPDX-License-Identifier: MIT */
/*
 * hashmap.h - one lock-free list ordered by hash, and an array of shortcuts into it.
 *
 * Split-ordered lists (Shalev and Shavit, Split-Ordered Lists: Lock-Free Extensible Hash
 * Tables, 2006), with the top bits of the hash as the index, so that natural order is
 * split order:
 *
 *	shortcuts   0          1          2          3
 *	          +----+     +----+     +----+     +----+
 *	          |link|--+  |link|---->|link|--+  |link|--+
 *	          +----+  |  +----+ tag +----+  |  +----+  |
 *	                  |    ^                |    ^     |
 *	                  v    | tag            v    | tag v
 *	                [entry]-+             [entry]-+  [entry]-> end
 *	hash:            00...                 10...      11...
 *
 * A shortcut is nothing but a link word, 8 bytes; a link that leads to one has the tag,
 * so a walk sees the end of its bucket in the word it already has. All shortcuts are
 * linked when the map is created; entries never move.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at
 *                  once. Lookup, get and iteration work through a read-only mapping.
 * Cost             lookup: the header's line (hot), the shortcut's line, one line an entry
 *                  passed (1.25 on average when half the shortcuts are used), no atomics.
 *                  insert, delete, replace: that and 2 CAS, and 1 CAS on the pool's line.
 * Commit           one CAS, in list.h.
 * Death            as in list.h: at most one leaked entry, never a wrong answer.
 * Memory runs out  ADS_NO_MEMORY: the arena has nothing populated. ADS_FULL: max_entries
 *                  are live. Both counted, nothing changed.
 * Budget runs out  ADS_BUDGET, counted: not an answer. lookup returns NULL then, as for an
 *                  absent key; find tells them apart.
 * Limits           keys 1 to 512 bytes, values up to 64 KiB, 2^31 entries. A pointer from lookup
 *                  stays valid memory for ever, and stays that key's until the key is
 *                  deleted or replaced; then the entry is reused, as in a preallocated
 *                  kernel hash map.
 */
#ifndef ARENADS_HASHMAP_H
#define ARENADS_HASHMAP_H

#include "list.h"

/*
 * Hash of a key. Multiplication carries each bit upwards, the fold brings the top half
 * down, so the top bits, which are the index, depend on every bit of key and seed. The
 * same on both sides, and without the 128-bit product that BPF lacks. The constants are
 * those of SplitMix64 (Steele, Lea, Flood, 2014).
 */
static ADS_INLINE __u64 ads_hash(const void *key, __u32 size, __u64 seed)
{
	__u64 hash = seed;
	__u32 i;

	for (i = 0; i < ADS_WORDS(size); i++) {
		hash = (hash ^ ads_word(key, i, size)) * 0xbf58476d1ce4e5b9ull;
		hash ^= hash >> 32;
	}
	return hash * 0x94d049bb133111ebull;
}

/* The link word where the walk for `hash` begins. */
static ADS_INLINE __u32 ads_hashmap_bucket(struct ads_arena *a, struct ads_ref ref, __u64 hash)
{
	const struct ads_header __arena *h = ads_at(a, struct ads_header, ref.offset);

	(void)a;
	return h->table + 8 * (__u32)(hash >> (h->shift & 63));
}

static ADS_INLINE __u64 ads_hashmap_hash(struct ads_arena *a, struct ads_ref ref, const void *key)
{
	(void)a;
	return ads_hash(key, ref.key_size, ads_at(a, struct ads_header, ref.offset)->seed);
}

/* The entry of a key: its offset, for in-place access; the value is at + ads_entry_value_offset(). */
static ADS_INLINE int ads_hashmap_find(struct ads_arena *a, struct ads_ref ref, const void *key, __u32 *entry)
{
	__u64 hash = ads_hashmap_hash(a, ref, key);
	struct ads_walk w = ads_walk_from(ads_hashmap_bucket(a, ref, hash));
	int rc = ads_walk_find(a, &w, ref, hash, key, ADS_READ);

	*entry = w.entry;
	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/* Copy the value of a key, whole, as it was stored. */
static ADS_INLINE int ads_hashmap_get(struct ads_arena *a, struct ads_ref ref, const void *key, void *value)
{
	__u64 hash = ads_hashmap_hash(a, ref, key);
	int rc = ads_list_get_from(a, ads_hashmap_bucket(a, ref, hash), ref, hash, key, value);

	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/* Store key -> value; see enum ads_update_mode. *entry: who holds the key now. */
static ADS_INLINE int ads_hashmap_update(struct ads_arena *a, struct ads_ref ref, const void *key,
					 const void *value, enum ads_update_mode mode, __u32 *entry)
{
	__u64 hash;
	int rc;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	hash = ads_hashmap_hash(a, ref, key);
	rc = ads_list_store_at(a, ads_hashmap_bucket(a, ref, hash), ref, hash, key, value, mode, entry);
	return rc == ADS_OK || rc == ADS_ABSENT || rc == ADS_EXISTS ? rc : ads_count(a, ref.offset, rc);
}

static ADS_INLINE int ads_hashmap_delete(struct ads_arena *a, struct ads_ref ref, const void *key)
{
	__u64 hash;
	int rc;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	hash = ads_hashmap_hash(a, ref, key);
	rc = ads_list_delete_at(a, ads_hashmap_bucket(a, ref, hash), ref, hash, key);
	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/* Begin an iteration in hash order; go on with ads_scan_next(). */
static ADS_INLINE int ads_hashmap_scan(struct ads_arena *a, struct ads_ref ref, struct ads_scan *s)
{
	return ads_scan_start(a, s, ads_hashmap_bucket(a, ref, 0));
}

#endif /* ARENADS_HASHMAP_H */
