/* SPDX-License-Identifier: MIT */
/*
 * grow.h - doubling the table of a structure that has one: a hash map's shortcuts, an ordered map's
 * hints.
 *
 * The new table is a block, claimed as any other (alloc.h); the old one stays, and the new one
 * names it. What is in it, and what comes into the new one and when, is the structure's.
 *
 * Who may call     BPF and user space, all at once.
 * Cost             one claim: a CAS on the cursor and one on the header's table word.
 * Memory runs out  ADS_NO_MEMORY, not counted: the old table goes on serving.
 * Limits           as in table.h.
 */
#ifndef ARENADS_GROW_H
#define ARENADS_GROW_H

#include "alloc.h"
#include "table.h"

/* Double the table; the old one goes on serving if there is no memory, or if somebody
 * else is quicker. */
ADS_GLOBAL int ads_table_grow(struct ads_arena *a, __u32 map)
{
	__u64 table = ads_table_newest(a, map);
	__u64 bits = ads_table_bits(table) + 1;
	int rc;

	if (!ads_writable(a))
		return ADS_READ_ONLY;
	if (!table)
		return ADS_DAMAGED;
	if (bits > ads_at(a, struct ads_header, map)->most)
		return ADS_FULL;
	rc = ads_block_claim(a, bits << 32 | map | ADS_BLOCK_TABLE, table, 0);
	return rc < 0 ? rc : ADS_OK;
}

/* Whether more than half of the table would be used if every entry carved were live. */
static ADS_INLINE int ads_table_crowded(struct ads_arena *a, struct ads_ref ref)
{
	const struct ads_collection __arena *c = ads_collection_of(a, ref);
	__u64 bits = ads_table_bits(ads_load(&c->header.table));

	return (ads_load(&c->pool.carved) >> 32) * 2 > 1ull << bits && bits < c->header.most;
}

#if !ADS_BPF
#define ADS_GROW_STEP (64u * ADS_KIB) /* at least: ads_arena_populate() rounds up */

/*
 * Whether the larger table can be claimed without a pause. Populating it at once takes as long as thousands
 * of inserts, so each who looks populates a step of it, and the old table serves meanwhile.
 */
static inline int ads_table_prepared(struct ads_arena *a, __u32 map)
{
	__u64 bits = ads_table_bits(ads_load(&ads_at(a, struct ads_header, map)->table)) + 1;
	__u64 need = ads_load(&ads_root_of(a)->cursor) + ads_table_size(bits);
	__u64 populated = ads_load(&ads_root_of(a)->populated);

	if (need <= populated || need > a->size)
		return 1; /* or growing says what is wrong */
	if (need - populated <= ADS_GROW_STEP)
		return 1;
	ads_arena_populate(a, populated + ADS_GROW_STEP);
	return 0;
}
#else
#define ads_table_prepared(arena, map) 1
#endif

/* One entry in 64, by its hash, looks after the load when it is new: growth that finds no memory costs
 * little then. */
static ADS_INLINE void ads_table_look_after(struct ads_arena *a, struct ads_ref ref, __u64 hash)
{
	if (ADS_UNLIKELY(!(hash >> 32 & 63)) && ads_table_crowded(a, ref) && ads_table_prepared(a, ref.offset))
		ads_table_grow(a, ref.offset);
}

#endif /* ARENADS_GROW_H */
