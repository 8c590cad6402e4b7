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
 * so a walk sees the end of its bucket in the word it already has. Entries never move:
 * the map grows by a table of twice as many shortcuts, see below.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at
 *                  once. Lookup, get and iteration work through a read-only mapping.
 * Cost             lookup: the header's line (hot), the shortcut's line, one line an entry
 *                  passed (1.25 on average when half the shortcuts are used), no atomics.
 *                  insert, delete, replace: that and 2 CAS, and 1 CAS on the pool's line; to replace
 *                  many in a row: that and 2 CAS.
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

#include "grow.h"
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

/* --- tables ----------------------------------------------------------------------------------- */
/*
 * The table word of the header, {offset:32, shift:32}, names the newest table. Growing claims
 * a block for one twice as large, all of whose shortcuts are unlinked (the low half of
 * their word is 0), and publishes it with one CAS. The first one who needs a shortcut
 * links it, from the bucket of the older table that covers it:
 *
 *	1 CAS the shortcut's own word from unlinked to {what comes next} | pending
 *	2 CAS the predecessor's link to the shortcut		commit
 *	3 CAS the pending bit away
 *
 * Only who did 1 does 2, so the word cannot be aimed twice. A death before 2 leaves a
 * shortcut that nobody links, a death before 3 one that the next who looks for it finds in
 * the list and releases. Until then the bucket is reached from the older table: a longer
 * walk, never a wrong one. Shortcuts of older tables stay in the list; at the same hash
 * the older comes first, so that a walk from the newest misses nothing: a shortcut is linked
 * only when that of the next older table which covers it is ready, and behind that.
 */

/*
 * Link the shortcut of the bucket that begins with hash `first` in the table {offset, shift},
 * walking from the ready link word at `from`. ADS_OK: a walk may begin at the shortcut now. Any other code: not yet.
 */
static ADS_INLINE int ads_shortcut_link(struct ads_arena *a, __u32 map, __u32 stride, __u64 table, __u64 first,
					__u32 from)
{
	struct ads_pool_ref pool = {map + (__u32)__builtin_offsetof(struct ads_collection, pool), stride, 0};
	__u32 at = ads_table_link(table, first);
	__u64 __arena *word = ads_at(a, __u64, at);
	struct ads_walk w = ads_walk_from(from);
	int owner = 0;
	__u64 mine;
	__u32 i;

	if (ads_bad(a, at, 8))
		return ADS_DAMAGED;
	mine = ads_load(word);
	if (!(__u32)mine) {
		__u64 claimed = ads_link_change(mine, ADS_LINK_PENDING);

		owner = ads_cas(word, mine, claimed) == mine; /* R3 */
		mine = claimed;
	}
	ads_walk_restart(a, &w, pool);
	for (ads_loop(i)) {
		enum ads_look seen = ads_walk_look(a, &w, pool, ADS_WRITE);

		if (seen == ADS_LOOK_AGAIN)
			continue;
		if (seen == ADS_LOOK_DAMAGED)
			return ADS_DAMAGED;
		if (seen == ADS_LOOK_ENTRY && w.hash < first) {
			ads_walk_advance(&w);
			continue;
		}
		if (seen == ADS_LOOK_END && w.entry != ADS_LINK_END) {
			__u32 other = w.entry & ~ADS_LINK_TAG;
			__u64 its_table, its_first;

			if (other == at) {
				/* Linked, whoever did it: release it. */
				mine = ads_load(word);
				if (mine & ADS_LINK_PENDING)
					ads_cas(word, mine, /* R3 */
						ads_link_change(mine, ads_link_next(mine) & ~ADS_LINK_PENDING));
				return ADS_OK;
			}
			its_table = ads_shortcut_table(a, map, other);
			if (!its_table || ads_bad(a, other, 8))
				return ADS_DAMAGED;
			its_first = ads_table_hash(its_table, other);
			if (its_first < first) {
				ads_walk_enter(a, &w, other);
				continue;
			}
		}
		/* What comes next belongs behind the shortcut. */
		if (!owner)
			return ADS_EXISTS;
		{
			__u64 aimed = ads_link_change(mine, w.entry | ADS_LINK_PENDING);

			ads_store(word, aimed);
			mine = aimed;
		}
		/* Commit of linking. R3, as for an entry. */
		if (ads_cas(ads_link_of(a, w.prev), w.prev_link, ads_link_change(w.prev_link, at | ADS_LINK_TAG)) ==
		    w.prev_link) {
			ads_cas(word, mine, ads_link_change(mine, w.entry)); /* R3 */
			return ADS_OK;
		}
		ads_walk_restart(a, &w, pool);
	}
	if (owner)
		ads_store(word, ads_link_change(mine, 0)); /* unlinked again: somebody else may try */
	return ADS_BUDGET;
}

/*
 * The slow way to a bucket: its shortcut in the newest table is not ready. Find the one of an older
 * table that covers it, and link the shortcut one table newer. The next who comes is sent one table
 * further, so that the walk halves each time; linking the newest table's at once would leave what is
 * between without shortcuts for ever, and long walks for all of its buckets. The offset of the link
 * word to begin at, 0: damaged.
 */
ADS_GLOBAL __u32 ads_hashmap_detour(struct ads_arena *a, __u32 map, __u32 stride, __u64 hash)
{
	__u64 table = ads_table_newest(a, map);
	__u64 newer = table;
	__u64 first;
	__u32 at = 0;
	__u32 i;

	for (ads_each(i, 32)) {
		newer = table;
		table = ads_table_previous(a, table);
		at = ads_table_link(table, hash);
		if (!table || ads_bad(a, at, 8))
			return 0;
		if (ads_link_ready(ads_load_acquire(ads_at(a, __u64, at)))) /* A3, pairs with R3 */
			break;
	}
	first = hash >> (newer >> 32 & 63) << (newer >> 32 & 63);
	if (ads_writable(a) && !ads_shortcut_link(a, map, stride, newer, first, at))
		return ads_table_link(newer, first);
	return at;
}

/* The link word where the walk for `hash` begins. */
static ADS_INLINE __u32 ads_hashmap_bucket(struct ads_arena *a, struct ads_ref ref, __u64 hash)
{
	__u64 table = ads_load_acquire(&ads_at(a, struct ads_header, ref.offset)->table); /* A6, pairs with R6 */
	__u32 at = ads_table_link(table, hash);

	if (ADS_LIKELY(!ads_bad(a, at, 8) && ads_link_ready(ads_load(ads_at(a, __u64, at)))))
		return at;
	return ads_hashmap_detour(a, ref.offset, ads_entry_stride(ref), hash);
}

/* --- operations ------------------------------------------------------------------------------- */

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
	int rc = ads_walk_find(a, &w, ref.offset, ref, hash, key, ADS_READ);

	*entry = w.entry;
	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/* Copy the value of a key, whole, as it was stored. */
static ADS_INLINE int ads_hashmap_get(struct ads_arena *a, struct ads_ref ref, const void *key, void *value)
{
	__u64 hash = ads_hashmap_hash(a, ref, key);
	int rc = ads_list_get_at(a, ads_hashmap_bucket(a, ref, hash), ref.offset, ref, hash, key, value);

	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/*
 * Store one of many keys in a row. The entry that a replacement has freed is *kept and the next one takes
 * it, which spares the pool both: 0 before the first, and ads_hashmap_let_go() after the last, whatever it
 * returned. Nothing else may be changed in the arena by this thread in between. User space.
 */
static ADS_INLINE int ads_hashmap_update_next(struct ads_arena *a, struct ads_ref ref, const void *key,
					      const void *value, enum ads_update_mode mode, __u32 *entry,
					      __u32 *kept)
{
	int rc = ads_may_change(a, ref.offset);
	__u64 hash;

	if (rc)
		return rc;
	hash = ads_hashmap_hash(a, ref, key);
	rc = ads_list_store_at(a, ads_hashmap_bucket(a, ref, hash), ref.offset, ref, hash, key, value, mode, entry, kept);
	if (rc == ADS_OK)
		ads_table_look_after(a, ref, hash);
	return rc == ADS_OK || rc == ADS_ABSENT || rc == ADS_EXISTS ? rc : ads_count(a, ref.offset, rc);
}

/* Give back the entry that ads_hashmap_update_next() has kept, if it has. */
static ADS_INLINE void ads_hashmap_let_go(struct ads_arena *a, struct ads_ref ref, __u32 *kept)
{
	if (*kept)
		ads_pool_give(a, ads_pool_of(ref), *kept);
	*kept = 0;
}

/* Store key -> value; see enum ads_update_mode. *entry: who holds the key now. */
static ADS_INLINE int ads_hashmap_update(struct ads_arena *a, struct ads_ref ref, const void *key,
					 const void *value, enum ads_update_mode mode, __u32 *entry)
{
	return ads_hashmap_update_next(a, ref, key, value, mode, entry, 0);
}

/* Delete a key; `value`, if not NULL, receives what it was. */
static ADS_INLINE int ads_hashmap_pop(struct ads_arena *a, struct ads_ref ref, const void *key, void *value)
{
	int rc = ads_may_change(a, ref.offset);
	__u64 hash;

	if (rc)
		return rc;
	hash = ads_hashmap_hash(a, ref, key);
	rc = ads_list_delete_at(a, ads_hashmap_bucket(a, ref, hash), ref.offset, ref, hash, key, value, 0);
	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

static ADS_INLINE int ads_hashmap_delete(struct ads_arena *a, struct ads_ref ref, const void *key)
{
	return ads_hashmap_pop(a, ref, key, 0);
}

/* Begin an iteration in hash order; go on with ads_scan_next(). */
static ADS_INLINE int ads_hashmap_scan(struct ads_arena *a, struct ads_ref ref, struct ads_scan *s)
{
	return ads_scan_start(a, s, ads_at(a, struct ads_header, ref.offset)->first);
}

/* --- hints -------------------------------------------------------------------------------------- */
/*
 * Keys and entries lie anywhere, so one lookup after another waits for memory each time. Where many
 * are known before, the cache is asked for all of them first and they wait together (group
 * prefetching: Chen, Ailamaki, Gibbons, Mowry, Improving Hash Join Performance through
 * Prefetching, 2004). Hints only: what is read here may be stale or damaged, and decides nothing.
 * BPF has no such instruction.
 */
#if !ADS_BPF

/* Ask for what looking up `count` keys that lie one after the other will need, 32 at most. */
static inline void ads_hashmap_prefetch(struct ads_arena *a, struct ads_ref ref, const void *keys, __u32 count)
{
	__u64 table = ads_table_newest(a, ref.offset);
	__u32 stride = ads_entry_stride(ref), words[32], i;

	if (!table)
		return;
	for (i = 0; i < count && i < 32; i++) {
		words[i] = ads_table_link(table, ads_hashmap_hash(a, ref, (const char *)keys + i * ref.key_size));
		__builtin_prefetch((const void *)ads_at(a, __u64, words[i]));
	}
	for (i = 0; i < count && i < 32; i++)
		if (ads_within(a, words[i], 8))
			ads_prefetch_entry(a, ads_load(ads_at(a, __u64, words[i])), stride);
}

#endif

#endif /* ARENADS_HASHMAP_H */
