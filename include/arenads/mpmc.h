/* SPDX-License-Identifier: MIT */
/*
 * mpmc.h - a ring of fixed-size records for any number of producers and consumers, on both sides.
 *
 * Records live in entries of a pool (alloc.h). A slot is one word: which entry, in which lap, and
 * whether the record is in. The entry stays when its record is popped.
 *
 *	       head                tail		free-running 64-bit counts of records,
 *	        |                    |		at most a little behind the truth
 *	--+-----+-----+-----+-----+-----+-----+--
 *	  |L+1,d| L,e*| L,f*| L,g*| L,h | L,i |	position = lap * slots + index
 *	--+-----+--|--+-----+-----+-----+-----+--
 *	           +----> entry e: link, hash, record
 *
 *	slot {L, e}	waits for the record of lap L; 0 for e: it has no entry
 *	slot {L, e*}	has it, in entry e (ADS_MPMC_FULL)
 *	slot {L+1, e}	it was popped
 *
 *	operation	commit (one CAS)			death
 *	push, BPF	slot {L, e} -> {L, p*}			cannot die
 *	push, user	slot {L, e, CLAIMED} -> {L, e*}		see below
 *	pop		slot {L, e*} -> {L+1, e}		before: nothing. after: head is behind,
 *								the next one moves it
 *
 * A BPF program writes into an entry p that nobody else knows, and takes the slot's for the next
 * time: p is the spare entry of its CPU's shard, or if that is lent, one of the pool. A program that
 * is interrupted anywhere keeps nobody from anything.
 *
 * User space, which has no entry of its own, claims the slot and writes into that one's. A claimed
 * slot is one that waits: to consumers it is empty, and any producer may fill it with another
 * entry. Then the claimer finds its commit lost, and has the entry in hand. So a stopped or dead
 * process holds up nobody, no slot is ever skipped, and the order stays that in which records
 * went in. A consumer copies the record first: if its CAS succeeds the record was there all the time.
 *
 * What the dead had in hand, one entry each, a reaper gives back (reap.h). For that user space says
 * in the words themselves what it does (owner.h):
 *
 *	0 the hand says which entry
 *	1 slot {L, e} -> {L, e, CLAIMED}
 *	2 the hand and the entry's link say AIMED
 *	3 slot {L, e, CLAIMED} -> {L, e*, USER}		commit
 *	4 the entry's link AIMED -> LIVE		anybody may, and must before a pop
 *
 *	Who fills a claimed slot first changes the link LIVE -> TAKEN, if 2 has not happened yet.
 *
 * So an entry that is in no slot is a dead claimer's if its link is TAKEN or AIMED with the version
 * in the hand, and one in a claimed slot may be taken out of it if no living thread names it. In slots
 * that are not claimed a link is AIMED only before step 4, and never TAKEN; so a link that was read in
 * a claimed slot is another when that slot is claimed no more, and whoever comes late with step
 * 4 or with TAKEN finds its CAS lost.
 *
 * User space that finds a claimed slot, or one without an entry, which a reaper leaves behind, takes an entry
 * of the pool, writes there, and fills the slot as BPF programs do: its link is AIMED meanwhile.
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
 * Cost             push in BPF: 2 CAS (the shard's spare entry; slot), in user space 3 (slot twice; link);
 *                  pop: 1; every 8th time one more. The line of the tail or head (read), of the slot,
 *                  of the shard (BPF), those of the record. Two producers at one slot: some 5 more.
 * Memory runs out  never: all entries exist from the start, the slots', the shards', and
 *                  ADS_MPMC_HANDS (or so many as fit 64 KiB, at least 8) for pushes that meet.
 * Full             ADS_FULL, counted: no slot is free. Also if more pushes than there are entries for
 *                  hands meet at one moment, or have died there and are not reaped yet.
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

/* With the entry in a slot. Its record is in (with ADS_MPMC_USER: its link may still be AIMED), or a
 * thread is writing it. */
#define ADS_MPMC_FULL 1u
#define ADS_MPMC_USER 2u
#define ADS_MPMC_CLAIMED 4u
#define ADS_MPMC_FLAGS 31u
#define ADS_MPMC_LENT 1u /* for a CPU's spare entry, while a program has it */

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

/* The entry of a slot, 0: it has none. */
static ADS_INLINE __u32 ads_mpmc_entry(__u64 word)
{
	return (__u32)word & ~ADS_MPMC_FLAGS;
}

/* What a slot with this word becomes by a pop: the next lap's, and the entry stays. */
static ADS_INLINE __u64 ads_mpmc_popped(__u64 word)
{
	return ((word >> 32) + 1) << 32 | ads_mpmc_entry(word);
}

/* Whether the push of user space to a slot must be finished before anything else is done there. It
 * was, if so, or the slot has changed. */
static ADS_INLINE int ads_mpmc_helped(struct ads_arena *a, __u32 slot, __u64 word)
{
	__u32 entry = ads_mpmc_entry(word);
	__u64 __arena *link;
	__u64 is;

	if (ADS_LIKELY(!((__u32)word & ADS_MPMC_USER)) || ads_bad(a, entry, sizeof(struct ads_entry)))
		return 0;
	link = ads_link_of(a, entry);
	is = ads_load_acquire(link); /* A3, pairs with R3 */
	if (is & ADS_LINK_MARK || (__u32)is != ADS_MPMC_AIMED)
		return 0;
	/* If the slot is the same the entry was in it then, and the link is of this turn. */
	if (ads_load(ads_at(a, __u64, slot)) == word)
		ads_cas(link, is, ads_link_change(is, ADS_MPMC_LIVE)); /* R3 */
	return 1;
}

/*
 * Let the entry of a claimed slot be told from one that nobody has claimed, when it will be in the
 * slot no more: 1, or 0 if the slot or the link has changed. Its link is of the claimer's hand then.
 */
static ADS_INLINE int ads_mpmc_disown(struct ads_arena *a, __u32 slot, __u64 word)
{
	__u32 entry = ads_mpmc_entry(word);
	__u64 __arena *link;
	__u64 is;

	if (ads_bad(a, entry, sizeof(struct ads_entry)))
		return 0;
	link = ads_link_of(a, entry);
	is = ads_load_acquire(link); /* A3, pairs with R3 */
	if (ads_load(ads_at(a, __u64, slot)) != word)
		return 0;
	if (is & ADS_LINK_MARK || (__u32)is == ADS_MPMC_AIMED)
		return 1;
	/* While it is claimed the link changes: later this CAS fails. R3. */
	return ads_cas(link, is, ads_link_set_state(is, ADS_LINK_TAKEN)) == is;
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
		__u32 full;

		at->slot = slots + 8 * ((__u32)at->position & ((1u << bits) - 1));
		if (ads_bad(a, at->slot, 8))
			return ADS_DAMAGED;
		at->word = ads_load_acquire(ads_at(a, __u64, at->slot)); /* A41, pairs with R41 */
		full = (__u32)at->word & ADS_MPMC_FULL;
		ahead = (__s32)((__u32)(at->word >> 32) - (__u32)(at->position >> bits) -
				(end == ADS_MPMC_TAIL ? !full : 1));
		if (ahead == -1) {
			if (end == ADS_MPMC_TAIL)
				return full ? ADS_FULL : ADS_OK;
			return full ? ADS_OK : ADS_ABSENT;
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

/* What one who pushes has in hand. */
struct ads_mpmc_hand {
	__u32 entry;  /* with the record in it; 0: none */
	__u32 lender; /* offset of the shard whose spare entry it was, 0: it is from the pool */
	__u64 lent;   /* the word there */
};

/* Make an entry the spare one of this CPU's shard, if that has lost its own: 1, or 0. */
static ADS_INLINE int ads_mpmc_spared(struct ads_arena *a, struct ads_ref ref, __u32 entry)
{
	struct ads_pool_ref pool = ads_mpmc_pool(ref);
	__u32 shard = ads_this_shard();
	__u64 __arena *spare = &ads_shard_of(a, pool, shard)->spare;
	__u64 word = ads_load(spare);

	return !ads_by_user() && !(__u32)word && shard < ads_at(a, struct ads_pool, pool.offset)->own_spares &&
	       ads_cas(spare, word, ((word >> 32) + 1) << 32 | entry) == word; /* R43 */
}

/* Give up the entry in hand; or after a push of a BPF program, what was in the slot (0: nothing). */
static ADS_INLINE void ads_mpmc_let_go(struct ads_arena *a, struct ads_ref ref, const struct ads_mpmc_hand *hand,
				       __u32 entry)
{
	if (hand->lender)
		ads_store_release(&ads_at(a, struct ads_shard, hand->lender)->spare,
				  ((hand->lent >> 32) + 1) << 32 | entry); /* R43 */
	else if (entry && !ads_mpmc_spared(a, ref, entry))
		ads_pool_give(a, ads_mpmc_pool(ref), entry);
}

/* The spare entry of this CPU's shard, which a BPF program will give back; else one of the pool. */
static ADS_INLINE int ads_mpmc_take(struct ads_arena *a, struct ads_ref ref, struct ads_mpmc_hand *hand)
{
	struct ads_pool_ref pool = ads_mpmc_pool(ref);

	if (!ads_by_user()) {
		__u32 lender = ads_shard_place(pool, ads_this_shard());
		__u64 __arena *spare = &ads_at(a, struct ads_shard, lender)->spare;
		__u64 word = ads_load_acquire(spare); /* A43, pairs with R43 */

		if (ADS_LIKELY(ads_mpmc_entry(word)) && !ads_bad(a, ads_mpmc_entry(word), pool.stride) &&
		    ads_cas(spare, word, word >> 32 << 32 | ADS_MPMC_LENT) == word) { /* R43 */
			hand->entry = ads_mpmc_entry(word);
			hand->lender = lender;
			hand->lent = word;
			return ADS_OK;
		}
	}
	return ads_pool_take(a, pool, 0, &hand->entry);
}

/* Write the record into the entry in hand, which is about to be in a slot. */
static ADS_INLINE void ads_mpmc_write(struct ads_arena *a, struct ads_ref ref, __u32 entry, __u64 taken, const void *value)
{
	ads_hand_aim(a, entry, ads_link_later(taken));
	ads_store(ads_link_of(a, entry), ads_link_change(taken, ads_by_user() ? ADS_MPMC_AIMED : ADS_MPMC_LIVE));
	ads_copy_in(a, entry + 16, value, ref.value_size);
}

/*
 * Push of user space to a slot that has an entry: claim it, write there. 1, or 0: somebody was faster. Then
 * the entry with the record is in hand, if it was claimed.
 */
static ADS_INLINE int ads_mpmc_fill_slot(struct ads_arena *a, struct ads_ref ref, const struct ads_mpmc_place *at,
					 const void *value, struct ads_mpmc_hand *hand)
{
	__u64 __arena *slot = ads_at(a, __u64, at->slot);
	__u64 claimed = at->word | ADS_MPMC_CLAIMED, pushed = at->word | ADS_MPMC_FULL | ADS_MPMC_USER;
	__u32 entry = ads_mpmc_entry(at->word);
	__u64 taken = ads_link_set_state(ads_load(ads_link_of(a, entry)), ADS_LINK_TAKEN);

	ads_hand_take(a, ads_mpmc_pool(ref).offset, entry, ads_link_version(taken));
	/* R41. If the link was of another turn the slot is not the same. */
	if (ads_cas(slot, at->word, claimed) != at->word)
		return 0;
	/* The link may be the same still, or be `taken` already: who fills the slot in our place says so. */
	ads_mpmc_write(a, ref, entry, taken, value);
	/* Commit. R41: the record is written before. */
	if (ads_cas(slot, claimed, pushed) == claimed) {
		ads_mpmc_helped(a, at->slot, pushed);
		return 1;
	}
	hand->entry = entry;
	return 0;
}

/* Append a record; ADS_FULL if no slot is free. */
static ADS_INLINE int ads_mpmc_push(struct ads_arena *a, struct ads_ref ref, const void *value)
{
	struct ads_mpmc_hand hand = {0, 0, 0};
	struct ads_mpmc_place at;
	__u32 i = ads_once();
	int rc = ads_may_change(a, ref.offset);

	if (rc)
		return rc;
	if (ads_bad(a, ref.offset, sizeof(struct ads_mpmc)))
		return ADS_DAMAGED;
	ads_mpmc_start(a, ref, ADS_MPMC_TAIL, &at);
	do {
		__u64 pushed;
		__u32 entry;

		rc = ads_mpmc_seek(a, ref, ADS_MPMC_TAIL, &at);
		if (rc)
			break;
		entry = ads_mpmc_entry(at.word);
		rc = ADS_DAMAGED;
		if (entry && ads_bad(a, entry, ads_mpmc_pool(ref).stride))
			break;
		rc = ADS_BUDGET;
		if (ads_by_user() && entry && !((__u32)at.word & ADS_MPMC_CLAIMED)) {
			if (hand.entry) {
				ads_mpmc_let_go(a, ref, &hand, hand.entry);
				hand.entry = 0;
			}
			if (!ads_mpmc_fill_slot(a, ref, &at, value, &hand))
				continue;
			ads_mpmc_passed(a, ref, ADS_MPMC_TAIL, &at);
			ads_hand_clear(a);
			return ADS_OK;
		}
		if (!hand.entry) { /* now that there is room */
			rc = ads_mpmc_take(a, ref, &hand);
			if (rc)
				break;
			ads_mpmc_write(a, ref, hand.entry, ads_load(ads_link_of(a, hand.entry)), value);
			rc = ADS_BUDGET;
		}
		if (ADS_UNLIKELY((__u32)at.word & ADS_MPMC_CLAIMED)) {
			if (!ads_mpmc_disown(a, at.slot, at.word))
				continue;
			entry = 0;
		}
		pushed = at.word >> 32 << 32 | hand.entry | ADS_MPMC_FULL | (ads_by_user() ? ADS_MPMC_USER : 0);
		/* Commit. R41: the record is written before. If it fails, the line of the slots is ours
		 * now and the next free one is in it. */
		if (ads_cas(ads_at(a, __u64, at.slot), at.word, pushed) == at.word) {
			ads_mpmc_helped(a, at.slot, pushed);
			ads_mpmc_passed(a, ref, ADS_MPMC_TAIL, &at);
			ads_mpmc_let_go(a, ref, &hand, entry);
			ads_hand_clear(a);
			return ADS_OK;
		}
	} while (ads_again(i));
	if (hand.entry)
		ads_mpmc_let_go(a, ref, &hand, hand.entry);
	ads_hand_clear(a);
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
		__u32 entry;

		rc = ads_mpmc_seek(a, ref, ADS_MPMC_HEAD, &at);
		if (rc)
			break;
		entry = ads_mpmc_entry(at.word);
		rc = ADS_DAMAGED;
		if (ads_bad(a, entry, ads_mpmc_pool(ref).stride))
			break;
		rc = ADS_BUDGET;
		if (ads_mpmc_helped(a, at.slot, at.word))
			continue;
		ads_copy_out(a, value, entry + 16, ref.value_size);
		/* Commit. R41: the record is copied before. If it succeeds it was there all the time. */
		if (ads_cas(ads_at(a, __u64, at.slot), at.word, ads_mpmc_popped(at.word)) == at.word) {
			ads_mpmc_passed(a, ref, ADS_MPMC_HEAD, &at);
			return ADS_OK;
		}
	} while (ads_again(i));
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
		entry = ads_mpmc_entry(c->at.word);
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

/* Where an entry is: in no slot, in one, or in one that is claimed. */
enum ads_mpmc_where { ADS_MPMC_NOWHERE, ADS_MPMC_THERE, ADS_MPMC_BEING_WRITTEN };

/* Take its entry out of a slot whose claimer has died. It is that one's, as if it was lost to another. */
static inline void ads_mpmc_revoke(struct ads_arena *a, __u32 slot, __u64 word)
{
	if (ads_mpmc_disown(a, slot, word))
		ads_cas(ads_at(a, __u64, slot), word, word >> 32 << 32); /* R41 */
}

/* While nobody writes: finish the pushes of the dead that have happened, undo the others. */
static inline void ads_mpmc_help(struct ads_arena *a, struct ads_ref ref)
{
	__u64 slots = ads_at(a, struct ads_header, ref.offset)->max_entries;
	__u64 i;

	if (ads_bad(a, ref.offset, sizeof(struct ads_mpmc) + 8 * slots))
		return;
	for (i = 0; i < slots; i++) {
		__u32 slot = (__u32)(ref.offset + sizeof(struct ads_mpmc) + 8 * i);
		__u64 word = ads_load_acquire(ads_at(a, __u64, slot)); /* A41 */

		if ((__u32)word & ADS_MPMC_CLAIMED)
			ads_mpmc_revoke(a, slot, word);
		else
			ads_mpmc_helped(a, slot, word);
	}
}

/*
 * Where an entry is, by a walk over all slots, which finds it if it is in one throughout; `slot` and `word`
 * become the slot's.
 */
static inline enum ads_mpmc_where ads_mpmc_find(struct ads_arena *a, struct ads_ref ref, __u32 entry, __u32 *slot,
						__u64 *word)
{
	__u64 slots = ads_at(a, struct ads_header, ref.offset)->max_entries;
	__u64 i;

	if (!entry || ads_bad(a, ref.offset, sizeof(struct ads_mpmc) + 8 * slots))
		return ADS_MPMC_NOWHERE;
	for (i = 0; i < slots; i++) {
		*slot = (__u32)(ref.offset + sizeof(struct ads_mpmc) + 8 * i);
		*word = ads_load_acquire(ads_at(a, __u64, *slot)); /* A41 */
		if (ads_mpmc_entry(*word) == entry)
			return (__u32)*word & ADS_MPMC_CLAIMED ? ADS_MPMC_BEING_WRITTEN : ADS_MPMC_THERE;
	}
	return ADS_MPMC_NOWHERE;
}
#endif

/* The pool of a structure of this kind. */
static ADS_INLINE struct ads_pool_ref ads_kind_pool(__u32 kind, struct ads_ref ref)
{
	return kind == ADS_KIND_MPMC ? ads_mpmc_pool(ref) : ads_pool_of(ref);
}

#endif /* ARENADS_MPMC_H */
