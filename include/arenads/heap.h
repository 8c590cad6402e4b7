/* SPDX-License-Identifier: MIT */
/*
 * heap.h - walk the heap: which blocks there are, and whose. User space only.
 *
 *	ADS_HEAP_OFFSET                                          cursor
 *	| root's owners | a map | its chunk | a schema | its table | ...
 *	  raw             raw     chunk       raw        table
 *
 * A block's header word (alloc.h) tells its size and its owner, and never changes; so a walk needs
 * no lock, works through a read-only mapping, and may meet blocks that were claimed meanwhile.
 *
 * Cost             a load of each block's line; there is about one for 4 KiB that are used.
 * Death, memory    nothing is written.
 * Bounded          by the arena's size: offsets only grow.
 */
#ifndef ARENADS_HEAP_H
#define ARENADS_HEAP_H

#include "directory.h"

#if !ADS_BPF

struct ads_heap_block {
	__u64 at;    /* of the header word; the payload is 8 bytes behind */
	__u64 bytes; /* with the header word */
	__u64 word;
};

/* Go on to the next block; begin with zeros. ADS_ABSENT: that was the last one. */
static inline int ads_heap_next(struct ads_arena *a, struct ads_heap_block *block)
{
	block->at = block->at ? block->at + block->bytes : ADS_HEAP_OFFSET;
	block->bytes = 0;
	if (!ads_arena_reaches(a, block->at + 8))
		return ADS_ABSENT;
	block->word = ads_load_acquire(ads_at(a, __u64, block->at)); /* A10, pairs with R10 */
	if (!block->word)
		return ADS_ABSENT;
	block->bytes = ads_block_bytes(a, block->word);
	if (block->bytes && ads_arena_reaches(a, block->at + block->bytes))
		return ADS_OK;
	a->damaged_at = block->at;
	return ADS_DAMAGED;
}

/* Whether a block is a chunk of this pool. */
static inline int ads_heap_is_chunk(const struct ads_heap_block *block, struct ads_pool_ref pool)
{
	return (block->word & 3) == ADS_BLOCK_CHUNK && ((__u32)block->word & ~63u) == pool.offset;
}

/*
 * Bytes of the arena that a structure has taken, and that stay its own: the block that it begins,
 * its entries or elements, its tables, and the description of its records at `schema` (0: none).
 */
static inline __s64 ads_structure_bytes(struct ads_arena *a, __u32 kind, struct ads_ref ref, __u32 schema)
{
	struct ads_heap_block block = {0, 0, 0};
	struct ads_pool_ref pool = ads_kind_pool(kind, ref), towers = pool;
	int pooled = kind != ADS_KIND_QUEUE && kind != ADS_KIND_RING && kind != ADS_KIND_ARRAY &&
		     kind != ADS_KIND_INTRUSIVE;
	__s64 sum = 0;
	int rc;

	if (kind == ADS_KIND_ORDEREDMAP)
		towers = ads_pool_of(ads_orderedmap_index(ref));
	while (!(rc = ads_heap_next(a, &block))) {
		__u64 payload = block.at + 8;
		int its = payload == ref.offset || (schema && payload == schema);

		if ((block.word & 3) == ADS_BLOCK_TABLE)
			its = ((__u32)block.word & ~63u) == ref.offset;
		else if (pooled)
			its |= ads_heap_is_chunk(&block, pool) || ads_heap_is_chunk(&block, towers);
		if (its)
			sum += (__s64)block.bytes;
	}
	return rc == ADS_ABSENT ? sum : rc;
}

/* Where a walk over a pool's objects stands. Private. Begin with zeros. */
struct ads_pool_walk {
	struct ads_heap_block block;
	__u32 next; /* object of the block, a chunk */
};

/* Go on to the next object in use, and copy it; *object is its offset. ADS_ABSENT: that was all. */
static inline int ads_pool_next(struct ads_arena *a, struct ads_ref ref, struct ads_pool_walk *walk, __u32 *object,
				void *value)
{
	struct ads_pool_ref pool = ads_pool_of(ref);

	for (;;) {
		int rc;

		if (walk->block.bytes && ads_heap_is_chunk(&walk->block, pool))
			while (walk->next < walk->block.word >> 32) {
				__u32 entry = (__u32)(walk->block.at + 8 + (__u64)walk->next++ * pool.stride);
				__u64 link;

				if (ads_bad(a, entry, pool.stride))
					return ADS_DAMAGED;
				link = ads_load(ads_link_of(a, entry));
				if (!link || link & ADS_LINK_MARK)
					continue;
				*object = entry + ads_entry_value_offset(ref);
				ads_copy_out(a, value, *object, ref.value_size);
				ads_fence_acquire(); /* F13: the object's words before its link again */
				if (ads_load(ads_link_of(a, entry)) == link)
					return ADS_OK; /* else it was freed meanwhile */
			}
		walk->next = 0;
		rc = ads_heap_next(a, &walk->block);
		if (rc)
			return rc;
	}
}

#endif /* !ADS_BPF */
#endif /* ARENADS_HEAP_H */
