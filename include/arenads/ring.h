/* SPDX-License-Identifier: MIT */
/*
 * ring.h - a ring of records of any size, for one producer and one consumer, on either side.
 *
 *	      head (taken)            tail (published)   committed
 *	        |                       |                  |
 *	---+----+--------+-----+---+----+-------+----------+-----+---------------+---
 *	   |    | r      | r   | r      | r     | r        |     |    padding    |
 *	---+----+--------+-----+---+----+-------+----------+-----+---------------+---
 *	          consumer's              producer's, to come                    ^ wrap
 *
 * Positions are free-running 64-bit counts of bytes, the place is the position modulo the
 * ring's size. Each record has a word in front of it and is rounded up to 8 bytes:
 *
 *	 63        32  31  30        0
 *	+------------+---+------------+-----------
 *	|  position  |pad|   bytes    | payload        bytes: with this word; so it is never 0
 *	+------------+---+------------+-----------
 *
 * The word says at which position it was written, its low half. So one comparison tells that
 * the word is that of this record, of a length that can be, and no padding; and memory that
 * was never written, or written a lap ago, passes for no record. What does not fit before the
 * wrap goes behind it, with padding before: a record is contiguous, so it can be filled and
 * read in place. With its word it takes at most half of the ring, so that an empty ring has
 * room for it wherever its positions are.
 *
 * The producer's own words, what it publishes, and what the consumer writes stand on three
 * pairs of lines (processors fetch pairs). A consumer that waits reads the line of `tail` all the
 * time; if `committed` were on it, each push would begin with a miss. Each side keeps the last
 * position that it saw of the other, and looks again when that is used up.
 *
 *	operation	cost beyond the record's lines	commit
 *	reserve		own line; head when it seems full	none
 *	commit		own line				store of committed: the record is
 *								whole, nobody sees it yet
 *	publish		own line, tail's			store of tail: all that is committed
 *	push, submit	own line, tail's			the same
 *	discard		nothing					none
 *	pop		own line, tail when it seems empty	store of head
 *	peek, next	own line, tail's once a batch		none
 *	release		own line				store of head: the whole batch
 *	read, waiting	head's, tail's; changes nothing		none
 *
 * No atomics, unless it overwrites: then 1 CAS a record dropped, and 1 a pop. All of them take
 * the header's line too, which does not change.
 *
 * Overwriting (ADS_OVERWRITE): a full ring drops its oldest records for the next. Then head
 * moves by CAS, whoever moves it, and a record is taken by who moved head past it:
 *
 *	producer, ring full                     consumer
 *	1 reads head = H, the oldest's length   1 reads head = H, copies the record at H
 *	2 CAS head H -> behind it: the drop     2 CAS head H -> behind it: the pop
 *	3 writes there                          3 it succeeded: no drop came before, so what
 *	                                          step 1 copied was not written over
 *
 * A CAS is a full barrier: the writing of 3 is not seen before the drop, nor the copying of 1
 * done after the pop. A consumer that is stopped or dead holds nothing up, one that is slow
 * finds that the oldest record is another. The low 3 bits of head, free otherwise, count the
 * drops modulo 8: the CAS that drops also counts, and a producer that was killed before it wrote
 * down the number in the counters leaves one that the next makes good. Reading in place is
 * refused: what is read could be written over. A reader that takes nothing (read) copies and then
 * looks whether head has passed.
 *
 * A reservation is in the producer's own memory, a draft, and not in the ring: nothing of it is
 * left when the producer dies, and a compiler keeps it in registers. It counts as long as `committed`
 * is where it was: a push or another commit makes it void.
 *
 * Who may call     one producer and one consumer at a time, each a BPF program or a user thread,
 *                  sleepable or not; any number that read. "One program" is not one producer:
 *                  an instance can nest in another on the same CPU and run on many CPUs:
 *                  rings.h is for those.
 * Death            of a producer before it publishes: nothing can be seen. What it had committed is
 *                  published with what the next one pushes. Of a consumer before the commit:
 *                  the record, or the batch, is read again. Nothing leaks: there are no entries.
 * Memory runs out  never: all bytes exist from the start. Full: ADS_FULL, counted, or a drop,
 *                  counted. A batch larger than an overwriting ring is published early.
 * Budget runs out  ADS_BUDGET, counted, nothing changed: overwriting only, if a record is always
 *                  dropped before it is copied.
 * Limits           64 bytes to 2 GiB (a power of two), a record half of that less 8 bytes.
 */
#ifndef ARENADS_RING_H
#define ARENADS_RING_H

#include "list.h"

#define ADS_RING_LEAST 64u
#define ADS_RING_PAD (1ull << 31)
#define ADS_RING_DROPS 7ull /* bits of an overwriting ring's head that count drops */

/* A record that was reserved and is not committed. Private to who produces. */
struct ads_ring_draft {
	__u64 ticket; /* what was committed, plus 1; 0: nothing is reserved */
	__u64 at;     /* the record's position: there, or behind padding */
	__u64 size;   /* of the ring */
	__u32 bytes;  /* of the record, with its word */
	__u32 pad;
};

/* Records from `at` to `end`. Private to who reads them. */
struct ads_ring_cursor {
	__u64 at, end;
	__u64 size; /* of the ring */
};

#define ADS_RING_AT(ref, member) ((ref).offset + (__u32)__builtin_offsetof(struct ads_ring, member))
#define ads_ring_of(arena, ref) ads_at(arena, struct ads_ring, (ref).offset)

/* Bytes of the ring, a power of two; 0: the header is damaged. BPF has nothing to lose. */
static ADS_INLINE __u64 ads_ring_size(struct ads_arena *a, struct ads_ref ref)
{
	__u64 size;

	if (ads_bad(a, ref.offset, sizeof(struct ads_ring)))
		return 0;
	size = ads_ring_of(a, ref)->header.max_entries;
#if !ADS_BPF
	if (size < ADS_RING_LEAST || size & (size - 1) || ads_bad(a, ref.offset, sizeof(struct ads_ring) + size))
		return 0;
#endif
	return size;
}

/* Whether a size or another thing is 0 that no ring has; BPF does not ask. */
#if ADS_BPF
#define ads_ring_is_bad(thing) ((void)(thing), 0)
#else
#define ads_ring_is_bad(thing) (!(thing))
#endif

static ADS_INLINE __u32 ads_ring_place(struct ads_ref ref, __u64 at, __u64 size)
{
	return ref.offset + (__u32)sizeof(struct ads_ring) + (__u32)(at & (size - 1));
}

#define ads_ring_word(arena, ref, at, size) ads_at(arena, __u64, ads_ring_place(ref, at, size))

/* The longest record of a ring. */
static ADS_INLINE __u64 ads_ring_most(__u64 size)
{
	return size / 2 - 8;
}

static ADS_INLINE __u64 ads_ring_step(__u64 bytes)
{
	return (bytes + 7) & ~7ull;
}

/* The position in the word `head`. */
static ADS_INLINE __u64 ads_ring_head(struct ads_ref ref, __u64 word)
{
	return ref.flags & ADS_OVERWRITE ? word & ~ADS_RING_DROPS : word;
}

static ADS_INLINE int ads_ring_damaged(struct ads_arena *a, struct ads_ref ref, __u32 place)
{
#if !ADS_BPF
	a->damaged_at = place;
#else
	(void)place;
#endif
	return ads_count(a, ref.offset, ADS_DAMAGED);
}

/* The bytes of the record at a position, with its word, if that is one: of `waiting` bytes at the
 * most, and not across the wrap. Else 0. Aligned positions only. */
static ADS_INLINE __u64 ads_ring_look(struct ads_arena *a, struct ads_ref ref, __u64 at, __u64 size, __u64 waiting)
{
	__u64 bytes = ads_load(ads_ring_word(a, ref, at, size)) ^ at << 32;

#if !ADS_BPF
	if (bytes > size - (at & (size - 1)))
		return 0;
#endif
	return bytes - 8 <= waiting - 8 ? bytes : 0;
}

/* The bytes of the padding at a position, which ends at the wrap and before what waits does. Else 0. */
static ADS_INLINE __u64 ads_ring_padding(struct ads_arena *a, struct ads_ref ref, __u64 at, __u64 size, __u64 waiting)
{
	__u64 left = size - (at & (size - 1));

	if (left >= waiting)
		return 0;
	return ads_load(ads_ring_word(a, ref, at, size)) == (at << 32 | ADS_RING_PAD | left) ? left : 0;
}

/* --- produce --------------------------------------------------------------------------------- */

/* Drop the oldest of `waiting` bytes, a record or padding; *word is head as it was. ADS_OK also if
 * the consumer was faster. */
static ADS_INLINE int ads_ring_drop(struct ads_arena *a, struct ads_ref ref, __u64 word, __u64 size, __u64 waiting)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	__u64 head = word & ~ADS_RING_DROPS, drops = word & ADS_RING_DROPS;
	__u64 bytes = ads_ring_look(a, ref, head, size, waiting);
	__u64 counted = ads_load(&ring->counters.dropped);

	if (!bytes) {
		bytes = ads_ring_padding(a, ref, head, size, waiting);
		if (!bytes)
			return ads_ring_damaged(a, ref, ads_ring_place(ref, head, size));
		ads_cas(&ring->head, word, (head + bytes) | drops); /* R32 */
		return ADS_OK;
	}
	drops = (drops + 1) & ADS_RING_DROPS;
	/* Commit of a drop. R32: what is written there comes after. */
	if (ads_cas(&ring->head, word, (head + ads_ring_step(bytes)) | drops) == word)
		/* By 1, or by 2 after a producer that died here. */
		ads_store(&ring->counters.dropped, counted + ((drops - counted) & ADS_RING_DROPS));
	return ADS_OK;
}

/* Look where head is, and make room up to the position `end`. */
ADS_GLOBAL int ads_ring_make_room(struct ads_arena *a, __u32 offset, __u32 flags, __u64 end)
{
	struct ads_ref ref = {offset, 0, 0, flags};
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	__u64 committed = ads_load(&ring->committed);
	__u64 size = ads_ring_size(a, ref);
	__u32 i;

	for (ads_loop(i)) {
		__u64 word = ads_load_acquire(&ring->head); /* A32, pairs with R32: what was there is read */
		__u64 head = ads_ring_head(ref, word);
		int rc;

		if (head & 7 || committed - head > size)
			return ads_ring_damaged(a, ref, ADS_RING_AT(ref, head));
		ads_store(&ring->head_seen, head);
		if (end - head <= size)
			return ADS_OK;
		if (!(flags & ADS_OVERWRITE))
			return ads_count(a, offset, ADS_FULL);
		if (ads_load(&ring->tail) == head) /* all that is left waits for its publication */
			ads_store_release(&ring->tail, committed); /* R31 */
		rc = ads_ring_drop(a, ref, word, size, committed - head);
		if (rc)
			return rc;
	}
	return ads_count(a, offset, ADS_BUDGET);
}

/* Place a record behind what is committed, and behind padding if need be. Where it ends. */
static ADS_INLINE __u64 ads_ring_lay_out(struct ads_arena *a, struct ads_ref ref, struct ads_ring_draft *draft)
{
	__u64 committed = ads_load(&ads_ring_of(a, ref)->committed);
	__u64 need = ads_ring_step(draft->bytes);
	__u64 left = draft->size - (committed & (draft->size - 1));

	draft->ticket = committed + 1;
	draft->at = ADS_LIKELY(need <= left) ? committed : committed + left;
	return draft->at + need;
}

/* Find room for a record of `length` bytes. */
static ADS_INLINE int ads_ring_find_room(struct ads_arena *a, struct ads_ref ref, __u32 length,
					 struct ads_ring_draft *draft)
{
	int rc = ads_may_change(a, ref.offset);
	__u64 end;

	draft->ticket = 0;
	draft->size = ads_ring_size(a, ref);
	draft->bytes = length + 8;
	if (rc)
		return rc;
	if (ads_ring_is_bad(draft->size))
		return ads_ring_damaged(a, ref, ref.offset);
	if (length > ads_ring_most(draft->size))
		return ADS_TOO_LONG;
	end = ads_ring_lay_out(a, ref, draft);
	if (ads_ring_is_bad(!((draft->at | (draft->ticket - 1)) & 7)))
		rc = ads_ring_damaged(a, ref, ADS_RING_AT(ref, committed));
	else if (ADS_UNLIKELY(end - ads_load(&ads_ring_of(a, ref)->head_seen) > draft->size))
		rc = ads_ring_make_room(a, ref.offset, ref.flags, end);
	else
		return ADS_OK;
	if (rc) {
		draft->ticket = 0;
		return rc;
	}
#if ADS_BPF
	/* Once more, so that no register need be kept over the call. */
	draft->size = ads_ring_size(a, ref);
	ads_ring_lay_out(a, ref, draft);
#endif
	return ADS_OK;
}

/* Commit a record that is written but for its word, and for the padding before it. Its end. */
static ADS_INLINE __u64 ads_ring_finish(struct ads_arena *a, struct ads_ref ref, const struct ads_ring_draft *draft)
{
	__u64 from = draft->ticket - 1, at = draft->at, end = at + ads_ring_step(draft->bytes);

	if (ADS_UNLIKELY(at != from))
		ads_store(ads_ring_word(a, ref, from, draft->size), from << 32 | ADS_RING_PAD | (at - from));
	ads_store(ads_ring_word(a, ref, at, draft->size), at << 32 | draft->bytes);
	ads_store(&ads_ring_of(a, ref)->committed, end);
	return end;
}

#if ADS_BPF
/* The same for a length that is known at run time only: then what can be is too much for the
 * verifier to follow it again and again in a loop. */
ADS_GLOBAL int ads_ring_find_any_room(struct ads_arena *a, __u32 offset, __u32 flags, __u32 length,
				      struct ads_ring_draft *draft)
{
	struct ads_ref ref = {offset, 0, 0, flags};

	return draft ? ads_ring_find_room(a, ref, length, draft) : ADS_INVALID;
}
#endif

/*
 * Room for a record of `length` bytes, at *place: fill it, then ads_ring_commit(draft). Nothing
 * is changed but for records that an overwriting ring drops. ADS_FULL, ADS_TOO_LONG.
 */
static ADS_INLINE int ads_ring_reserve(struct ads_arena *a, struct ads_ref ref, __u32 length,
				       struct ads_ring_draft *draft, __u32 *place)
{
	int rc;

#if ADS_BPF
	if (!__builtin_constant_p(length))
		rc = ads_ring_find_any_room(a, ref.offset, ref.flags, length, draft);
	else
#endif
		rc = ads_ring_find_room(a, ref, length, draft);
	if (!rc)
		*place = ads_ring_place(ref, draft->at, draft->size) + 8;
	return rc;
}

/*
 * The reserved record is whole. Nobody sees it before ads_ring_publish(). ADS_NOT_RESERVED: the
 * draft is none, or something was committed since.
 */
static ADS_INLINE int ads_ring_commit(struct ads_arena *a, struct ads_ref ref, struct ads_ring_draft *draft)
{
	/* The first is for damaged memory: no position is followed by 0. */
	if (ads_ring_is_bad(draft->ticket) || draft->ticket != ads_load(&ads_ring_of(a, ref)->committed) + 1)
		return ADS_NOT_RESERVED;
	ads_ring_finish(a, ref, draft); /* Commit of a commit. */
	return ADS_OK;
}

/* Commit and publish: ads_ring_commit() and ads_ring_publish(). */
static ADS_INLINE int ads_ring_submit(struct ads_arena *a, struct ads_ref ref, struct ads_ring_draft *draft)
{
	/* The first is for damaged memory: no position is followed by 0. */
	if (ads_ring_is_bad(draft->ticket) || draft->ticket != ads_load(&ads_ring_of(a, ref)->committed) + 1)
		return ADS_NOT_RESERVED;
	ads_store_release(&ads_ring_of(a, ref)->tail, ads_ring_finish(a, ref, draft)); /* R31. Commit. */
	return ADS_OK;
}

/* Give a reservation up. */
static ADS_INLINE void ads_ring_discard(struct ads_ring_draft *draft)
{
	draft->ticket = 0;
}

/* Let the consumer see all that is committed. */
static ADS_INLINE int ads_ring_publish(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	int rc = ads_may_change(a, ref.offset);

	if (rc)
		return rc;
	if (ads_bad(a, ref.offset, sizeof(struct ads_ring)))
		return ADS_DAMAGED;
	ads_store_release(&ring->tail, ads_load(&ring->committed)); /* R31. Commit. */
	return ADS_OK;
}

/* Commit a copy of `length` bytes, which becomes visible with the next push or publish, or with
 * `publish` at once. Constants in BPF. */
static ADS_INLINE int ads_ring_append(struct ads_arena *a, struct ads_ref ref, const void *data, __u32 length,
				      int publish)
{
	struct ads_ring_draft draft;
	__u64 end;
	int rc = ads_ring_find_room(a, ref, length, &draft);

	if (rc)
		return rc;
	ads_copy_in(a, ads_ring_place(ref, draft.at, draft.size) + 8, data, length);
	end = ads_ring_finish(a, ref, &draft);
	if (publish)
		ads_store_release(&ads_ring_of(a, ref)->tail, end); /* R31. Commit. */
	return ADS_OK;
}

/* Append a record and let it be seen, with all that was committed before. ADS_FULL, ADS_TOO_LONG. */
static ADS_INLINE int ads_ring_push(struct ads_arena *a, struct ads_ref ref, const void *data, __u32 length)
{
	return ads_ring_append(a, ref, data, length, 1);
}

/* --- consume --------------------------------------------------------------------------------- */

/*
 * What waits, in c: from head, which is *word, to the tail; unless `all`, to one that is known, if
 * there is. ADS_ABSENT: nothing. ADS_DAMAGED may also say that an overwriting ring's head has
 * gone on meanwhile.
 */
static ADS_INLINE int ads_ring_waits(struct ads_arena *a, struct ads_ref ref, int all, __u64 *word,
				     struct ads_ring_cursor *c)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);

	*word = ads_load_acquire(&ring->head); /* A32, pairs with R32: then no tail is behind it */
	c->at = ads_ring_head(ref, *word);
	c->end = ads_load_acquire(&ring->tail_seen); /* A33, pairs with R33 of a consumer before us */
	if (all || ADS_UNLIKELY(c->end - c->at - 1 >= c->size)) {
		c->end = ads_load_acquire(&ring->tail); /* A31, pairs with R31: the records are whole */
		if (c->end == c->at)
			return ADS_ABSENT;
		if (c->end - c->at > c->size)
			return ADS_DAMAGED;
		if (!all)
			ads_store_release(&ring->tail_seen, c->end); /* R33 */
	}
	return ads_ring_is_bad(!((c->at | c->end) & 7)) ? ADS_DAMAGED : ADS_OK;
}

/* The record at the cursor, or behind padding there, which then is behind the cursor. */
static ADS_INLINE int ads_ring_find(struct ads_arena *a, struct ads_ref ref, struct ads_ring_cursor *c, __u32 *place,
				    __u32 *length)
{
	__u64 at = c->at, waiting = c->end - at;
	__u64 bytes;

	if (!waiting)
		return ADS_ABSENT;
	bytes = ads_ring_look(a, ref, at, c->size, waiting);
	if (ADS_UNLIKELY(!bytes)) {
		__u64 left = ads_ring_padding(a, ref, at, c->size, waiting);

		at += left;
		bytes = left ? ads_ring_look(a, ref, at, c->size, waiting - left) : 0;
		if (!bytes)
			return ADS_DAMAGED;
	}
	*place = ads_ring_place(ref, at, c->size) + 8;
	*length = (__u32)bytes - 8;
	c->at = at + ads_ring_step(bytes);
	return ADS_OK;
}

/* Copy a record to `room` bytes, of which it needs `length`. */
static ADS_INLINE int ads_ring_copy_out(struct ads_arena *a, void *to, __u32 place, __u32 length, __u32 room)
{
#if ADS_BPF
	/* The room is a constant, and in many rings all records are as long: then there is no loop. */
	if (ADS_LIKELY(length == room)) {
		ads_copy_out(a, to, place, room);
	} else {
		const __u64 __arena *words = ads_words_at(a, place);
		__u32 i;

		for (ads_each(i, ADS_WORDS(length))) {
			__asm__ volatile("" : "+r"(i)); /* else the compiler sees that length bounds it */
			if (i >= room / 8)
				break;
			ads_put_word((char *)to + 8 * i, 0, 8, ads_load(words + i));
		}
		if (i < ADS_WORDS(length) && i < room / 8)
			return ADS_BUDGET;
		if (room % 8 && i < ADS_WORDS(length))
			ads_put_word(to, room / 8, room, ads_load(words + room / 8));
	}
#else
	/* The room is a constant in many callers, and what it is for: then there is no loop. */
	if (ADS_LIKELY(length == room))
		ads_copy_out(a, to, place, room);
	else
		ads_copy_out(a, to, place, length);
#endif
	return ADS_OK;
}

/* Take the oldest record of an overwriting ring, unless it is dropped meanwhile: then the next. */
static ADS_INLINE int ads_ring_take(struct ads_arena *a, struct ads_ref ref, struct ads_ring_cursor c, void *to,
				    __u32 room, __u32 *length)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	__u32 place, i;

	for (ads_loop(i)) {
		__u64 word;
		int rc = ads_ring_waits(a, ref, 0, &word, &c);

		if (rc == ADS_ABSENT)
			return rc;
		if (!rc)
			rc = ads_ring_find(a, ref, &c, &place, length);
		if (!rc)
			rc = *length > room ? ADS_TOO_LONG : ads_ring_copy_out(a, to, place, *length, room);
		if (rc) {
			ads_fence_acquire(); /* F32: the record before the head again */
			if (ads_load(&ring->head) != word)
				continue; /* that was read while it was written over */
			return rc == ADS_DAMAGED ? ads_ring_damaged(a, ref, ADS_RING_AT(ref, head)) : rc;
		}
		if (ads_cas(&ring->head, word, c.at | (word & ADS_RING_DROPS)) == word) /* R32. Commit. */
			return ADS_OK;
	}
	return ads_count(a, ref.offset, ADS_BUDGET);
}

/*
 * Take the oldest record: a copy, and how long it is. ADS_ABSENT: nothing waits. ADS_TOO_LONG:
 * it needs more than `room` bytes, *length tells how many; it stays.
 */
static ADS_INLINE int ads_ring_pop(struct ads_arena *a, struct ads_ref ref, void *to, __u32 room, __u32 *length)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	struct ads_ring_cursor c = {0, 0, ads_ring_size(a, ref)};
	int rc = ads_may_change(a, ref.offset);
	__u64 word;
	__u32 place;

	if (rc)
		return rc;
	if (ads_ring_is_bad(c.size))
		return ads_ring_damaged(a, ref, ref.offset);
	if (ref.flags & ADS_OVERWRITE)
		return ads_ring_take(a, ref, c, to, room, length);
	rc = ads_ring_waits(a, ref, 0, &word, &c);
	if (rc == ADS_ABSENT)
		return rc;
	if (!rc)
		rc = ads_ring_find(a, ref, &c, &place, length);
	if (rc)
		return ads_ring_damaged(a, ref, ADS_RING_AT(ref, head));
	if (*length > room)
		return ADS_TOO_LONG;
	rc = ads_ring_copy_out(a, to, place, *length, room);
	if (rc)
		return ads_count(a, ref.offset, rc);
	ads_store_release(&ring->head, c.at); /* R32. Commit. */
	return ADS_OK;
}

/* Begin a batch: all records that wait, to be read in place. ADS_INVALID: the ring is overwriting. */
static ADS_INLINE int ads_ring_peek(struct ads_arena *a, struct ads_ref ref, struct ads_ring_cursor *c)
{
	__u64 word;
	int rc;

	c->at = c->end = 0;
	c->size = ads_ring_size(a, ref);
	if (ref.flags & ADS_OVERWRITE)
		return ADS_INVALID;
	if (ads_ring_is_bad(c->size))
		return ads_ring_damaged(a, ref, ref.offset);
	rc = ads_ring_waits(a, ref, 1, &word, c);
	if (rc == ADS_DAMAGED) {
		c->at = c->end = 0;
		return ads_ring_damaged(a, ref, ADS_RING_AT(ref, head));
	}
	return rc;
}

/* The next record of a batch: it is at *place until it is released. ADS_ABSENT: that was all. */
static ADS_INLINE int ads_ring_next(struct ads_arena *a, struct ads_ref ref, struct ads_ring_cursor *c, __u32 *place,
				    __u32 *length)
{
	int rc = ads_ring_find(a, ref, c, place, length);

	return rc == ADS_DAMAGED ? ads_ring_damaged(a, ref, ads_ring_place(ref, c->at, c->size)) : rc;
}

/* Give up what ads_ring_next() has returned so far. ADS_INVALID: it was taken meanwhile, or is
 * no batch of this ring. */
static ADS_INLINE int ads_ring_release(struct ads_arena *a, struct ads_ref ref, const struct ads_ring_cursor *c)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	int rc = ads_may_change(a, ref.offset);
	__u64 head;

	if (rc)
		return rc;
	if (ref.flags & ADS_OVERWRITE || !c->size)
		return ADS_INVALID;
	head = ads_load(&ring->head);
	if (c->end - head > c->size || c->at - head > c->end - head)
		return ADS_INVALID;
	ads_store_release(&ring->head, c->at); /* R32. Commit. */
	return ADS_OK;
}

/* --- read without taking --------------------------------------------------------------------- */

/* Begin to read all that waits, in either mode, also through a read-only mapping. ADS_ABSENT: nothing. */
static ADS_INLINE int ads_ring_walk(struct ads_arena *a, struct ads_ref ref, struct ads_ring_cursor *c)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	__u64 size = ads_ring_size(a, ref);
	__u32 i;

	c->at = c->end = 0;
	c->size = size;
	if (ads_ring_is_bad(size))
		return ads_ring_damaged(a, ref, ref.offset);
	for (ads_loop(i)) {
		__u64 word = ads_load_acquire(&ring->head); /* A32: then no tail is behind it */
		__u64 head = ads_ring_head(ref, word);
		__u64 tail = ads_load_acquire(&ring->tail); /* A31 */

		if (tail - head > size && ads_load(&ring->head) != word)
			continue; /* the head has gone on between the two */
		if (tail - head > size || (head | tail) & 7)
			return ads_ring_damaged(a, ref, ADS_RING_AT(ref, head));
		c->at = head;
		c->end = tail;
		return head == tail ? ADS_ABSENT : ADS_OK;
	}
	return ads_count(a, ref.offset, ADS_BUDGET);
}

/*
 * Copy the next record, of up to `room` bytes; with `to` NULL only its length. Of what was taken
 * or dropped since the walk began, nothing is returned that may have been written over.
 * ADS_ABSENT: the end. ADS_TOO_LONG: *length says what it needs, and it is next again.
 */
static ADS_INLINE int ads_ring_read(struct ads_arena *a, struct ads_ref ref, struct ads_ring_cursor *c, void *to,
				    __u32 room, __u32 *length)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	__u32 place, i;

	for (ads_loop(i)) {
		struct ads_ring_cursor next = *c;
		__u64 head;
		int rc = ads_ring_find(a, ref, &next, &place, length);

		if (rc == ADS_ABSENT)
			return rc;
		if (!rc && to)
			rc = *length > room ? ADS_TOO_LONG : ads_ring_copy_out(a, to, place, *length, room);
		ads_fence_acquire(); /* F32: the record before the head again */
		head = ads_ring_head(ref, ads_load(&ring->head));
		/* What head has not passed was not written over. */
		if (head - c->at - 1 < 1ull << 62 && (rc || head - c->at >= next.at - c->at)) {
			/* Go on with what is oldest now, if the walk gets as far. */
			c->at = c->end - c->at < head - c->at ? c->end : head;
			continue;
		}
		if (rc == ADS_DAMAGED)
			return ads_ring_damaged(a, ref, ads_ring_place(ref, c->at, c->size));
		if (!rc)
			*c = next;
		return rc;
	}
	return ads_count(a, ref.offset, ADS_BUDGET);
}

/* --- books ----------------------------------------------------------------------------------- */

/* Bytes that wait, with their words and padding; while others work on it, about that many. */
static ADS_INLINE __u64 ads_ring_waiting(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_ring __arena *ring = ads_ring_of(a, ref);
	__u64 head = ads_ring_head(ref, ads_load_acquire(&ring->head)); /* A32, pairs with R32 */

	(void)a;
	return ads_load(&ring->tail) - head;
}

#if !ADS_BPF

/* Records dropped: what the counter says, and one more if a producer died before it counted. */
static inline __u64 ads_ring_dropped(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_ring *ring = ads_ring_of(a, ref);
	__u64 counted = 0;
	__u32 i;

	for (ads_each(i, 64)) {
		__u64 word = ads_load_acquire(&ring->head); /* A32, pairs with R32 */

		counted = ads_load(&ring->counters.dropped);
		ads_fence_acquire(); /* F32: the count before the head again */
		if (!(ref.flags & ADS_OVERWRITE))
			break;
		if (ads_load(&ring->head) == word)
			return counted + ((word - counted) & ADS_RING_DROPS);
	}
	return counted; /* as good as any number of a ring that drops so fast */
}

/*
 * Look at all that waits: 0, with the number of records in *records, or the offset of what
 * cannot be. On a ring that others work on too.
 */
static inline __u32 ads_ring_check(struct ads_arena *a, struct ads_ref ref, __u64 *records)
{
	struct ads_ring *ring = ads_ring_of(a, ref);
	__u64 size = ads_ring_size(a, ref);
	struct ads_ring_cursor c;
	__u32 length, i;
	int rc;

	*records = 0;
	if (!size)
		return ref.offset;
	for (ads_loop(i)) {
		/* In this order none is behind the one before. */
		__u64 word = ads_load_acquire(&ring->head); /* A32, pairs with R32 */
		__u64 tail = ads_load_acquire(&ring->tail); /* A31, pairs with R31 */
		__u64 committed = ads_load(&ring->committed);
		__u64 head = ads_ring_head(ref, word);

		ads_fence_acquire(); /* F32: all three before the head again */
		if (!((head | tail | committed) & 7) && tail - head <= size && committed - tail <= committed - head &&
		    committed - head <= size)
			break;
		if (ads_load(&ring->head) == word)
			return ADS_RING_AT(ref, head);
	}
	rc = ads_ring_walk(a, ref, &c);
	while (!rc && !(rc = ads_ring_read(a, ref, &c, 0, 0, &length)))
		++*records;
	return rc == ADS_DAMAGED ? (__u32)a->damaged_at : 0;
}

/* What the header of a ring claims, compared with its block. */
static inline int ads_ring_believe(struct ads_arena *a, struct ads_ref ref)
{
	const struct ads_header *h = &ads_ring_of(a, ref)->header;
	__u64 size = ads_ring_size(a, ref);

	if (!size || h->table != ref.offset + sizeof(struct ads_ring) || ref.key_size || ref.value_size ||
	    ref.flags & ~(__u32)ADS_OVERWRITE ||
	    /* A10, pairs with R10. */
	    8 + sizeof(struct ads_ring) + size > ads_block_bytes(a, ads_load_acquire(ads_at(a, __u64, ref.offset - 8))))
		return ADS_DAMAGED;
	return ADS_OK;
}

/* Create a ring of `bytes`, rounded up to a power of two; ref->flags: ADS_OVERWRITE or 0. */
static inline int ads_ring_create(struct ads_arena *a, struct ads_ref *ref, __u32 bytes)
{
	struct ads_ring *ring;
	__u64 size = ADS_RING_LEAST;
	int rc;

	if (!bytes || bytes > 1u << 31 || ref->key_size || ref->value_size || ref->flags & ~(__u32)ADS_OVERWRITE)
		return ADS_INVALID;
	while (size < bytes)
		size *= 2;
	if (size >= a->size) {
		a->damaged_at = size;
		return ADS_NO_MEMORY;
	}
	rc = ads_alloc(a, sizeof(struct ads_ring) + size, &ref->offset);
	if (rc)
		return rc;
	ring = ads_ring_of(a, *ref);
	ring->header.kind = ADS_KIND_RING;
	ring->header.max_entries = (__u32)size;
	ring->header.flags = ref->flags;
	ring->header.table = ref->offset + sizeof(struct ads_ring);
	return ADS_OK;
}

#endif /* !ADS_BPF */
#endif /* ARENADS_RING_H */
