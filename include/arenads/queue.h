/* SPDX-License-Identifier: MIT */
/*
 * queue.h - a ring of fixed-size records for one producer and one consumer, on either side.
 *
 *	head (taken)          tail (published)
 *	  |                     |
 *	--+--+--+--+--+--+--+--+--+--+--
 *	   r  r  r  r  r  r  r           positions run freely, slot = position mod slots
 *	--+--+--+--+--+--+--+--+--+--+--
 *
 * Producer and consumer each write a line of their own and keep there the last position
 * they saw of the other one, so the common case touches one shared line only when that
 * memory of the other is used up (Lamport 1983; the cached peer position is from
 * FastForward and MCRingBuffer, 2008 to 2010).
 *
 * Who may call     one producer and one consumer at a time, each a BPF program or a user thread.
 *                  "One program" is not one producer: an instance can nest in another on
 *                  the same CPU and run on many CPUs. Let one task, one CPU of a non-nesting
 *                  hook, or a syscall program produce.
 *                  Any number that read (walk).
 * Cost             push and pop: own line, the record's lines; no atomics. walk, read: head's and
 *                  tail's line, the record's; nothing is written, so a read-only mapping will do.
 * Commit           push: the store of tail. pop: the store of head.
 * Death            before the commit nothing has happened, after it everything has.
 * Memory runs out  never: all slots exist from the start. Full: ADS_FULL, counted.
 * Limits           2^31 slots (a power of two), records up to 64 KiB.
 */
#ifndef ARENADS_QUEUE_H
#define ARENADS_QUEUE_H

#include "list.h"

static ADS_INLINE __u32 ads_queue_slot(struct ads_arena *a, struct ads_ref ref, __u64 position)
{
	const struct ads_header __arena *h = ads_at(a, struct ads_header, ref.offset);

	(void)a;
	return (__u32)h->table + (__u32)(position & (h->max_entries - 1)) * ads_round_up(ref.value_size, 8);
}

/* Append a record; ADS_FULL if no slot is free. */
static ADS_INLINE int ads_queue_push(struct ads_arena *a, struct ads_ref ref, const void *value)
{
	struct ads_queue __arena *ring = ads_at(a, struct ads_queue, ref.offset);
	int rc = ads_may_change(a, ref.offset);
	__u64 tail, slots;
	__u32 slot;

	if (rc)
		return rc;
	if (ads_bad(a, ref.offset, sizeof(struct ads_queue)))
		return ADS_DAMAGED;
	slots = ring->header.max_entries;
	tail = ads_load(&ring->tail);
	if (tail - ads_load(&ring->head_seen) >= slots) {
		__u64 head = ads_load_acquire(&ring->head); /* A5, pairs with R5: the slot was read */

		ads_store(&ring->head_seen, head);
		if (tail - head >= slots)
			return ads_count(a, ref.offset, tail - head == slots ? ADS_FULL : ADS_DAMAGED);
	}
	slot = ads_queue_slot(a, ref, tail);
	if (ads_bad(a, slot, ads_round_up(ref.value_size, 8)))
		return ads_count(a, ref.offset, ADS_DAMAGED);
	ads_copy_in(a, slot, value, ref.value_size);
	ads_store_release(&ring->tail, tail + 1); /* R4. Commit. */
	return ADS_OK;
}

/* Take the oldest record; ADS_ABSENT if there is none. */
static ADS_INLINE int ads_queue_pop(struct ads_arena *a, struct ads_ref ref, void *value)
{
	struct ads_queue __arena *ring = ads_at(a, struct ads_queue, ref.offset);
	int rc = ads_may_change(a, ref.offset);
	__u64 head, tail;
	__u32 slot;

	if (rc)
		return rc;
	if (ads_bad(a, ref.offset, sizeof(struct ads_queue)))
		return ADS_DAMAGED;
	head = ads_load(&ring->head);
	tail = ads_load_acquire(&ring->tail_seen); /* A7, pairs with R7 of a consumer before us */
	if (head == tail) {
		tail = ads_load_acquire(&ring->tail); /* A4, pairs with R4: the record is whole */
		if (head == tail)
			return ADS_ABSENT;
		ads_store_release(&ring->tail_seen, tail); /* R7 */
	}
	if (tail - head > ring->header.max_entries)
		return ads_count(a, ref.offset, ADS_DAMAGED);
	slot = ads_queue_slot(a, ref, head);
	if (ads_bad(a, slot, ads_round_up(ref.value_size, 8)))
		return ads_count(a, ref.offset, ADS_DAMAGED);
	ads_copy_out(a, value, slot, ref.value_size);
	ads_store_release(&ring->head, head + 1); /* R5. Commit. */
	return ADS_OK;
}

/* Records waiting; while others push and pop, about that many. */
static ADS_INLINE __u64 ads_queue_len(struct ads_arena *a, struct ads_ref ref)
{
	struct ads_queue __arena *ring = ads_at(a, struct ads_queue, ref.offset);
	__u64 head = ads_load_acquire(&ring->head); /* A5, pairs with R5: no tail from before it */

	(void)a;
	return ads_load(&ring->tail) - head;
}

#if !ADS_BPF
/* Records from `at` to `end`. Private to who reads them. */
struct ads_queue_cursor {
	__u64 at, end;
};

/* Begin to read all that waits and take nothing, also through a read-only mapping. ADS_ABSENT: nothing. */
static inline int ads_queue_walk(struct ads_arena *a, struct ads_ref ref, struct ads_queue_cursor *c)
{
	const struct ads_queue *ring = ads_at(a, struct ads_queue, ref.offset);
	__u32 i;

	c->at = c->end = 0;
	if (ads_bad(a, ref.offset, sizeof(struct ads_queue)))
		return ADS_DAMAGED;
	for (ads_loop(i)) {
		__u64 head = ads_load_acquire(&ring->head); /* A5: no tail from before it */
		__u64 tail = ads_load_acquire(&ring->tail); /* A4: the records before it are whole */

		if (tail - head > ring->header.max_entries && ads_load(&ring->head) != head)
			continue; /* the head has gone on between the two */
		if (tail - head > ring->header.max_entries) {
			a->damaged_at = ref.offset + (__u32)__builtin_offsetof(struct ads_queue, head);
			return ads_count(a, ref.offset, ADS_DAMAGED);
		}
		c->at = head;
		c->end = tail;
		return head == tail ? ADS_ABSENT : ADS_OK;
	}
	return ads_count(a, ref.offset, ADS_BUDGET);
}

/*
 * Copy the next record of a walk. Those that were taken since it began are left out, since they may
 * have been written over. ADS_ABSENT: the end.
 */
static inline int ads_queue_read(struct ads_arena *a, struct ads_ref ref, struct ads_queue_cursor *c, void *value)
{
	const struct ads_queue *ring = ads_at(a, struct ads_queue, ref.offset);
	__u32 i;

	for (ads_loop(i)) {
		__u32 slot = ads_queue_slot(a, ref, c->at);
		__u64 head;

		if (c->at == c->end)
			return ADS_ABSENT;
		if (ads_bad(a, slot, ads_round_up(ref.value_size, 8)))
			return ads_count(a, ref.offset, ADS_DAMAGED);
		ads_copy_out(a, value, slot, ref.value_size);
		ads_fence_acquire(); /* F5: the record before the head again */
		head = ads_load(&ring->head);
		if (head - c->at - 1 >= 1ull << 62) { /* not passed: nobody writes there */
			c->at++;
			return ADS_OK;
		}
		/* Go on with what is oldest now, if the walk gets as far. */
		c->at = c->end - c->at < head - c->at ? c->end : head;
	}
	return ads_count(a, ref.offset, ADS_BUDGET);
}
#endif

#endif /* ARENADS_QUEUE_H */
