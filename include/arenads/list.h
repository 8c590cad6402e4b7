/* SPDX-License-Identifier: MIT */
/*
 * list.h - a lock-free ordered list: the structure, and the walk that the hash map uses.
 *
 * Harris (A Pragmatic Implementation of Non-Blocking Linked-Lists, 2001) and Michael
 * (High Performance Dynamic Lock-Free Hash Tables, 2002), with versions in the links
 * instead of hazard pointers: memory is type-stable, so a reader may look at an entry
 * that has been reused, and finds out because a link it came through has changed.
 *
 *	head            entry                 entry
 *	+------+     +------+------+---     +------+------+---
 *	| link |---->| link | hash |key     | link | hash |key
 *	+------+     +--|---+------+---     +------+------+---
 *	                +-------------------^
 *
 * Order: by hash, then by the words of the key. In a list the hash is the order that
 * the user gave (a 64-bit number, unique), and there is no key.
 *
 *	operation	commit (one CAS or load)		death afterwards leaves
 *	insert, push	link of the predecessor: cur -> new	nothing
 *	replace		link of the old entry:			the old entry, deleted but perhaps
 *			next -> new | mark, and new -> next	linked; writers that pass unlink it,
 *	delete		link of the entry: next -> next | mark	and it is leaked: check finds it
 *	find, get	the load of the link that was		nothing, readers change nothing
 *			then found unchanged
 *	unlink		link of the predecessor: cur -> next	nothing: anybody may do it
 *
 * Death before the commit of insert and replace: the new entry is leaked, nothing else.
 *
 * Who marks an entry frees it, once no walk can meet it any more: when it has unlinked the entry, or
 * has walked past the place where it was. So it is known at any time who has an entry in hand.
 *
 * Why a reader cannot be fooled. It holds `prev`, whose link word it read as L, and
 * looks at the entry `cur` that L leads to:
 *
 *	reader                          writers
 *	1 reads cur.link, cur.hash      may delete, unlink, free, reuse cur
 *	2 reads prev.link again         each of which changes prev.link first
 *	                                (unlink bumps its version), or prev's mark
 *	3 equal to L: at step 2 cur was prev's successor, and so what step 1 read was
 *	  read from cur, in the list.
 *
 * By induction from the head, each step starts from an entry that was in the list
 * when its link was read. Key and value come after: they are whole if cur.link is
 * still the word of step 1, because freeing marks it and reuse bumps its version.
 * The version has 31 bits: a reader stopped for exactly 2^31 changes of one word,
 * between two of its own instructions, is the limit of this argument.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at
 *                  once. Readers work through a read-only mapping.
 * Cost             one line an entry passed; insert and delete 2 CAS on the list and 1 on
 *                  the pool; find none. Finding is linear: for many entries use hashmap.h.
 * Memory runs out  ADS_NO_MEMORY or ADS_FULL, counted, nothing changed.
 * Budget runs out  ADS_BUDGET, counted, nothing changed: after ADS_BUDGET_STEPS steps of
 *                  one call, or when BPF's own loop budget ends.
 * Limits           values up to 64 KiB, orders unique, an order's neighbours at 2^63 for push.
 */
#ifndef ARENADS_LIST_H
#define ARENADS_LIST_H

#include "alloc.h"
#include "table.h"

/* Where a walk stands: at the entry after `prev`, or at the end behind it. */
struct ads_walk {
	__u32 start; /* offset of the link word where the walk began */
	__u32 prev;  /* offset of the last unmarked link word */
	__u64 prev_link;
	__u32 entry; /* after prev, maybe behind deleted ones (readers) */
	__u64 link;  /* the entry's link word */
	__u64 hash;
	__u32 held; /* an entry taken and not published yet, 0: none */
	__u32 life; /* 1 + that of the entry whose link word is at `start`; 0: it is no entry's and stays */
#if !ADS_BPF
	__u32 steps; /* of the budget, by all walks from the same start */
#endif
};

/* The loop of a walk. In user space the walks of one operation share a budget, as all loops of a program do in BPF. */
#if ADS_BPF
#define ads_walk_loop(w, i) ads_loop(i)
#else
#define ads_walk_loop(w, i) i = (w)->steps; i < ADS_STEPS && ads_may_loop(); (w)->steps = ++i
#endif

enum ads_walk_mode {
	ADS_READ,  /* pass over deleted entries, change nothing */
	ADS_WRITE, /* unlink deleted entries on the way */
};

enum ads_update_mode {
	ADS_ANY,     /* insert or replace */
	ADS_INSERT,  /* only if absent */
	ADS_REPLACE, /* only if present */
};

/* --- words of keys and values --------------------------------------------------------- */

/* Word i of `size` bytes at `bytes`, zero-padded. Sizes are constants in BPF. */
static ADS_INLINE __u64 ads_word(const void *bytes, __u32 i, __u32 size)
{
	const char *at = (const char *)bytes + 8 * i;
	__u64 word = 0;
	__u32 rest = size - 8 * i;

	if (rest >= 8) {
		__builtin_memcpy(&word, at, 8);
	} else {
		__u32 shift = 0;

		if (rest & 4) {
			__u32 part;

			__builtin_memcpy(&part, at, 4);
			word = part;
			at += 4;
			shift = 32;
		}
		if (rest & 2) {
			__u16 part;

			__builtin_memcpy(&part, at, 2);
			word |= (__u64)part << shift;
			at += 2;
			shift += 16;
		}
		if (rest & 1)
			word |= (__u64)(unsigned char)*at << shift;
	}
	return word;
}

/* The reverse: put word i back where it came from. */
static ADS_INLINE void ads_put_word(void *bytes, __u32 i, __u32 size, __u64 word)
{
	char *at = (char *)bytes + 8 * i;
	__u32 rest = size - 8 * i;

	if (rest >= 8) {
		__builtin_memcpy(at, &word, 8);
		return;
	}
	if (rest & 4) {
		__u32 part = (__u32)word;

		__builtin_memcpy(at, &part, 4);
		at += 4;
		word >>= 32;
	}
	if (rest & 2) {
		__u16 part = (__u16)word;

		__builtin_memcpy(at, &part, 2);
		at += 2;
		word >>= 16;
	}
	if (rest & 1)
		*at = (char)word;
}

#define ADS_WORDS(size) (((size) + 7) / 8)
#define ads_words_at(arena, offset) ads_at(arena, __u64, offset)

/* Copy `size` private bytes to arena words, one relaxed store a word. */
static ADS_INLINE void ads_copy_in(struct ads_arena *a, __u32 to, const void *from, __u32 size)
{
	__u64 __arena *words = ads_words_at(a, to);
	__u32 i;

	(void)a;
	for (i = 0; i < ADS_WORDS(size); i++)
		ads_store(words + i, ads_word(from, i, size));
}

/* Copy arena words to `size` private bytes; the caller checks afterwards that nothing moved. */
static ADS_INLINE void ads_copy_out(struct ads_arena *a, void *to, __u32 from, __u32 size)
{
	const __u64 __arena *words = ads_words_at(a, from);
	__u32 i;

	(void)a;
	for (i = 0; i < ADS_WORDS(size); i++)
		ads_put_word(to, i, size, ads_load(words + i));
}

/* Compare an entry's key with ours: below, equal or above 0 as the entry's is. By words, any order
 * will do; or, with ADS_BYTES, as memcmp() does. */
static ADS_INLINE int ads_compare_key(struct ads_arena *a, __u32 entry, const void *key, struct ads_ref ref)
{
	__u32 size = ref.key_size;
	const __u64 __arena *words = ads_words_at(a, entry + 16);
	__u32 i;

	(void)a;
	for (i = 0; i < ADS_WORDS(size); i++) {
		__u64 ours = ads_word(key, i, size);
		__u64 theirs = ads_load(words + i);

		if (theirs != ours && ref.flags & ADS_BYTES)
			return __builtin_bswap64(theirs) < __builtin_bswap64(ours) ? -1 : 1;
		if (theirs != ours)
			return theirs < ours ? -1 : 1;
	}
	return 0;
}

/* --- the walk ------------------------------------------------------------------------------ */

#define ads_link_of(arena, offset) (&ads_at(arena, struct ads_entry, offset)->link)

/* `start` is {life:32, offset:32} of a link word; life 0: of a head or a shortcut, else of an entry. */
static ADS_INLINE struct ads_walk ads_walk_from(__u64 start)
{
#if ADS_BPF
	struct ads_walk w = {(__u32)start, 0, 0, 0, 0, 0, 0, (__u32)(start >> 32)};
#else
	struct ads_walk w = {(__u32)start, 0, 0, 0, 0, 0, 0, (__u32)(start >> 32), 0};
#endif

	return w;
}

/* Go on from the link word at `at`, which is in the list. */
static ADS_INLINE void ads_walk_enter(struct ads_arena *a, struct ads_walk *w, __u32 at)
{
	w->prev = at;
	w->prev_link = ads_load_acquire(ads_link_of(a, at)); /* A3, pairs with R3 */
	/* Reached through the list or known to be linked: then it does not matter if pending. */
	w->entry = ads_link_next(w->prev_link) & ~ADS_LINK_PENDING;
}

#define ADS_WALK_LOST 7u /* no entry: where the walk began is not in the list any more */

/* Go on from the start. One that is an entry is in the list if it is not deleted and in the life in
 * which it was known to be: lives change after the mark and before the entry can be taken again. */
static ADS_INLINE void ads_walk_restart(struct ads_arena *a, struct ads_walk *w, struct ads_pool_ref pool)
{
	ads_walk_enter(a, w, w->start);
	if (w->life) {
		ads_fence_acquire(); /* F17: the link was read before the life */
		if (w->prev_link & ADS_LINK_MARK ||
		    (__u32)ads_load(ads_at(a, __u64, w->start + pool.life)) + 1 != w->life)
			w->entry = ADS_WALK_LOST;
	}
}

/* Step onto the entry just looked at. */
static ADS_INLINE void ads_walk_advance(struct ads_walk *w)
{
	w->prev = w->entry;
	w->prev_link = w->link;
	w->entry = ads_link_next(w->link);
}

enum ads_look {
	ADS_LOOK_ENTRY, /* w->link and w->hash are those of a live entry in the list */
	ADS_LOOK_END,	/* the end, or a shortcut's word: w->entry has the tag */
	ADS_LOOK_LOST,	/* the entry where the walk began was deleted: begin elsewhere */
	ADS_LOOK_AGAIN, /* something changed: look again from where w stands now */
	ADS_LOOK_DAMAGED,
};

/* Look at what comes after prev. */
static ADS_INLINE enum ads_look ads_walk_look(struct ads_arena *a, struct ads_walk *w, struct ads_pool_ref pool,
					      enum ads_walk_mode mode)
{
	struct ads_entry __arena *e;

	if (w->entry & ADS_LINK_TAG)
		return w->life && w->entry == ADS_WALK_LOST ? ADS_LOOK_LOST : ADS_LOOK_END;
	if (ads_bad(a, w->entry, pool.stride))
		return ADS_LOOK_DAMAGED;
	e = ads_at(a, struct ads_entry, w->entry);
	w->link = ads_load_acquire(&e->link); /* A3, pairs with R3 */
	w->hash = ads_load(&e->hash);
	ads_fence_acquire(); /* F13: the loads above are done before the check below */
	if (ADS_UNLIKELY(ads_load(ads_link_of(a, w->prev)) != w->prev_link)) {
		ads_walk_restart(a, w, pool);
		return ADS_LOOK_AGAIN;
	}
	if (ADS_LIKELY(!(w->link & ADS_LINK_MARK)))
		return ADS_LOOK_ENTRY;
	if (mode == ADS_WRITE) {
		__u64 past = ads_link_change(w->prev_link, ads_deleted_next(w->link));

		if (ads_cas(ads_link_of(a, w->prev), w->prev_link, past) != w->prev_link) { /* R3 */
			ads_walk_restart(a, w, pool);
			return ADS_LOOK_AGAIN;
		}
		w->prev_link = past;
	}
	w->entry = ads_deleted_next(w->link);
	return ADS_LOOK_AGAIN;
}

/*
 * The walk, which began at a bucket that covers `hash`, has met the link word of a shortcut.
 * Go on from there (1) or stop (0)? -1: damaged.
 *
 * The next bucket of the same table is the end of ours. Any other shortcut may be of a finer
 * table, within ours, or of a coarser one, or of a bucket further on: its place decides.
 */
static ADS_INLINE int ads_walk_cross(struct ads_arena *a, struct ads_walk *w, __u32 map, __u64 hash)
{
	__u32 at = w->entry & ~ADS_LINK_TAG;
	__u64 first;

	if (!at || at == w->start + 8)
		return 0;
	first = __builtin_constant_p(map) && !map ? ADS_NO_SHORTCUT : ads_shortcut_hash(a, map, at);
	if (first == ADS_NO_SHORTCUT || ads_bad(a, at, 8))
		return -1;
	if (first > hash)
		return 0;
	ads_walk_enter(a, w, at);
	return 1;
}

/*
 * Find (hash, key) from the link word w->start on. A list (map 0) has one, a hash map (its
 * offset) one for each bucket. ADS_OK: w is at it. ADS_ABSENT: w is
 * where it would be inserted. Else ADS_BUDGET, ADS_DAMAGED or ADS_LOST.
 */
static ADS_INLINE int ads_walk_find(struct ads_arena *a, struct ads_walk *w, __u32 map, struct ads_ref ref,
				    __u64 hash, const void *key, enum ads_walk_mode mode)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	__u32 i;

	if (ads_bad(a, w->start, 8))
		return ADS_DAMAGED;
	ads_walk_restart(a, w, pool);
	for (ads_walk_loop(w, i)) {
		enum ads_look seen = ads_walk_look(a, w, pool, mode);
		int order;

		if (seen == ADS_LOOK_END) {
			int crossed = ads_walk_cross(a, w, map, hash);

			if (crossed > 0)
				continue;
			return crossed ? ADS_DAMAGED : ADS_ABSENT;
		}
		if (seen == ADS_LOOK_DAMAGED)
			return ADS_DAMAGED;
		if (seen == ADS_LOOK_LOST)
			return ADS_LOST;
		if (seen == ADS_LOOK_AGAIN)
			continue;
		if (w->hash > hash)
			return ADS_ABSENT;
		if (w->hash == hash) {
			order = ads_compare_key(a, w->entry, key, ref);
			ads_fence_acquire(); /* F13: the key's words before the link again */
			if (ads_load(ads_link_of(a, w->entry)) != w->link)
				continue; /* deleted or reused under us: look again */
			if (order >= 0)
				return order ? ADS_ABSENT : ADS_OK;
		}
		ads_walk_advance(w);
	}
	return ADS_BUDGET;
}

/* Go to the first entry of a list: ADS_OK, ADS_ABSENT if there is none, ADS_BUDGET or ADS_DAMAGED. */
static ADS_INLINE int ads_walk_first(struct ads_arena *a, struct ads_walk *w, struct ads_ref ref,
				     enum ads_walk_mode mode)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	__u32 i;

	if (ads_bad(a, w->start, 8))
		return ADS_DAMAGED;
	ads_walk_restart(a, w, pool);
	for (ads_walk_loop(w, i)) {
		enum ads_look seen = ads_walk_look(a, w, pool, mode);

		if (seen == ADS_LOOK_ENTRY)
			return ADS_OK;
		if (seen != ADS_LOOK_AGAIN)
			return seen == ADS_LOOK_END ? ADS_ABSENT : ADS_DAMAGED;
	}
	return ADS_BUDGET;
}

/* --- operations on (hash, key) --------------------------------------------------------------- */

/*
 * How operations find (hash, key): as ads_walk_find() does, but never ADS_LOST. `of` and `how` are what they
 * were given for it; w->held stays as it is. An ordered map has one that goes by its towers. Writers seek a first
 * time, and `again` with an entry in their hands, when nothing else may be taken into them.
 */
typedef int (*ads_seek)(struct ads_arena *a, const struct ads_ref *of, __u64 hash, const void *key, __u32 how,
			struct ads_walk *w);

/* From w->start, which cannot be lost: `how` is the hash map's offset, or 0. */
static ADS_INLINE int ads_list_seek_to_read(struct ads_arena *a, const struct ads_ref *of, __u64 hash,
					    const void *key, __u32 how, struct ads_walk *w)
{
	return ads_walk_find(a, w, how, *of, hash, key, ADS_READ);
}

static ADS_INLINE int ads_list_seek_to_write(struct ads_arena *a, const struct ads_ref *of, __u64 hash,
					     const void *key, __u32 how, struct ads_walk *w)
{
	return ads_walk_find(a, w, how, *of, hash, key, ADS_WRITE);
}

/* Copy the value of the entry that w is at: 1 if it is whole and was still there, as w->link says. */
static ADS_INLINE int ads_list_copy_value(struct ads_arena *a, struct ads_ref ref, const struct ads_walk *w, void *value)
{
	ads_copy_out(a, value, w->entry + ads_entry_value_offset(ref), ref.value_size);
	ads_fence_acquire(); /* F13: the value's words before the link again */
	return ads_load(ads_link_of(a, w->entry)) == w->link;
}

/* Copy the value of (hash, key), whole, as it was stored. w is at it then. */
static ADS_INLINE int ads_list_get_from(struct ads_arena *a, ads_seek seek, __u32 how, struct ads_walk *w,
					struct ads_ref ref, __u64 hash, const void *key, void *value)
{
	__u32 i;

	for (ads_retry(i)) {
		int rc = seek(a, &ref, hash, key, how, w);

		if (rc)
			return rc;
		if (ads_list_copy_value(a, ref, w, value))
			return ADS_OK;
	}
	return ADS_BUDGET;
}

static ADS_INLINE int ads_list_get_at(struct ads_arena *a, __u32 start, __u32 map, struct ads_ref ref, __u64 hash,
				      const void *key, void *value)
{
	struct ads_walk w = ads_walk_from(start);

	return ads_list_get_from(a, ads_list_seek_to_read, map, &w, ref, hash, key, value);
}

/* Fill a private entry. R13, for those who still look at it as a deleted one if it was not in the pool since:
 * the walk has seen it unlinked. */
static ADS_INLINE void ads_entry_fill(struct ads_arena *a, struct ads_ref ref, __u32 entry, __u64 hash, const void *key,
				      const void *value)
{
	if (ads_by_user())
		ads_store_release(&ads_at(a, struct ads_entry, entry)->hash, hash); /* R13 */
	else
		ads_store(&ads_at(a, struct ads_entry, entry)->hash, hash);
	ads_copy_in(a, entry + 16, key, ref.key_size);
	ads_copy_in(a, entry + ads_entry_value_offset(ref), value, ref.value_size);
}

/* Take an entry and fill it; it is private until a CAS publishes it. Replacing may take a
 * spare one; *lender: see ads_spare_take(), 0: it is another. */
static ADS_INLINE int ads_entry_make(struct ads_arena *a, struct ads_ref ref, __u64 hash, const void *key,
				     const void *value, int replacing, __u32 *entry, __u32 *lender)
{
	int rc = ADS_OK;

	*entry = *lender = 0;
	/* Replaced entries that have to wait cannot be given to a shard. */
	if (replacing && !ads_by_user() && !(ref.flags & ADS_GRACE))
		*entry = ads_spare_take(a, ads_pool_of(ref), lender);
	if (*entry && ads_bad(a, *entry, ads_entry_stride(ref))) {
		*entry = *lender = 0;
		return ADS_DAMAGED;
	}
	if (!*entry)
		rc = ads_pool_take(a, ads_pool_of(ref), replacing, entry);
	if (rc)
		return rc;
	ads_entry_fill(a, ref, *entry, hash, key, value);
	return ADS_OK;
}

/* Give back what ads_entry_make() has made, while it is private. */
static ADS_INLINE void ads_entry_unmake(struct ads_arena *a, struct ads_ref ref, __u32 entry, __u32 lender)
{
	if (lender)
		ads_spare_give(a, ads_pool_of(ref), lender, entry);
	else
		ads_pool_give(a, ads_pool_of(ref), entry);
}

/* Aim a private entry's link at `next`; returns nothing to check, nobody sees it yet. */
static ADS_INLINE void ads_entry_aim(struct ads_arena *a, __u32 entry, __u32 next)
{
	__u64 __arena *link = ads_link_of(a, entry);
	__u64 was = ads_load(link);

	ads_hand_aim(a, entry, ads_link_later(was));
	ads_store(link, ads_link_change(was, next));
}

/* The bits of a link word that say: this entry is deleted, and who will free it. */
static ADS_INLINE __u64 ads_deleted_bits(void)
{
	return ADS_LINK_MARK | (ads_by_user() ? ADS_LINK_USER : 0);
}

/*
 * Unlink the entry that w is at, which this caller has just marked: 1 done, 0 somebody has
 * changed the predecessor meanwhile. Then a walk past the place unlinks it if nobody else does: a
 * deleted entry stands before the live one of its key.
 */
static ADS_INLINE int ads_walk_unlink(struct ads_arena *a, struct ads_walk *w, __u32 next)
{
	/* R3: passes on what the walk has read. */
	return ads_cas(ads_link_of(a, w->prev), w->prev_link, ads_link_change(w->prev_link, next)) == w->prev_link;
}

/* Free an entry that this caller has marked, in place of the one from `lender`. `rc`: of the last walk
 * past its place, if it did not come to its end the entry may still be met, and must stay: it is
 * leaked, check finds it. */
static ADS_INLINE void ads_list_free(struct ads_arena *a, struct ads_ref ref, __u32 entry, __u32 lender, int rc)
{
	if (rc != ADS_OK && rc != ADS_ABSENT)
		ads_count(a, ref.offset, rc);
	else if (lender)
		ads_spare_give(a, ads_pool_of(ref), lender, entry);
	else
		ads_pool_retire(a, ads_pool_of(ref), ref.flags, entry);
}

/*
 * Keep an entry that this caller has marked and that is to be freed, as one that it has taken: not where
 * entries wait before they are used again. Both hands name it meanwhile, with the versions of before and after.
 */
static ADS_INLINE void ads_entry_keep(struct ads_arena *a, struct ads_ref ref, __u32 entry)
{
	__u64 __arena *link = ads_link_of(a, entry);
	__u64 was = ads_load(link);

	ads_pool_outlive(a, ads_pool_of(ref), entry);
	ads_hand_take(a, ads_pool_of(ref).offset, entry, ads_link_later(was));
	ads_store_release(link, ads_link_set_state(was, ADS_LINK_TAKEN)); /* R3: as when it is returned */
	ads_hand_pass(a);
}

/*
 * Store (hash, key) -> value in the list of `ref`, a part of `of`. *entry becomes the entry that now holds the
 * key: the new one, or with ADS_EXISTS the one that was there. *life: 1 + the new entry's. `w` says where to
 * begin and is changed: in BPF, memory that came as an argument costs the verifier least, which keeps no track of it.
 * `kept`, if not NULL: *kept is an entry that the call before has replaced, or 0. It is used or given back, and
 * becomes the one that this call has replaced.
 */
static ADS_INLINE int ads_list_store_from(struct ads_arena *a, ads_seek seek, const struct ads_ref *of, __u32 how,
					  __u32 again, struct ads_walk *w, struct ads_ref ref, __u64 hash,
					  const void *key, const void *value, enum ads_update_mode mode, __u32 *entry,
					  __u32 *life, __u32 *kept)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	int unfilled = kept && *kept;
	__u64 made_to_replace = unfilled ? 1 : ads_unknown(0);
	__u32 lender = 0;
	__u64 replaced = ads_unknown(0); /* it has happened: what is left is to free this one */
	__u32 i;
	int rc = ADS_BUDGET;

	w->held = unfilled ? *kept : (__u32)ads_unknown(0);
	if (kept)
		*kept = 0;
	for (ads_retry(i)) {
		rc = seek(a, of, hash, key, how, w);
		how = again;
		if (replaced)
			break;
		/* Else the verifier goes on with what a test of it has told, each time round. */
		mode = __builtin_constant_p(mode) ? mode : (enum ads_update_mode)ads_unknown(mode);
		if (rc == ADS_OK && mode == ADS_INSERT) {
			rc = ADS_EXISTS;
			*entry = w->entry;
			break;
		}
		mode = __builtin_constant_p(mode) ? mode : (enum ads_update_mode)ads_unknown(mode);
		if (rc == ADS_ABSENT && mode == ADS_REPLACE)
			break;
		if (rc != ADS_OK && rc != ADS_ABSENT)
			break;
		/* The key went away while we had taken an entry to replace it, perhaps a spare
		 * one: that is not for inserting. */
		if (w->held && made_to_replace && rc == ADS_ABSENT) {
			ads_entry_unmake(a, ref, w->held, lender);
			w->held = 0;
		}
		if (!w->held) {
			int got = ads_entry_make(a, ref, hash, key, value, rc == ADS_OK, &w->held, &lender);

			made_to_replace = rc == ADS_OK;
			if (got) {
				rc = got;
				break;
			}
			if (pool.life) /* while nobody else can end it */
				*life = (__u32)ads_load(ads_at(a, __u64, w->held + pool.life)) + 1;
		} else if (unfilled) {
			ads_entry_fill(a, ref, w->held, hash, key, value);
			if (pool.life)
				*life = (__u32)ads_load(ads_at(a, __u64, w->held + pool.life)) + 1;
		}
		unfilled = 0;
		if (rc == ADS_ABSENT) {
			ads_entry_aim(a, w->held, w->entry);
			/* Commit of insert. R3: the entry's words are visible before it is linked. */
			if (ads_cas(ads_link_of(a, w->prev), w->prev_link, ads_link_change(w->prev_link, w->held)) ==
			    w->prev_link) {
				*entry = w->held;
				ads_hand_clear(a);
				return ADS_OK;
			}
		} else {
			ads_entry_aim(a, w->held, ads_link_next(w->link));
			ads_hand_delete(a, ads_pool_of(ref).offset, w->entry, ads_link_later(w->link));
			/* Commit of replace. R3, as above: readers reach it through the marked link. */
			if (ads_cas(ads_link_of(a, w->entry), w->link,
				    ads_link_change(w->link, w->held) | ads_deleted_bits()) == w->link) {
				*entry = w->held;
				replaced = w->entry;
				rc = ADS_OK;
				if (ads_walk_unlink(a, w, w->held))
					break;
				w->held = 0;
			}
		}
		rc = ADS_BUDGET;
	}
	if (replaced) {
		if (kept && (rc == ADS_OK || rc == ADS_ABSENT) && !(ref.flags & ADS_GRACE)) {
			ads_entry_keep(a, ref, (__u32)replaced);
			*kept = (__u32)replaced;
		} else {
			ads_list_free(a, ref, (__u32)replaced, lender, rc);
		}
		return ADS_OK;
	}
	if (w->held)
		ads_entry_unmake(a, ref, w->held, lender);
	ads_hand_clear(a);
	return rc;
}

static ADS_INLINE int ads_list_store_at(struct ads_arena *a, __u32 start, __u32 map, struct ads_ref ref, __u64 hash,
					const void *key, const void *value, enum ads_update_mode mode,
					__u32 *entry, __u32 *kept)
{
	struct ads_walk w = ads_walk_from(start);
	__u32 life;

	return ads_list_store_from(a, ads_list_seek_to_write, &ref, map, map, &w, ref, hash, key, value, mode, entry,
				   &life, kept);
}

/*
 * Delete (hash, key); `value`, if not NULL, receives what it was. With `only`, nothing is done if
 * the value's first word is another: ADS_ABSENT.
 */
static ADS_INLINE int ads_list_delete_from(struct ads_arena *a, ads_seek seek, __u32 how, __u32 again, __u32 start,
					   struct ads_ref ref, __u64 hash, const void *key, void *value,
					   const __u64 *only)
{
	struct ads_walk w = ads_walk_from(start);
	__u32 deleted = 0; /* it has happened: what is left is to free this one */
	int rc = ADS_BUDGET;
	__u32 i;

	for (ads_retry(i)) {
		rc = seek(a, &ref, hash, key, how, &w);
		how = again;
		if (deleted)
			break;
		if (rc) {
			ads_hand_clear(a);
			return rc;
		}
		/* Whole if the CAS finds the link as it was. */
		if (value)
			ads_copy_out(a, value, w.entry + ads_entry_value_offset(ref), ref.value_size);
		/* If this is of another entry by now, the link has changed, or will not be found so. */
		if (only && ads_load(ads_at(a, __u64, w.entry + ads_entry_value_offset(ref))) != *only)
			return ADS_ABSENT;
		ads_hand_delete(a, ads_pool_of(ref).offset, w.entry, ads_link_later(w.link));
		/* Commit of delete. R3. */
		if (ads_cas(ads_link_of(a, w.entry), w.link,
			    ads_link_change(w.link, ads_link_next(w.link)) | ads_deleted_bits()) == w.link) {
			deleted = w.entry;
			if (ads_walk_unlink(a, &w, ads_link_next(w.link)))
				break;
		}
		rc = ADS_BUDGET;
	}
	if (!deleted)
		return ADS_BUDGET;
	ads_list_free(a, ref, deleted, 0, rc);
	return ADS_OK;
}

static ADS_INLINE int ads_list_delete_at(struct ads_arena *a, __u32 start, __u32 map, struct ads_ref ref,
					 __u64 hash, const void *key, void *value, const __u64 *only)
{
	return ads_list_delete_from(a, ads_list_seek_to_write, map, map, start, ref, hash, key, value, only);
}

/* --- iteration ------------------------------------------------------------------------------ */

/*
 * A walk that can stop after each entry and go on later, in any call of the same process.
 * Every key present throughout is returned exactly once: the order of what is returned
 * only ever grows, and a walk that was disturbed skips what is not above the last one.
 */
struct ads_scan {
	struct ads_walk walk;
	__u64 hash;    /* of the entry returned last */
	__u32 started; /* 0: nothing was returned yet, `hash` counts for nothing */
	__u32 inclusive; /* 1: an entry that is equal to hash and last key is returned too */
};

static ADS_INLINE int ads_scan_start(struct ads_arena *a, struct ads_scan *s, __u32 start)
{
	struct ads_scan fresh = {ads_walk_from(start), 0, 0, 0};

	if (ads_bad(a, start, 8))
		return ADS_DAMAGED;
	*s = fresh;
	ads_walk_enter(a, &s->walk, start);
	return ADS_OK;
}

/* Go on behind `hash`, which a walk of a list has returned before, wherever it is now. */
static ADS_INLINE int ads_scan_after(struct ads_arena *a, struct ads_scan *s, __u32 start, __u64 hash)
{
	int rc = ads_scan_start(a, s, start);

	s->hash = hash;
	s->started = 1;
	return rc;
}

/* One step towards the next entry; as ads_scan_next(), and ADS_BUDGET if it takes another one. */
static ADS_INLINE int ads_scan_step(struct ads_arena *a, struct ads_scan *s, struct ads_ref ref,
				    const void *last_key, void *key, void *value, __u32 *entry)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	struct ads_walk *w = &s->walk;
	enum ads_look seen = ads_walk_look(a, w, pool, ADS_READ);
	__u32 life;

	if (seen == ADS_LOOK_AGAIN)
		return ADS_BUDGET;
	if (seen == ADS_LOOK_DAMAGED)
		return ADS_DAMAGED;
	if (seen == ADS_LOOK_LOST)
		return ADS_LOST;
	if (seen == ADS_LOOK_END) {
		if (w->entry == ADS_LINK_END)
			return ADS_ABSENT;
		/* A shortcut's word is never deleted: later restarts may begin here. Where entries have
		 * lives there are no shortcuts, and a life would be looked for behind the word. */
		w->start = w->entry & ~ADS_LINK_TAG;
		if (pool.life || ads_bad(a, w->start, 8))
			return ADS_DAMAGED;
		ads_walk_restart(a, w, pool);
		return ADS_BUDGET;
	}
	if (s->started && w->hash <= s->hash) {
		int order = -1;

		if (w->hash == s->hash) {
			order = ads_compare_key(a, w->entry, last_key, ref);
			ads_fence_acquire(); /* F13: the key's words before the link again */
			if (ads_load(ads_link_of(a, w->entry)) != w->link)
				return ADS_BUDGET;
		}
		if (order < 0 || (order == 0 && !s->inclusive)) {
			ads_walk_advance(w);
			return ADS_BUDGET;
		}
	}
	if (key)
		ads_copy_out(a, key, w->entry + 16, ref.key_size);
	if (value)
		ads_copy_out(a, value, w->entry + ads_entry_value_offset(ref), ref.value_size);
	life = pool.life ? (__u32)ads_load(ads_at(a, __u64, w->entry + pool.life)) + 1 : 0;
	ads_fence_acquire(); /* F13: key, value and life before the link again */
	if (ads_load(ads_link_of(a, w->entry)) != w->link)
		return ADS_BUDGET; /* deleted or reused while we copied: look again */
	s->hash = w->hash;
	s->started = 1;
	s->inclusive = 0;
	*entry = w->entry;
	if (life) { /* go on from here if the way is disturbed */
		w->start = w->entry;
		w->life = life;
	}
	ads_walk_advance(w);
	return ADS_OK;
}

/*
 * Read the entries of the eight buckets whose shortcuts are in the line at `at`, the first two of each:
 * they lie anywhere, and are waited for together then, and not one by one. Nothing comes of what is
 * read, it may be stale or damaged. A load is the only prefetch that BPF has; user space asks for the
 * first entries of the line behind, too, and waits for nothing: 1,000,000 entries of 32 bytes take
 * 54 ns each and not 170.
 */
#if ADS_BPF
ADS_GLOBAL int ads_scan_ahead(__u32 at, __u32 stride)
{
	__u32 i;

	for (i = 0; i < ADS_LINE / 8; i++) {
		__u32 first = (__u32)ads_load(ads_at(0, __u64, at + 8 * i)) & ~7u;
		__u32 second = (__u32)ads_load(ads_at(0, __u64, first)) & ~7u;

		ads_load(ads_at(0, __u64, first + stride - 8));
		ads_load(ads_at(0, __u64, second));
	}
	return 0;
}
#else
/* Whether these bytes can be looked at; unlike ads_bad() it is no damage if not. */
static inline int ads_within(struct ads_arena *a, __u32 offset, __u64 bytes)
{
	return !(offset & 7) && offset >= ADS_LINE && offset + bytes <= __atomic_load_n(&a->limit, __ATOMIC_RELAXED);
}

/* Ask for the entry that a link word leads to, if it is one. */
static inline int ads_prefetch_entry(struct ads_arena *a, __u64 link, __u32 bytes)
{
	__u32 at = ads_link_next(link), i;

	if (!ads_within(a, at, 16))
		return 0;
	for (i = 0; i < bytes && i < 4 * ADS_LINE; i += ADS_LINE)
		__builtin_prefetch((const char *)ads_at(a, char, at) + i);
	return 1;
}

/* Fewer bytes of entries than these lie in caches, where nothing is to be gained. */
#ifndef ADS_SCAN_AHEAD_FROM
#define ADS_SCAN_AHEAD_FROM ADS_MIB
#endif

static inline void ads_scan_ahead(struct ads_arena *a, __u32 at, struct ads_pool_ref pool)
{
	__u64 entries = ads_peek(&ads_at(a, struct ads_pool, pool.offset)->carved) >> 32;
	__u32 stride = pool.stride, i;

	if (entries * stride < ADS_SCAN_AHEAD_FROM || !ads_within(a, at, 2 * ADS_LINE))
		return;
	for (i = 0; i < ADS_LINE / 8; i++) {
		__u32 first = ads_link_next(ads_peek(ads_at(a, __u64, at + 8 * i)));

		if (ads_within(a, first, 8))
			ads_prefetch_entry(a, ads_peek(ads_at(a, __u64, first)), stride);
		ads_prefetch_entry(a, ads_peek(ads_at(a, __u64, at + ADS_LINE + 8 * i)), stride);
	}
}
#endif

/*
 * The next entry in order, crossing shortcuts. `last_key` is the key returned last (not
 * looked at before the first); key and value, other memory, receive whole copies, either
 * may be NULL. ADS_ABSENT: no more.
 */
static ADS_INLINE int ads_scan_next(struct ads_arena *a, struct ads_scan *s, struct ads_ref ref,
				    const void *last_key, void *key, void *value, __u32 *entry)
{
	__u32 i;

	for (ads_loop(i)) {
		int rc = ads_scan_step(a, s, ref, last_key, key, value, entry);

		if (rc != ADS_BUDGET)
			return rc;
		/* At the first shortcut of a line. */
		if (ref.key_size && s->walk.prev == s->walk.start && !(s->walk.start % ADS_LINE) && !s->walk.life)
#if ADS_BPF
			ads_scan_ahead(s->walk.start, ads_entry_stride(ref));
#else
			ads_scan_ahead(a, s->walk.start, ads_pool_of(ref));
#endif
	}
	return ADS_BUDGET;
}

/* --- the list as a structure ------------------------------------------------------------------ */

static ADS_INLINE __u32 ads_list_head(struct ads_ref ref)
{
	return ref.offset + (__u32)__builtin_offsetof(struct ads_collection, head);
}

/* Entry of `order`: its offset, for in-place access. */
static ADS_INLINE int ads_list_find(struct ads_arena *a, struct ads_ref ref, __u64 order, __u32 *entry)
{
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	int rc = ads_walk_find(a, &w, 0, ref, order, 0, ADS_READ);

	*entry = w.entry;
	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/* Copy the value of `order`. */
static ADS_INLINE int ads_list_get(struct ads_arena *a, struct ads_ref ref, __u64 order, void *value)
{
	int rc = ads_list_get_at(a, ads_list_head(ref), 0, ref, order, 0, value);

	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/* Store value under `order`; see enum ads_update_mode. */
static ADS_INLINE int ads_list_update(struct ads_arena *a, struct ads_ref ref, __u64 order, const void *value,
				      enum ads_update_mode mode, __u32 *entry)
{
	int rc = ads_may_change(a, ref.offset);

	if (rc)
		return rc;
	rc = ads_list_store_at(a, ads_list_head(ref), 0, ref, order, 0, value, mode, entry, 0);
	return rc == ADS_OK || rc == ADS_ABSENT || rc == ADS_EXISTS ? rc : ads_count(a, ref.offset, rc);
}

/* Delete an order; `value`, if not NULL, receives what it was. */
static ADS_INLINE int ads_list_pop(struct ads_arena *a, struct ads_ref ref, __u64 order, void *value)
{
	int rc = ads_may_change(a, ref.offset);

	if (rc)
		return rc;
	rc = ads_list_delete_at(a, ads_list_head(ref), 0, ref, order, 0, value, 0);
	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

static ADS_INLINE int ads_list_delete(struct ads_arena *a, struct ads_ref ref, __u64 order)
{
	return ads_list_pop(a, ref, order, 0);
}

/* The first entry: its order and a copy of its value. ADS_ABSENT: the list is empty. */
static ADS_INLINE int ads_list_first(struct ads_arena *a, struct ads_ref ref, __u64 *order, void *value)
{
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	int rc = ADS_BUDGET;
	__u32 i;

	for (ads_retry(i)) {
		rc = ads_walk_first(a, &w, ref, ADS_READ);
		if (rc)
			break;
		ads_copy_out(a, value, w.entry + ads_entry_value_offset(ref), ref.value_size);
		ads_fence_acquire(); /* F13 */
		if (ads_load(ads_link_of(a, w.entry)) == w.link) {
			*order = w.hash;
			return ADS_OK;
		}
		rc = ADS_BUDGET;
	}
	return rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/*
 * Delete the entry that was the first at a moment of this call, and get what it was. An entry that
 * others put before it meanwhile stays.
 */
static ADS_INLINE int ads_list_pop_first(struct ads_arena *a, struct ads_ref ref, __u64 *order, void *value)
{
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	int rc = ads_may_change(a, ref.offset);
	__u32 i;

	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_retry(i)) {
		rc = ads_walk_first(a, &w, ref, ADS_WRITE);
		if (rc)
			break;
		rc = ads_list_delete_at(a, ads_list_head(ref), 0, ref, w.hash, 0, value, 0);
		if (rc != ADS_ABSENT) {
			*order = w.hash;
			break;
		}
		rc = ADS_BUDGET; /* somebody else was quicker */
	}
	return rc == ADS_OK || rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

#define ADS_LIST_FIRST_ORDER (1ull << 63) /* what the first push gets; later ones count down */

/*
 * Put value at the head: its order is one below that of the entry before which it is put,
 * 2^63 in an empty list. *order tells which. ADS_FULL if the first entry's order is 0.
 */
static ADS_INLINE int ads_list_push(struct ads_arena *a, struct ads_ref ref, const void *value, __u64 *order,
				    __u32 *entry)
{
	struct ads_pool_ref pool = ads_pool_of(ref);
	struct ads_walk w = ads_walk_from(ads_list_head(ref));
	int rc = ads_may_change(a, ref.offset);
	__u32 lender, i;

	if (rc)
		return rc;
	if (ads_bad(a, w.start, 8))
		return ads_count(a, ref.offset, ADS_DAMAGED);
	rc = ADS_BUDGET;
	ads_walk_restart(a, &w, pool);
	for (ads_loop(i)) {
		enum ads_look seen = ads_walk_look(a, &w, pool, ADS_WRITE);

		if (seen == ADS_LOOK_AGAIN)
			continue;
		if (seen == ADS_LOOK_DAMAGED) {
			rc = ADS_DAMAGED;
			break;
		}
		if (seen == ADS_LOOK_ENTRY && !w.hash) {
			rc = ADS_FULL;
			break;
		}
		if (!w.held) {
			rc = ads_entry_make(a, ref, 0, 0, value, 0, &w.held, &lender);
			if (rc)
				return ads_count(a, ref.offset, rc);
			rc = ADS_BUDGET;
		}
		*order = seen == ADS_LOOK_END ? ADS_LIST_FIRST_ORDER : w.hash - 1;
		ads_store(&ads_at(a, struct ads_entry, w.held)->hash, *order);
		ads_entry_aim(a, w.held, w.entry);
		/* Commit of push, the same as of insert. R3. */
		if (ads_cas(ads_link_of(a, w.prev), w.prev_link, ads_link_change(w.prev_link, w.held)) == w.prev_link) {
			*entry = w.held;
			ads_hand_clear(a);
			return ADS_OK;
		}
		ads_walk_restart(a, &w, pool);
	}
	if (w.held)
		ads_pool_give(a, pool, w.held);
	return ads_count(a, ref.offset, rc);
}

/* Entries in the list; exact while nobody changes it, and after a check if somebody died. */
static ADS_INLINE __u32 ads_collection_len(struct ads_arena *a, struct ads_ref ref)
{
	return ads_pool_used(a, ads_pool_of(ref).offset, ads_entry_stride(ref));
}

#endif /* ARENADS_LIST_H */
