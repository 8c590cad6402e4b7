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
 * Beside them a table of hints to keys, in the words of a hash table, so that who looks for a key that is
 * there does not walk down at all. The line of 8 words that a key's hash chooses holds hints of the same kind, with
 * five bits of the hash each; a key has one from its insert on, or from the first lookup without one. The table
 * doubles as a hash map's does (grow.h); a hint in an older table comes into the newest when it is used.
 *
 * An integer's order is the number itself, with the sign bit turned over if it is signed; such a map
 * stores no keys but the order (key_size is 0). A byte string's order is its first 8 bytes, most
 * significant first; equal ones are told apart by the whole key.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at
 *                  once. Reading works through a read-only mapping.
 * Cost             find of a key that is there: 2 lines, no atomics. Without a hint, and for a key that is
 *                  not there: about 8 lines a level, one level for each factor of 8 in the entries. insert,
 *                  delete: that, 2 CAS and 1 CAS on the pool's line, and the hint's line; one time in 8
 *                  again for the towers. first, pop_first: no levels. Memory: 16 to 32 bytes of hints an
 *                  entry. In BPF the verifier looks at 10 000
 *                  instructions for each operation that reads, 20 000 to 90 000 for one that writes; what
 *                  maps and operations share it looks at once.
 * Commit           one CAS, in list.h.
 * Death            as in list.h; hints may be missing or stale.
 * Memory runs out  ADS_NO_MEMORY, ADS_FULL: counted, nothing changed. A hint for which there is no
 *                  memory is left out, and the table stays as large as it is.
 * Budget runs out  ADS_BUDGET, counted: not an answer.
 * Limits           keys up to 512 bytes, values up to 64 KiB; above some millions of entries the
 *                  highest level grows long. Pointers into entries: as in hashmap.h.
 */
#ifndef ARENADS_ORDEREDMAP_H
#define ARENADS_ORDEREDMAP_H

#include "grow.h"
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

/* Whether a key comes before another one; their orders are those of these. */
static ADS_INLINE int ads_orderedmap_is_before(struct ads_ref ref, __u64 order, const void *key, __u64 other_order,
					       const void *other)
{
	__u32 i;

	if (order != other_order || !(ref.flags & ADS_BYTES))
		return order < other_order;
	for (i = 1; i < ADS_WORDS(ref.key_size); i++) {
		__u64 ours = __builtin_bswap64(ads_word(key, i, ref.key_size));
		__u64 theirs = __builtin_bswap64(ads_word(other, i, ref.key_size));

		if (ours != theirs)
			return ours < theirs;
	}
	return 0;
}

/* A number that every key has, and that tells nothing of its order: known to whoever has the key. */
static ADS_INLINE __u64 ads_orderedmap_hash(struct ads_arena *a, struct ads_ref ref, __u64 order, const void *key)
{
	__u64 hash = ads_at(a, struct ads_header, ref.offset)->seed ^ order;
	__u32 i;

	(void)a;
	for (i = 0; i < ADS_WORDS(ref.key_size); i++)
		hash = (hash ^ ads_word(key, i, ref.key_size)) * 0xbf58476d1ce4e5b9ull;
	/* The finalizer of SplitMix64: neighbours' towers have nothing to do with one another. */
	hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9ull;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111ebull;
	return hash ^ hash >> 31;
}

/* Levels that the tower of a key has, 0 for most. */
static ADS_INLINE __u32 ads_orderedmap_height(__u64 hash)
{
	__u32 height = 0;
	__u32 i;

	for (i = 0; i < ADS_LEVELS && !(hash >> 61); i++, hash <<= 3)
		height++;
	return height;
}

/* --- hints to keys ---------------------------------------------------------------------------- */

/*
 * A word of the table of hints: {life of an entry + 1:32, its offset / 32:27, tag:5}, the tag being the low
 * bits of a hash. 0: the line has been used no further. With a life of 0 it leads nowhere, and may be used again.
 */
#define ADS_HINT_TAG 31u
#define ADS_HINT_NOWHERE 1ull
#define ADS_HINT_WORDS 8u /* a line */

/* Place number `i` where a hint of a hash may be: its own in the line, then those behind it, and round. */
static ADS_INLINE __u32 ads_hint_place(__u64 table, __u64 hash, __u32 i)
{
	__u32 own = ads_table_link(table, hash);

	return (own & ~(ADS_LINE - 1)) | ((own + 8 * i) & (ADS_LINE - 1));
}

/*
 * Look in one table for the hint of a key: its place, or 0, and then *room is one where it can be put. An
 * entry that it leads to had this order when it was looked at, no more.
 */
static ADS_INLINE __u32 ads_hint_seek(struct ads_arena *a, __u64 table, __u64 order, __u64 hash, __u64 *hint,
				      __u32 *room)
{
	__u32 own = ads_hint_place(table, hash, 0);
	__u32 i;

	*room = 0;
	/* The first is for its alignment: that of an older table nobody has looked at. */
	if (!table || ads_bad(a, own, 8) || ads_bad(a, own & ~(ADS_LINE - 1), ADS_LINE))
		return 0;
	for (ads_each(i, ADS_HINT_WORDS)) {
		__u32 place = ads_hint_place(table, hash, i);
		__u64 word = ads_load(ads_at(a, __u64, place));
		__u32 entry = (__u32)word & ~ADS_HINT_TAG;

		if (!(word >> 32)) {
			if (!*room)
				*room = place;
			if (!word)
				return 0;
			continue;
		}
		if ((word ^ hash) & ADS_HINT_TAG || ads_bad(a, entry, sizeof(struct ads_entry)))
			continue;
		if (ads_load(&ads_at(a, struct ads_entry, entry)->hash) == order) {
			*hint = word & ~(__u64)ADS_HINT_TAG;
			return place;
		}
	}
	if (!*room)
		*room = own;
	return 0;
}

/* Write a hint, {life + 1:32, offset:32}, or ADS_HINT_NOWHERE. */
static ADS_INLINE void ads_hint_store(struct ads_arena *a, __u32 place, __u64 hash, __u64 hint)
{
	if (hint >> 32)
		hint |= hash & ADS_HINT_TAG;
	ads_store_release(ads_at(a, __u64, place), hint); /* R23 */
}

/*
 * {life + 1:32, offset:32} of what may be the entry of a key, 0 if there is no hint. One of before the map grew is
 * in an older table, until it is used: most are in the newest two.
 */
ADS_GLOBAL __u64 ads_hint_find(struct ads_arena *a, __u32 map, __u64 order, __u64 hash)
{
	__u64 table = ads_table_newest(a, map);
	__u64 hint = 0;
	__u32 room = 0, here, i;

	for (ads_each(i, 32)) {
		if (!table || ads_hint_seek(a, table, order, hash, &hint, &here))
			break;
		if (!i)
			room = here;
		table = ads_table_previous(a, table);
	}
	ads_fence_acquire(); /* F23: the hint was read before what it leads to */
	if (hint && room && ads_writable(a))
		ads_hint_store(a, room, hash, hint);
	return hint;
}

/*
 * Put a hint to where a key is, {life + 1:32, offset:32}, or with ADS_HINT_NOWHERE one that was there away. Two who
 * put at once may lose one of them.
 */
ADS_GLOBAL int ads_hint_put(struct ads_arena *a, __u32 map, __u64 order, __u64 hash, __u64 hint)
{
	__u64 table = ads_table_newest(a, map);
	__u64 was;
	__u32 room;
	__u32 place = ads_hint_seek(a, table, order, hash, &was, &room);

	if (!place && hint >> 32)
		place = room;
	if (place)
		ads_hint_store(a, place, hash, hint);
	return 0;
}

/* Go straight to a key, if a hint leads there: 1, and w->entry and w->link are it. */
static ADS_INLINE int ads_orderedmap_look(struct ads_arena *a, struct ads_ref ref, __u64 order, const void *key,
					  struct ads_walk *w)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	__u64 hint = ads_hint_find(a, ref.offset, order, ads_orderedmap_hash(a, ref, order, key));
	__u32 entry = (__u32)hint;
	int same;

	if (!hint || ads_bad(a, entry, pool.stride))
		return 0;
	w->entry = entry;
	w->link = ads_load_acquire(ads_link_of(a, entry)); /* A3, pairs with R3 */
	same = ads_load(&ads_at(a, struct ads_entry, entry)->hash) == order && !ads_compare_key(a, entry, key, ref);
	ads_fence_acquire(); /* F17: the link, and the key, were read before the life */
	return same && !(w->link & ADS_LINK_MARK) &&
	       (__u32)ads_load(ads_at(a, __u64, entry + pool.life)) + 1 == hint >> 32;
}

/* Leave a hint to an entry that was found without one. */
static ADS_INLINE void ads_orderedmap_remember(struct ads_arena *a, struct ads_ref ref, __u64 order,
					       const void *key, const struct ads_walk *w)
{
	__u64 life;

	if (!ads_writable(a))
		return;
	life = ads_load(ads_at(a, __u64, w->entry + ads_pool_of(ref).life));
	ads_fence_acquire(); /* F17: the life was read before the link again: it is that of w->link */
	if (ads_load(ads_link_of(a, w->entry)) == w->link)
		ads_hint_put(a, ref.offset, order, ads_orderedmap_hash(a, ref, order, key),
			     (life + 1) << 32 | w->entry);
}

/* --- levels --------------------------------------------------------------------------------- */

static ADS_INLINE struct ads_ref ads_orderedmap_index(struct ads_ref ref)
{
	__u32 offset = ref.offset + (__u32)__builtin_offsetof(struct ads_orderedmap, index);
	struct ads_ref index = {offset, ref.key_size, 8, ref.flags & ~(__u32)ADS_GRACE};

	return index;
}

static ADS_INLINE __u64 ads_orderedmap_head(struct ads_ref ref, __u64 level)
{
	__u64 at = level ? ref.offset + (__u32)__builtin_offsetof(struct ads_orderedmap, heads) + 8 * (__u32)level
			 : ref.offset + (__u32)__builtin_offsetof(struct ads_collection, head);

	ads_unlike(at);
	return at;
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
	return !(link & ADS_LINK_MARK) &&
	       (__u32)ads_load(ads_at(a, __u64, (__u32)down + pool.life)) + 1 == down >> 32;
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

/* How to seek: the level where it ends, and more. */
#define ADS_SEEK_LEVEL 15u
#define ADS_SEEK_INDEX 16u /* that is not 0 */
#define ADS_SEEK_WRITE 32u /* as ADS_WRITE, by a writer that may have an entry in hand */
#define ADS_SEEK_CLEAN 64u /* stale hints that are met are deleted: the writer's hands must be empty */
#define ADS_SEEK_HINTS 128u /* end before the walk in that level: `to` is where it would begin */

/*
 * A walk from `from`, in registers, and what it has found in `to`. Writers in BPF have `to` from their caller: the
 * verifier keeps no track of what is in it, so that it sees few different states.
 */
static ADS_INLINE int ads_orderedmap_walk(struct ads_arena *a, __u64 from, struct ads_ref list, __u64 order,
					  const void *key, enum ads_walk_mode mode, struct ads_walk *to)
{
	struct ads_walk w = ads_walk_from(from);
	int rc = ads_walk_find(a, &w, 0, list, order, key, mode);

	to->prev = w.prev;
	to->entry = w.entry;
	to->prev_link = w.prev_link;
	to->link = w.link;
	return rc;
}

/*
 * Where a walk for (order, key) in a level may begin, as ads_walk_from() takes it: at an entry before it,
 * or the head. An error is {code:32, 0:32}. Writers with empty hands delete stale hints that they meet, of
 * smaller keys and of this one.
 */
static ADS_INLINE __u64 ads_orderedmap_descend(struct ads_arena *a, struct ads_ref ref, __u64 order, const void *key,
					       enum ads_walk_mode mode, __u32 flags, struct ads_walk *to)
{
	struct ads_ref map = {(__u32)ads_unknown(ref.offset), ref.key_size, ref.value_size, ref.flags};
	struct ads_ref index = ads_orderedmap_index(map);
	__u64 how = mode == ADS_READ && __builtin_constant_p(flags) ? flags : ads_unknown(flags);
	__u64 level = ads_unknown(ADS_LEVELS);
	__u64 from = ads_unknown(ads_orderedmap_head(map, ADS_LEVELS));
	__u64 stale = mode == ADS_READ ? 0 : ads_unknown(0); /* a hint that we have marked, in this level */
	__u32 lost = 0;
	__u32 i;

	/* The highest levels are empty in most maps: not worth a walk. */
	for (ads_loop(i)) {
		if (level <= (how & ADS_SEEK_LEVEL) || ads_bad(a, (__u32)from, 8) ||
		    ads_link_next(ads_load(ads_link_of(a, (__u32)from))) != ADS_LINK_END)
			break;
		level--;
		from = ads_orderedmap_head(map, level);
	}
	for (ads_loop(i)) {
		__u32 hint;
		__u64 link, down;
		int rc;

		if (mode == ADS_WRITE)
			ads_forget(how);
		if (level <= (how & ADS_SEEK_LEVEL))
			return from;
		rc = ads_orderedmap_walk(a, from, index, order, key, mode, to);
		if (mode == ADS_WRITE)
			ads_forget(to);
		if (rc == ADS_LOST) {
			if (ads_overtaken(lost))
				break;
			/* With a marked hint not before this level has been walked past it. */
			if (!stale)
				level = ads_unknown(ADS_LEVELS);
			from = ads_orderedmap_head(map, level);
			continue;
		}
		if (rc != ADS_OK && rc != ADS_ABSENT)
			return (__u64)(__u32)rc << 32;
		if (stale) {
			ads_pool_retire(a, ads_pool_of(index), index.flags, (__u32)stale);
			stale = 0;
		}
		hint = to->prev;
		link = to->prev_link;
		if (rc == ADS_OK && mode == ADS_WRITE && how & ADS_SEEK_CLEAN) {
			/* A hint of this very key: look whether it is stale, then at the one before it. */
			down = ads_load(ads_at(a, __u64, to->entry + ads_entry_value_offset(index)));
			ads_fence_acquire(); /* F13: the value was read before the check that it is this hint's */
			if (ads_load(ads_link_of(a, to->entry)) != to->link)
				continue;
			if (!ads_down_alive(a, level == 1 ? ref : index, down)) {
				hint = to->entry;
				link = to->link;
			}
		}
		if (hint == to->prev) {
			if (hint == (__u32)from && !(from >> 32)) {
				level--;
				from = ads_orderedmap_head(map, level);
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
		if (mode == ADS_WRITE && how & ADS_SEEK_CLEAN) {
			ads_hand_delete(a, ads_pool_of(index).offset, hint, ads_link_later(link));
			/* R3, as of a delete. */
			if (ads_cas(ads_link_of(a, hint), link,
				    ads_link_change(link, ads_link_next(link)) | ads_deleted_bits()) != link)
				continue;
			stale = hint;
			if (hint == (__u32)from) /* the walk began at it */
				from = ads_orderedmap_head(map, level);
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
		from = down ? down : ads_orderedmap_head(map, level);
	}
	return (__u64)(__u32)ADS_BUDGET << 32;
}

/* ads_orderedmap_descend(), as operations take it. */
typedef __u64 (*ads_place)(struct ads_arena *a, const struct ads_ref *ref, __u64 order, const void *key, __u32 how,
			   struct ads_walk *to);

static ADS_INLINE __u64 ads_orderedmap_place(struct ads_arena *a, const struct ads_ref *ref, __u64 order,
					     const void *key, __u32 how, struct ads_walk *to)
{
	return ads_orderedmap_descend(a, *ref, order, key, how & ADS_SEEK_WRITE ? ADS_WRITE : ADS_READ, how, to);
}

/* The way down and the walk in the level where it ends, as ads_walk_find() does, but never ADS_LOST. */
static ADS_INLINE int ads_orderedmap_seek_by(struct ads_arena *a, const struct ads_ref *ref, ads_place place,
					     __u64 order, const void *key, __u32 how, struct ads_walk *to)
{
	struct ads_ref list = how & ADS_SEEK_INDEX ? ads_orderedmap_index(*ref) : *ref;
	__u32 i;

	for (ads_loop_overtaken(i)) {
		__u64 start = place(a, ref, order, key, how, to);
		int rc;

		if (!(__u32)start)
			return (int)(start >> 32);
		to->start = (__u32)start;
		to->life = (__u32)(start >> 32);
		if (how & ADS_SEEK_HINTS)
			return ADS_OK;
		rc = ads_orderedmap_walk(a, start, list, order, key, how & ADS_SEEK_WRITE ? ADS_WRITE : ADS_READ, to);
		if (rc != ADS_LOST)
			return rc;
	}
	return ADS_BUDGET;
}

static ADS_INLINE int ads_orderedmap_seek(struct ads_arena *a, const struct ads_ref *ref, __u64 order,
					  const void *key, __u32 how, struct ads_walk *to)
{
	return ads_orderedmap_seek_by(a, ref, ads_orderedmap_place, order, key, how, to);
}

/*
 * In BPF the way down is a function of its own, one for readers and one for writers, which the verifier looks at
 * once; so is a level of a tower. Those of maps whose keys are integers are the same for all: their entries differ
 * in the size of values, which no walk looks at. Other maps have their own, with constant sizes.
 */
#define ADS_INTEGER_MAP(map) {map, 0, 8, ADS_LIVES}

ADS_GLOBAL __u64 ads_orderedmap_place_integer_to_read(struct ads_arena *a, __u32 map, __u64 order)
{
	struct ads_ref ref = ADS_INTEGER_MAP(map);
	struct ads_walk w;

	return ads_orderedmap_descend(a, ref, order, 0, ADS_READ, 0, &w);
}

ADS_GLOBAL __u64 ads_orderedmap_place_integer_to_write(struct ads_arena *a, __u32 map, __u64 order, __u32 how,
						      struct ads_walk *to)
{
	struct ads_ref ref = ADS_INTEGER_MAP(map);

	return to ? ads_orderedmap_descend(a, ref, order, 0, ADS_WRITE, how, to) : (__u64)(__u32)ADS_INVALID << 32;
}

static ADS_INLINE __u64 ads_orderedmap_place_integer(struct ads_arena *a, const struct ads_ref *ref, __u64 order,
						     const void *key, __u32 how, struct ads_walk *to)
{
	(void)key;
	return how & ADS_SEEK_WRITE ? ads_orderedmap_place_integer_to_write(a, ref->offset, order, how, to)
				    : ads_orderedmap_place_integer_to_read(a, ref->offset, order);
}

static ADS_INLINE int ads_orderedmap_seek_integer(struct ads_arena *a, const struct ads_ref *ref, __u64 order,
						  const void *key, __u32 how, struct ads_walk *to)
{
	return ads_orderedmap_seek_by(a, ref, ads_orderedmap_place_integer, order, key, how, to);
}

/* --- towers ----------------------------------------------------------------------------------- */

/*
 * Make one level of the tower of an entry that was just stored: a hint to what is below, where w->start and w->life
 * tell. Returns where the next level leads then, {offset of the hint:32, its life + 1:32}, or 0: there is no memory,
 * or the entry has been deleted meanwhile. A hint less costs steps only. One of this key that is there already is
 * most often stale, of the entry that was replaced: it is replaced too.
 */
static ADS_INLINE __u64 ads_orderedmap_raise_level(struct ads_arena *a, const struct ads_ref *ref, ads_seek seek,
						   __u64 order, const void *key, __u32 level, struct ads_walk *w)
{
	struct ads_ref index = ads_orderedmap_index(*ref);
	__u32 life = 0;

	w->hash = (__u64)w->life << 32 | w->start; /* kept there, not on the stack: no seek changes it */
	if (ads_list_store_from(a, seek, ref, level | ADS_SEEK_INDEX | ADS_SEEK_WRITE | ADS_SEEK_CLEAN,
				level | ADS_SEEK_INDEX | ADS_SEEK_WRITE, w, index, order, key, &w->hash, ADS_ANY,
				&w->start, &life, 0))
		return 0;
	if (ads_down_alive(a, level == 1 ? *ref : index, w->hash))
		return (__u64)life << 32 | w->start;
	/* By somebody who did not see this hint yet. */
	seek(a, ref, order, key, (level - 1) | ADS_SEEK_WRITE | ADS_SEEK_CLEAN | ADS_SEEK_HINTS, w);
	return 0;
}

/* The same, as operations take it. */
typedef __u64 (*ads_raise)(struct ads_arena *a, const struct ads_ref *ref, __u64 order, const void *key, __u32 level,
			   struct ads_walk *w);

static ADS_INLINE __u64 ads_orderedmap_raise(struct ads_arena *a, const struct ads_ref *ref, __u64 order,
					     const void *key, __u32 level, struct ads_walk *w)
{
	return ads_orderedmap_raise_level(a, ref, ads_orderedmap_seek, order, key, level, w);
}

ADS_GLOBAL __u64 ads_orderedmap_raise_integer_level(struct ads_arena *a, __u32 map, __u64 order, __u32 level,
						    struct ads_walk *w)
{
	struct ads_ref ref = ADS_INTEGER_MAP(map);

	if (!w)
		return 0;
	w = (struct ads_walk *)__builtin_assume_aligned(w, 8); /* else its words are read as bytes */
	return ads_orderedmap_raise_level(a, &ref, ads_orderedmap_seek_integer, order, 0, level, w);
}

static ADS_INLINE __u64 ads_orderedmap_raise_integer(struct ads_arena *a, const struct ads_ref *ref, __u64 order,
						     const void *key, __u32 level, struct ads_walk *w)
{
	(void)key;
	return ads_orderedmap_raise_integer_level(a, ref->offset, order, level, w);
}

/* Delete the hints of an entry that was just deleted, the lowest first: each time one level more is seen to be
 * stale. */
static ADS_INLINE void ads_orderedmap_raze(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					   const void *key)
{
	__u64 hash = ads_orderedmap_hash(a, ref, order, key);
	__u32 height = ads_orderedmap_height(hash);
	struct ads_walk w = ads_walk_from(0);
	__u32 i;

	ads_hint_put(a, ref.offset, order, hash, ADS_HINT_NOWHERE);
	for (ads_each(i, height))
		seek(a, &ref, order, key, ADS_SEEK_WRITE | ADS_SEEK_CLEAN | ADS_SEEK_HINTS, &w);
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
	struct ads_walk w = ads_walk_from(0);
	int rc = ADS_OK;

	if (!ads_orderedmap_look(a, ref, order, key, &w)) {
		rc = seek(a, &ref, order, key, 0, &w);
		if (!rc)
			ads_orderedmap_remember(a, ref, order, key, &w);
	}
	*entry = w.entry;
	return ads_orderedmap_result(a, ref, rc);
}

/* Copy the value of a key, whole, as it was stored. */
static ADS_INLINE int ads_orderedmap_get(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					 const void *key, void *value)
{
	struct ads_walk w = ads_walk_from(0);
	int rc;

	if (ads_orderedmap_look(a, ref, order, key, &w) && ads_list_copy_value(a, ref, &w, value))
		return ADS_OK;
	rc = ads_list_get_from(a, seek, 0, &w, ref, order, key, value);
	if (!rc)
		ads_orderedmap_remember(a, ref, order, key, &w);
	return ads_orderedmap_result(a, ref, rc);
}

/*
 * Store key -> value without a tower; see enum ads_update_mode. Who holds the key now: w->start, with the life
 * w->life - 1 if it is new.
 */
static ADS_INLINE int ads_orderedmap_store(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					   const void *key, const void *value, enum ads_update_mode mode,
					   struct ads_walk *w)
{
	int rc = ads_may_change(a, ref.offset);
	__u32 entry = 0, life = 0;

	if (!rc) {
		rc = ads_list_store_from(a, seek, &ref, ADS_SEEK_WRITE | ADS_SEEK_CLEAN, ADS_SEEK_WRITE, w, ref,
					 order, key, value, mode, &entry, &life, 0);
		ads_hand_clear(a);
		rc = ads_orderedmap_result(a, ref, rc);
	}
	w->start = entry;
	w->life = life;
	return rc;
}

/* Then its hint, and its tower. */
static ADS_INLINE void ads_orderedmap_build(struct ads_arena *a, struct ads_ref ref, ads_raise raise, __u64 order,
					    const void *key, struct ads_walk *w)
{
	__u64 hash = ads_orderedmap_hash(a, ref, order, key);
	__u32 height = ads_orderedmap_height(hash);
	__u32 i;

	ads_hint_put(a, ref.offset, order, hash, (__u64)w->life << 32 | w->start);
	ads_table_look_after(a, ref, hash);
	for (i = 0; i < ADS_LEVELS && i < height; i++) {
		__u64 hint = raise(a, &ref, order, key, i + 1, w);

		if (!hint)
			break;
		w->start = (__u32)hint;
		w->life = (__u32)(hint >> 32);
	}
	ads_hand_clear(a);
}

static ADS_INLINE int ads_orderedmap_update(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					    const void *key, const void *value, enum ads_update_mode mode,
					    __u32 *entry)
{
	struct ads_walk w = ads_walk_from(0);
	int rc = ads_orderedmap_store(a, ref, seek, order, key, value, mode, &w);

	*entry = w.start;
	if (!rc)
		ads_orderedmap_build(a, ref, ads_orderedmap_raise, order, key, &w);
	return rc;
}

/* Delete a key; `value`, if not NULL, receives what it was. */
static ADS_INLINE int ads_orderedmap_pop(struct ads_arena *a, struct ads_ref ref, ads_seek seek, __u64 order,
					 const void *key, void *value)
{
	int rc = ads_may_change(a, ref.offset);

	if (rc)
		return rc;
	rc = ads_list_delete_from(a, seek, ADS_SEEK_WRITE | ADS_SEEK_CLEAN, ADS_SEEK_WRITE, 0, ref, order, key, value,
				  0);
	if (!rc)
		ads_orderedmap_raze(a, ref, seek, order, key);
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
	struct ads_walk w = ads_walk_from(0);
	int rc = seek(a, &ref, order, key, ADS_SEEK_HINTS, &w);

	if (rc)
		return ads_orderedmap_result(a, ref, rc);
	s->walk = w;
	s->hash = order;
	s->started = 1;
	s->inclusive = !after;
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
	int rc = ads_may_change(a, ref.offset);
	__u32 i;

	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_loop(i)) {
		struct ads_scan s;
		__u32 entry;

		rc = ads_orderedmap_scan(a, ref, &s);
		if (!rc)
			rc = ads_scan_next(a, &s, ref, 0, key, 0, &entry);
		if (rc == ADS_LOST)
			continue;
		if (rc)
			break;
		*order = s.hash;
		rc = ads_list_delete_at(a, (__u32)ads_orderedmap_head(ref, 0), 0, ref, s.hash, key, value, 0);
		/* Absent: somebody else has popped it. One that came before it since counts as later. */
		if (rc != ADS_ABSENT)
			break;
		rc = ADS_BUDGET;
	}
	if (!rc)
		ads_orderedmap_raze(a, ref, seek, *order, key);
	ads_hand_clear(a);
	return ads_orderedmap_result(a, ref, rc);
}

#endif /* ARENADS_ORDEREDMAP_H */
