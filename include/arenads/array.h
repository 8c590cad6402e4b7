/* SPDX-License-Identifier: MIT */
/*
 * array.h - elements of one size by number, whose memory comes as it is touched.
 *
 *	header, counters    chunk words
 *	+-----------------+----+----+----+----+
 *	|                 | *  | 0  | *  | 0  |
 *	+-----------------+-|--+----+-|--+----+
 *	                    |         +-----------> chunk 2: elements 512 .. 767
 *	                    +---------------------> chunk 0: elements   0 .. 255
 *
 * A chunk is a block (alloc.h) of 2^n elements, as many as fit in 16 KiB; n depends on the
 * element's size alone, so that a BPF program has shift and mask as constants. Creation takes
 * 8 bytes a chunk: 31 KiB for a million elements of 64 bytes.
 *
 * Why not one range of addresses that fills up as it is touched, which would save the load of
 * the chunk word: a BPF program cannot make pages, and what it stores to an absent one
 * vanishes without an error. A chunk comes from memory that is populated ahead, so that
 * a program that may not sleep can be the first to touch it.
 *
 * To touch an absent chunk is to claim a block whose header word says whose chunk it is and
 * which one. All that is left to do, one CAS of the chunk's word from 0, follows from that
 * word, and whoever allocates next does it if the claimer has died (ads_block_finish).
 * A number is claimed once: its word is looked at after the cursor was read, and a claim
 * sets it before the cursor moves on. Words of chunks never change again.
 *
 *	operation	commit					death afterwards leaves
 *	first touch	CAS of the block's header word		nothing: others finish it
 *	set		each 8-byte word's own store		the words stored so far
 *	get		the load of each word			nothing
 *	in place	the add, xchg or cas of the word	nothing
 *
 * A value of 8 bytes, or an aligned 8-byte field of a larger one, is whole at any time. A
 * record of several words is as many commits, as in the kernel's array map: a reader may see
 * words of two writers, and a writer that dies may have stored some. Where that matters
 * keep the record in a hash map.
 *
 * Who may call     BPF (any program, any nesting, not sleepable too) and user space, all at
 *                  once. get works through a read-only mapping.
 * Cost             lookup, get, set: the chunk word, 8 bytes for 16 KiB of elements and so mostly
 *                  in the cache, and the element's line; no atomics. First touch of a chunk:
 *                  3 CAS. get of an absent chunk: its word, and no memory.
 * Memory runs out  ADS_NO_MEMORY, lookup: NULL; counted, nothing changed. It works again as soon
 *                  as there is memory.
 * Out of range     ADS_ABSENT, lookup: NULL.
 * Budget runs out  ADS_BUDGET, lookup: NULL; counted. Only the first touch of a chunk has a loop:
 *                  it goes round once for each block that others claim meanwhile.
 * Limits           2^31 elements, up to 64 KiB each. The number of elements is part of what an array
 *                  is, as their size is: programs have it as a constant. Chunks stay.
 */
#ifndef ARENADS_ARRAY_H
#define ARENADS_ARRAY_H

#include "list.h"

/* Elements of an array, as its header says. BPF programs have the number as a constant. */
static ADS_INLINE __u32 ads_array_entries(struct ads_arena *a, struct ads_ref ref)
{
	(void)a;
	return ads_at(a, struct ads_header, ref.offset)->max_entries;
}

/* The word of the chunk that element `index` is in. */
static ADS_INLINE __u64 ads_array_chunk_word(struct ads_arena *a, struct ads_ref ref, __u32 index)
{
	__u32 number = index >> ads_array_shift(ref.value_size);
	/* The word is behind the struct: in BPF that is the load's displacement, and no addition. */
	const struct ads_array __arena *before = ads_at(a, struct ads_array, ref.offset + 8 * number);

	(void)a;
	/* A15, pairs with R15: user space finds the chunk below the populated mark. */
	return ads_load_acquire((const __u64 __arena *)(before + 1));
}

/* That chunk: offset of its first element, 0 if it does not exist. */
static ADS_INLINE __u32 ads_array_chunk(struct ads_arena *a, struct ads_ref ref, __u32 index)
{
	return (__u32)ads_array_chunk_word(a, ref, index);
}

/* Offset of element `index` of the chunk at `chunk`. */
static ADS_INLINE __u32 ads_array_element(struct ads_ref ref, __u32 chunk, __u32 index)
{
	return chunk + (index & ((1u << ads_array_shift(ref.value_size)) - 1)) * ads_array_stride(ref.value_size);
}

/*
 * Make a chunk of the array that does not exist, or find that somebody else has made it. Offset of
 * its first element, or an error, counted.
 */
ADS_GLOBAL __s64 ads_array_touch(struct ads_arena *a, __u32 array, __u32 number)
{
	__u32 place = ads_array_word(array, number);
	int rc = ads_may_change(a, array);
	__u32 i;

	if (rc)
		return rc;
	rc = ADS_BUDGET;
	for (ads_loop(i)) {
		__u64 chunk = ads_load_acquire(ads_at(a, __u64, place)); /* A15, pairs with R15 */

		if (chunk)
			return (__u32)chunk;
		rc = ads_block_claim(a, (__u64)number << 32 | array | ADS_BLOCK_TABLE, 0, 0);
		if (rc < 0 && rc != ADS_EXISTS)
			break;
		rc = ADS_BUDGET;
	}
	if (rc == ADS_NO_MEMORY)
		ads_add(&ads_root_of(a)->no_memory, 1);
	return ads_count(a, array, rc);
}

/*
 * Where element `index` of `entries` is, for access in place; its chunk is made if it does not
 * exist. ADS_ABSENT: out of range. Another error: the chunk could not be made.
 */
static ADS_INLINE int ads_array_find(struct ads_arena *a, struct ads_ref ref, __u32 entries, __u32 index,
				     __u32 *element)
{
	__u32 number = index >> ads_array_shift(ref.value_size);
	__u32 chunk;

	*element = 0;
	if (ADS_UNLIKELY(index >= entries))
		return ADS_ABSENT;
	if (ads_bad(a, ads_array_word(ref.offset, number), 8))
		return ads_count(a, ref.offset, ADS_DAMAGED);
	chunk = ads_array_chunk(a, ref, index);
	if (ADS_UNLIKELY(!chunk)) {
		__s64 made = ads_array_touch(a, ref.offset, number);

		if (made < 0)
			return (int)made;
		chunk = (__u32)made;
	}
	if (ads_bad(a, ads_array_element(ref, chunk, index), ads_array_stride(ref.value_size)))
		return ads_count(a, ref.offset, ADS_DAMAGED);
	*element = ads_array_element(ref, chunk, index);
	if (!*element)
		__builtin_unreachable(); /* and so a test of it for 0 costs nothing */
	return ADS_OK;
}

/*
 * Element `index`, if it is in range and its chunk exists, else NULL: the short way that a program's lookup
 * takes before ads_array_find(). Its place in the chunk is added to a pointer: of that compilers know that
 * it is not NULL, and so a program's test for NULL costs nothing.
 */
static ADS_INLINE void __arena *ads_array_peek(struct ads_arena *a, struct ads_ref ref, __u32 entries, __u32 index)
{
	__u64 chunk;

	if (ADS_UNLIKELY(index >= entries) ||
	    ads_bad(a, ads_array_word(ref.offset, index >> ads_array_shift(ref.value_size)), 8))
		return 0;
	chunk = ads_array_chunk_word(a, ref, index);
	if (ADS_UNLIKELY(!chunk) ||
	    ads_bad(a, ads_array_element(ref, (__u32)chunk, index), ads_array_stride(ref.value_size)))
		return 0;
	return ads_at_word(a, char, chunk) + ads_array_element(ref, 0, index);
}

/* Copy an element; zeros if nobody has touched its chunk. Each 8-byte word is whole. */
static ADS_INLINE int ads_array_get(struct ads_arena *a, struct ads_ref ref, __u32 entries, __u32 index, void *value)
{
	__u32 element, i;

	if (ADS_UNLIKELY(index >= entries))
		return ADS_ABSENT;
	if (ads_bad(a, ads_array_word(ref.offset, index >> ads_array_shift(ref.value_size)), 8))
		return ads_count(a, ref.offset, ADS_DAMAGED);
	element = ads_array_chunk(a, ref, index);
	if (ADS_UNLIKELY(!element)) {
		for (i = 0; i < ADS_WORDS(ref.value_size); i++)
			ads_put_word(value, i, ref.value_size, 0);
		return ADS_OK;
	}
	element = ads_array_element(ref, element, index);
	if (ads_bad(a, element, ads_array_stride(ref.value_size)))
		return ads_count(a, ref.offset, ADS_DAMAGED);
	ads_copy_out(a, value, element, ref.value_size);
	return ADS_OK;
}

/* Store an element, one 8-byte word after the other. */
static ADS_INLINE int ads_array_set(struct ads_arena *a, struct ads_ref ref, __u32 entries, __u32 index,
				    const void *value)
{
	int rc = ads_may_change(a, ref.offset);
	__u32 element;

	if (!rc)
		rc = ads_array_find(a, ref, entries, index, &element);
	if (!rc)
		ads_copy_in(a, element, value, ref.value_size);
	return rc;
}

#if !ADS_BPF
/*
 * Go on to the first element from *index on whose chunk exists; *count tells how many the chunk has
 * from there. ADS_ABSENT: there is none.
 */
static inline int ads_array_next(struct ads_arena *a, struct ads_ref ref, __u32 *index, __u32 *count)
{
	__u64 entries = ads_array_entries(a, ref);
	__u64 size = 1ull << ads_array_shift(ref.value_size);
	__u64 at = *index;

	while (at < entries) {
		__u64 end = (at & ~(size - 1)) + size;

		if (ads_bad(a, ads_array_word(ref.offset, (__u32)(at / size)), 8))
			return ads_count(a, ref.offset, ADS_DAMAGED);
		if (ads_array_chunk(a, ref, (__u32)at)) {
			*index = (__u32)at;
			*count = (__u32)((end < entries ? end : entries) - at);
			return ADS_OK;
		}
		at = end;
	}
	return ADS_ABSENT;
}

/* Whether the chunk of element `index`, which is in range, exists. */
static inline int ads_array_exists(struct ads_arena *a, struct ads_ref ref, __u32 index)
{
	return !ads_bad(a, ads_array_word(ref.offset, index >> ads_array_shift(ref.value_size)), 8) &&
	       ads_array_chunk(a, ref, index);
}

/* Elements whose chunk exists: what a get of them reads is memory. */
static inline __u32 ads_array_populated(struct ads_arena *a, struct ads_ref ref)
{
	__u32 entries = ads_array_entries(a, ref);
	__u32 size = 1u << ads_array_shift(ref.value_size);
	__u32 populated = 0, first;

	for (first = 0; first < entries; first += size) {
		if (ads_bad(a, ads_array_word(ref.offset, first >> ads_array_shift(ref.value_size)), 8))
			break; /* the header is damaged: no words there */
		if (ads_array_chunk(a, ref, first))
			populated += entries - first < size ? entries - first : size;
	}
	return populated;
}
#endif

#endif /* ARENADS_ARRAY_H */
