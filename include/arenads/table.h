/* SPDX-License-Identifier: MIT */
/*
 * table.h - reading the tables of shortcuts into a list: which bucket is where.
 *
 * A table is named by a word {offset:32, shift:32}; the bucket of a hash is hash >> shift.
 * The newest is in the header of its hash map, each names the one half as large before it.
 * Nothing here changes anything; grow.h makes tables, hashmap.h links shortcuts. An ordered map's
 * table of hints (orderedmap.h) has the same form.
 *
 * Who may call     BPF and user space, through a read-only mapping too.
 * Cost             the header's line and one line a table; 22 tables at the most for a million entries.
 * Limits           2^28 shortcuts.
 */
#ifndef ARENADS_TABLE_H
#define ARENADS_TABLE_H

#include "layout.h"

#define ADS_NO_SHORTCUT (~0ull) /* no first hash: those have low bits of 0 */

/* The link word of the bucket of `hash` in the table {offset, shift}. */
static ADS_INLINE __u32 ads_table_link(__u64 table, __u64 hash)
{
	return (__u32)table + (__u32)sizeof(struct ads_table) + 8 * (__u32)(hash >> (table >> 32 & 63));
}

/* A table word as it was read, 0 if no table can have it. */
static ADS_INLINE __u64 ads_table_believe(__u64 table)
{
	return table >> 32 >= 33 && table >> 32 <= 63 ? table : 0;
}

/* {offset, shift} of the newest table, 0 if the word is damaged. */
static ADS_INLINE __u64 ads_table_newest(struct ads_arena *a, __u32 map)
{
	const struct ads_header __arena *h = ads_at(a, struct ads_header, map);

	return ads_table_believe(ads_load_acquire(&h->table)); /* A6, pairs with R6 */
}

static ADS_INLINE __u64 ads_table_previous(struct ads_arena *a, __u64 table)
{
	if (ads_bad(a, (__u32)table, sizeof(struct ads_table)))
		return 0;
	return ads_table_believe(ads_load(&ads_at(a, struct ads_table, (__u32)table)->previous));
}

static ADS_INLINE __u32 ads_table_bits(__u64 table)
{
	return (64 - (__u32)(table >> 32)) & 31;
}

/* Whether a shortcut's word says that a walk may begin there. */
static ADS_INLINE int ads_link_ready(__u64 link)
{
	return (__u32)link && !(link & ADS_LINK_PENDING);
}

/* Which table the link word at `at` is part of: {offset, shift}, 0 if none. */
static ADS_INLINE __u64 ads_shortcut_table(struct ads_arena *a, __u32 map, __u32 at)
{
	__u64 table = ads_table_newest(a, map);
	__u32 i;

	for (ads_each(i, 32)) {
		__u32 links = (__u32)table + (__u32)sizeof(struct ads_table);

		if (!table)
			break;
		if (at >= links && at - links < 8ull << ads_table_bits(table) && !(at & 7))
			return table;
		table = ads_table_previous(a, table);
	}
	return 0;
}

/* First hash of the bucket whose link word is at `at` in the table {offset, shift}. */
static ADS_INLINE __u64 ads_table_hash(__u64 table, __u32 at)
{
	return (__u64)((at - (__u32)table - (__u32)sizeof(struct ads_table)) / 8) << (table >> 32 & 63);
}

/* Hash of the first key behind the shortcut whose link word is at `at`; ADS_NO_SHORTCUT if the
 * map has none there. */
ADS_GLOBAL __u64 ads_shortcut_hash(struct ads_arena *a, __u32 map, __u32 at)
{
	__u64 table = ads_shortcut_table(a, map, at);

	return table ? ads_table_hash(table, at) : ADS_NO_SHORTCUT;
}

#endif /* ARENADS_TABLE_H */
