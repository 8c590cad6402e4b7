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

/* One entry in 64, by its hash, looks after the load when it is new: growth that finds no memory costs
 * little then. */
static ADS_INLINE void ads_table_look_after(struct ads_arena *a, struct ads_ref ref, __u64 hash)
{
	if (ADS_UNLIKELY(!(hash >> 32 & 63)) && ads_table_crowded(a, ref))
		ads_table_grow(a, ref.offset);
}

#endif /* ARENADS_GROW_H */
