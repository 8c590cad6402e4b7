/* SPDX-License-Identifier: MIT */
/*
 * mpmc.h - a ring of fixed-size records for any number of producers and consumers, on both sides.
 *
 * Records live in entries of a pool (alloc.h). A slot is one word: which entry, in which lap.
 *
 *	       head                tail		free-running 64-bit counts of records,
 *	        |                    |		at most a little behind the truth
 *	--+-----+-----+-----+-----+-----+-----+--
 *	  |L+1,0| L,e | L,f | L,g | L,0 | L,0 |	position = lap * slots + index
 *	--+-----+--|--+-----+-----+-----+-----+--
 *	           +----> entry e: link, hash, record
 *
 *	slot {L, 0}	waits for the record of lap L
 *	slot {L, e}	has it, in entry e
 *	slot {L+1, 0}	it was popped
 *
 *	operation	commit (one CAS)		death
 *	push		slot {L, 0} -> {L, e}		before: the entry is in a dead hand.
 *							after: tail is behind, the next one moves it
 *	pop		slot {L, e} -> {L+1, 0}		before: nothing. after: head is behind, the
 *							entry is in a dead hand, the record was popped
 *
 * There is no state in which somebody owns a slot: the record is written before the slot is
 * taken, and copied out after it was given up, both in an entry that nobody else knows. So a
 * stopped or dead process holds up nobody, no slot is ever skipped, and the order stays that in
 * which records went in. What the dead had in hand, one entry each, a reaper gives back (reap.h).
 *
 * For that user space says in the words themselves what it does, as with a pool's stacks
 * (owner.h), and whoever comes by helps:
 *
 *	push	0 the entry's link AIMED; the hand says so
 *		1 slot {L, 0} -> {L, e, USER}			commit
 *		2 the entry's link AIMED -> LIVE		anybody may, and must before a pop
 *	pop	0 the hand says which entry
 *		1 slot {L, e} -> {L, e, TAKEN}			commit
 *		2 the entry's link LIVE -> TAKEN		anybody may
 *		3 slot {L, e, TAKEN} -> {L+1, 0}		anybody may
 *
 * So an entry whose link is AIMED, and which is in no slot, was not pushed; one whose link is TAKEN
 * was popped by who has it in hand. BPF programs, which cannot die, do neither: their entries are
 * LIVE from the start, and popped in one step.
 *
 * Why "full" and "empty" are exact. A position is moved past only by who has seen its slot
 * pushed (tail) or popped (head). So all positions before tail, as it was read, are pushed; if the
 * slot of tail, read after it, still has the record of the lap before, then tail itself is not
 * pushed and the record one lap behind it is not popped: at that load there were as many records
 * as slots. The same for head: all before it are popped and it is not pushed.
 *
 * Why nobody can act on an old slot. A slot's word never comes again before 2^32 laps, and the word
 * of a link not before 2^31 changes: a CAS succeeds only if nothing has happened since the word
 * was read.
 *
 * The positions are hints: any of them that is not ahead will do. They are moved by every 8th
 * operation, so that most operations write one shared line, that of the slots, not two; the up to
 * 8 slots that are looked at instead lie in that line.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at once.
 *                  ads_mpmc_len(), ads_mpmc_walk() and ads_mpmc_read() write nothing through a
 *                  read-only mapping.
 * Cost             push and pop: 2 CAS (slot; pool) and every 8th time a third, in user space 5;
 *                  the line of the tail or head (read), of the slot, of the pool's shard, those of
 *                  the record.
 * Memory runs out  never: all entries exist from the start, the slots' and ADS_MPMC_HANDS (or so
 *                  many as fit 64 KiB, at least 8) for records that are just being pushed or popped.
 * Full             ADS_FULL, counted: no slot is free. Also if more pushes and pops than there are
 *                  entries for hands are at work at one moment, or have died there, in a ring that
 *                  is nearly full.
 * Budget runs out  ADS_BUDGET, counted, nothing changed. Every lost CAS is somebody else's success.
 * Limits           records up to 64 KiB; a process that is stopped between two instructions for
 *                  exactly 2^32 laps.
 */
#ifndef ARENADS_MPMC_H
#define ARENADS_MPMC_H

#include "list.h"

#define ADS_MPMC_STEP 8u	     /* slots in a line: how many operations move a position */
#define ADS_MPMC_HANDS 64u	     /* entries beyond the slots, */
#define ADS_MPMC_HANDS_BYTES 65536u  /* unless they are larger than this */
#define ADS_MPMC_HANDS_LEAST 8u
#define ADS_MPMC_CHUNK 4095u	     /* entries in one block */

/* With the entry in a slot: ADS_TOP_USER, its link may still be AIMED; ADS_TOP_TAKEN, it is popped. */
#define ADS_MPMC_FLAGS (ADS_TOP_USER | ADS_TOP_TAKEN)

/* The low half of an entry's link while it is not free. */
#define ADS_MPMC_AIMED 0u
#define ADS_MPMC_LIVE 8u

enum ads_mpmc_end {
	ADS_MPMC_HEAD,
	ADS_MPMC_TAIL,
};

/* Where an operation stands. */
struct ads_mpmc_place {
	__u64 hint; /* head or tail as it was read */
	__u64 position;
	__u64 word; /* of the position's slot, */
	__u32 slot; /* which is at this offset */
};

/* Entries start on a line: two that are neighbours may be in the hands of two processors. */
static ADS_INLINE struct ads_pool_ref ads_mpmc_pool(struct ads_ref ref)
{
	struct ads_pool_ref pool = {ads_pool_of(ref).offset, ads_round_up(16 + ref.value_size, ADS_LINE), 0};

	return pool;
}

static ADS_INLINE __u64 __arena *ads_mpmc_hint(struct ads_arena *a, struct ads_ref ref, enum ads_mpmc_end end)
{
	struct ads_mpmc __arena *ring = ads_at(a, struct ads_mpmc, ref.offset);

	(void)a;
	return end == ADS_MPMC_TAIL ? &ring->tail : &ring->head;
}

static ADS_INLINE void ads_mpmc_start(struct ads_arena *a, struct ads_ref ref, enum ads_mpmc_end end,
				      struct ads_mpmc_place *at)
{
	at->hint = ads_load_acquire(ads_mpmc_hint(a, ref, end)); /* A42, pairs with R42 */
	at->position = at->hint;
}

/* What a slot with this word waits for after a pop. */
static ADS_INLINE __u64 ads_mpmc_popped(__u64 word)
{
	return ((word >> 32) + 1) << 32;
}

/* Whether what user space does at a slot must be helped on before anything else is done there. It
 * was, if so, or the slot has changed. */
static ADS_INLINE int ads_mpmc_helped(struct ads_arena *a, __u32 slot, __u64 word)
{
	__u32 entry = (__u32)word & ~ADS_MPMC_FLAGS;
	__u64 __arena *at = ads_at(a, __u64, slot);
	__u64 __arena *link;
	__u64 is;

	if (ADS_LIKELY(!((__u32)word & ADS_MPMC_FLAGS)) || ads_bad(a, entry, sizeof(struct ads_entry)))
		return 0;
	link = ads_link_of(a, entry);
	is = ads_load_acquire(link); /* A3, pairs with R3 */
	/* If the slot is the same the entry was in it then, and the link is of this turn. */
	if (ads_load(at) != word)
		return 1;
	if ((__u32)word & ADS_TOP_TAKEN) {
		if (!(is & ADS_LINK_MARK))
			ads_cas(link, is, ads_link_set_state(is, ADS_LINK_TAKEN)); /* R3 */
		ads_cas(at, word, ads_mpmc_popped(word)); /* R41 */
		return 1;
	}
	if (is & ADS_LINK_MARK || (__u32)is != ADS_MPMC_AIMED)
		return 0;
	ads_cas(link, is, ads_link_change(is, ADS_MPMC_LIVE)); /* R3 */
	return 1;
}

/*
 * Go on to the first position that nobody has pushed to (tail) or popped from (head). ADS_OK: its
 * slot is free, or has a record. ADS_FULL, ADS_ABSENT: the ring was full, or empty, when the slot
 * was read.
 */
static ADS_INLINE int ads_mpmc_seek(struct ads_arena *a, struct ads_ref ref, enum ads_mpmc_end end,
				    struct ads_mpmc_place *at)
{
	__u32 bits = ads_at(a, struct ads_header, ref.offset)->most & 31;
	__u32 slots = ref.offset + (__u32)sizeof(struct ads_mpmc);
	__u32 i = ads_once();

	do {
		__s32 ahead; /* laps by which the slot is past ours, -1: it is not */
		__u32 entry;

		at->slot = slots + 8 * ((__u32)at->position & ((1u << bits) - 1));
		if (ads_bad(a, at->slot, 8))
			return ADS_DAMAGED;
		at->word = ads_load_acquire(ads_at(a, __u64, at->slot)); /* A41, pairs with R41 */
		if (ADS_UNLIKELY((__u32)at->word & ADS_TOP_TAKEN)) {
			if (ads_writable(a) && ads_mpmc_helped(a, at->slot, at->word))
				continue;
			at->word = ads_mpmc_popped(at->word);
		}
		entry = (__u32)at->word;
		ahead = (__s32)((__u32)(at->word >> 32) - (__u32)(at->position >> bits) -
				(end == ADS_MPMC_TAIL ? !entry : 1));
		if (ahead == -1) {
			if (end == ADS_MPMC_TAIL)
				return entry ? ADS_FULL : ADS_OK;
			return entry ? ADS_OK : ADS_ABSENT;
		}
		if (ahead >= 0) {
			at->position += ((__u64)ahead << bits) + 1;
		} else {
			/* The slot is behind, which cannot be, or it is so far ahead that we were stopped
			 * for long: then the hint has moved. */
			__u64 before = at->hint;

			ads_mpmc_start(a, ref, end, at);
			if (at->hint == before)
				return ADS_DAMAGED;
		}
	} while (ads_again(i));
	return ADS_BUDGET;
}

/* The operation at this place has happened: move the hint, now and then, and if it was left behind. */
static ADS_INLINE void ads_mpmc_passed(struct ads_arena *a, struct ads_ref ref, enum ads_mpmc_end end,
				       const struct ads_mpmc_place *at)
{
	__u64 next = at->position + 1;

	if (!(next % ADS_MPMC_STEP) || next - at->hint >= 2 * ADS_MPMC_STEP)
		ads_cas(ads_mpmc_hint(a, ref, end), at->hint, next); /* R42 */
}

/* Append a record; ADS_FULL if no slot is free. */
static ADS_INLINE int ads_mpmc_push(struct ads_arena *a, struct ads_ref ref, const void *value)
{
	struct ads_mpmc_place at;
	__u64 pushed;
	__u32 entry = 0;
	__u32 i = ads_once();
	int rc = ads_may_change(a, ref.offset);

	if (rc)
		return rc;
	if (ads_bad(a, ref.offset, sizeof(struct ads_mpmc)))
		return ADS_DAMAGED;
	ads_mpmc_start(a, ref, ADS_MPMC_TAIL, &at);
	do {
		rc = ads_mpmc_seek(a, ref, ADS_MPMC_TAIL, &at);
		if (rc)
			break;
		if (!entry) { /* now that there is room */
			__u64 __arena *link;
			__u64 taken;

			rc = ads_pool_take(a, ads_mpmc_pool(ref), 0, &entry);
			if (rc)
				break;
			link = ads_link_of(a, entry);
			taken = ads_load(link);
			ads_hand_aim(a, entry, ads_link_later(taken));
			ads_store(link, ads_link_change(taken, ads_by_user() ? ADS_MPMC_AIMED : ADS_MPMC_LIVE));
			ads_copy_in(a, entry + 16, value, ref.value_size);
		}
		pushed = at.word | entry | (ads_by_user() ? ADS_TOP_USER : 0);
		/* Commit. R41: the record is written before. If it fails, the line of the slots is ours
		 * now and the next free one is in it. */
		if (ads_cas(ads_at(a, __u64, at.slot), at.word, pushed) == at.word) {
			ads_mpmc_helped(a, at.slot, pushed);
			ads_mpmc_passed(a, ref, ADS_MPMC_TAIL, &at);
			ads_hand_clear(a);
			return ADS_OK;
		}
		rc = ADS_BUDGET;
	} while (ads_again(i));
	if (entry)
		ads_pool_give(a, ads_mpmc_pool(ref), entry);
	return ads_count(a, ref.offset, rc);
}

/* Take the oldest record; ADS_ABSENT if there is none. */
static ADS_INLINE int ads_mpmc_pop(struct ads_arena *a, struct ads_ref ref, void *value)
{
	struct ads_mpmc_place at;
	__u32 i = ads_once();
	int rc = ads_may_change(a, ref.offset);

	if (rc)
		return rc;
	if (ads_bad(a, ref.offset, sizeof(struct ads_mpmc)))
		return ADS_DAMAGED;
	ads_mpmc_start(a, ref, ADS_MPMC_HEAD, &at);
	do {
		__u64 popped;
		__u32 entry;

		rc = ads_mpmc_seek(a, ref, ADS_MPMC_HEAD, &at);
		if (rc)
			break;
		entry = (__u32)at.word & ~ADS_MPMC_FLAGS;
		popped = ads_by_user() ? at.word | ADS_TOP_TAKEN : ads_mpmc_popped(at.word);
		rc = ADS_DAMAGED;
		if (ads_bad(a, entry, ads_mpmc_pool(ref).stride))
			break;
		rc = ADS_BUDGET;
		if (ads_mpmc_helped(a, at.slot, at.word))
			continue;
		if (ads_by_user())
			ads_hand_delete(a, ads_mpmc_pool(ref).offset, entry,
					ads_link_later(ads_load(ads_link_of(a, entry))));
		/* Commit. R41. The entry is ours now, with what the producer wrote. */
		if (ads_cas(ads_at(a, __u64, at.slot), at.word, popped) == at.word) {
			ads_mpmc_helped(a, at.slot, popped);
			ads_mpmc_passed(a, ref, ADS_MPMC_HEAD, &at);
			ads_copy_out(a, value, entry + 16, ref.value_size);
			ads_pool_give(a, ads_mpmc_pool(ref), entry);
			return ADS_OK;
		}
	} while (ads_again(i));
	ads_hand_clear(a);
	return rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
}

/* Records waiting: exact while nobody pushes or pops, about that many else. */
static ADS_INLINE __u64 ads_mpmc_len(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_mpmc_place head, tail;

	if (ads_bad(a, ref.offset, sizeof(struct ads_mpmc)))
		return 0;
	ads_mpmc_start(a, ref, ADS_MPMC_HEAD, &head);
	ads_mpmc_seek(a, ref, ADS_MPMC_HEAD, &head);
	ads_mpmc_start(a, ref, ADS_MPMC_TAIL, &tail);
	ads_mpmc_seek(a, ref, ADS_MPMC_TAIL, &tail);
	/* Tail was read later, so it is not behind head unless the memory is damaged; but what was
	 * pushed meanwhile may make it seem to be more than fit. */
	if ((__s64)(tail.position - head.position) < 0)
		return 0;
	if (tail.position - head.position > ads_at(a, struct ads_header, ref.offset)->max_entries)
		return ads_at(a, struct ads_header, ref.offset)->max_entries;
	return tail.position - head.position;
}

#if !ADS_BPF
/* Where a walk over what waits stands, and where it ends. Private to who reads. */
struct ads_mpmc_cursor {
	struct ads_mpmc_place at;
	__u64 end;
};

/* Begin to read all that waits and take nothing, also through a read-only mapping. ADS_ABSENT: nothing. */
static inline int ads_mpmc_walk(struct ads_arena *a, struct ads_ref ref, struct ads_mpmc_cursor *c)
{
	struct ads_mpmc_place tail;
	int rc;

	memset(c, 0, sizeof(*c));
	if (ads_bad(a, ref.offset, sizeof(struct ads_mpmc)))
		return ADS_DAMAGED;
	ads_mpmc_start(a, ref, ADS_MPMC_HEAD, &c->at);
	rc = ads_mpmc_seek(a, ref, ADS_MPMC_HEAD, &c->at);
	if (rc)
		return rc == ADS_ABSENT ? rc : ads_count(a, ref.offset, rc);
	ads_mpmc_start(a, ref, ADS_MPMC_TAIL, &tail);
	rc = ads_mpmc_seek(a, ref, ADS_MPMC_TAIL, &tail);
	if (rc && rc != ADS_FULL)
		return ads_count(a, ref.offset, rc);
	c->end = tail.position;
	return ADS_OK;
}

/*
 * Copy the next record of a walk; those that were popped since it began are left out. ADS_ABSENT:
 * the end.
 */
static inline int ads_mpmc_read(struct ads_arena *a, struct ads_ref ref, struct ads_mpmc_cursor *c, void *value)
{
	__u32 i;

	for (ads_loop(i)) {
		__u64 from = c->at.position;
		__u32 entry;
		int rc;

		if ((__s64)(c->end - from) <= 0)
			return ADS_ABSENT;
		rc = ads_mpmc_seek(a, ref, ADS_MPMC_HEAD, &c->at);
		if (rc == ADS_ABSENT || (__s64)(c->end - c->at.position) <= 0)
			return ADS_ABSENT;
		entry = (__u32)c->at.word & ~ADS_MPMC_FLAGS;
		if (!rc && ((__s64)(c->at.position - from) < 0 || ads_bad(a, entry, ads_mpmc_pool(ref).stride)))
			rc = ADS_DAMAGED;
		if (rc)
			return ads_count(a, ref.offset, rc);
		ads_copy_out(a, value, entry + 16, ref.value_size);
		ads_fence_acquire(); /* F41: the record before its slot again */
		if (ads_load(ads_at(a, __u64, c->at.slot)) == c->at.word) { /* it was there all the time */
			c->at.position++;
			return ADS_OK;
		}
	}
	return ads_count(a, ref.offset, ADS_BUDGET);
}

/* Finish what user space has begun at any slot. */
static inline void ads_mpmc_help(struct ads_arena *a, struct ads_ref ref)
{
	__u64 slots = ads_at(a, struct ads_header, ref.offset)->max_entries;
	__u64 i;

	if (ads_bad(a, ref.offset, sizeof(struct ads_mpmc) + 8 * slots))
		return;
	for (i = 0; i < slots; i++) {
		__u32 slot = (__u32)(ref.offset + sizeof(struct ads_mpmc) + 8 * i);

		ads_mpmc_helped(a, slot, ads_load_acquire(ads_at(a, __u64, slot))); /* A41 */
	}
}

/*
 * Whether a slot has this entry: 1 or 0. What user space has begun there is helped on first. A walk
 * over all slots, which finds an entry that is in one throughout.
 */
static inline int ads_mpmc_holds(struct ads_arena *a, struct ads_ref ref, __u32 entry)
{
	__u64 slots = ads_at(a, struct ads_header, ref.offset)->max_entries;
	__u64 i;

	if (!entry || ads_bad(a, ref.offset, sizeof(struct ads_mpmc) + 8 * slots))
		return 0;
	for (i = 0; i < slots; i++) {
		__u32 slot = (__u32)(ref.offset + sizeof(struct ads_mpmc) + 8 * i);
		__u64 word = ads_load_acquire(ads_at(a, __u64, slot)); /* A41 */

		if (((__u32)word & ~ADS_MPMC_FLAGS) != entry)
			continue;
		if (!((__u32)word & ADS_TOP_TAKEN))
			return 1;
		ads_mpmc_helped(a, slot, word);
	}
	return 0;
}
#endif

/* The pool of a structure of this kind. */
static ADS_INLINE struct ads_pool_ref ads_kind_pool(__u32 kind, struct ads_ref ref)
{
	return kind == ADS_KIND_MPMC ? ads_mpmc_pool(ref) : ads_pool_of(ref);
}

#endif /* ARENADS_MPMC_H */
