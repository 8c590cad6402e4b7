/* SPDX-License-Identifier: MIT */
/*
 * sweep.h - all records of a hash map or set, into memory of the caller, for snapshots.
 *
 *	struct ads_sweep sweep;
 *	__u64 done = 0;
 *	__s64 rc = ads_hashmap_sweep(&arena, ages, &sweep);
 *
 *	while (!rc && (rc = ads_hashmap_sweep_next(&arena, ages, &sweep, records, done, room - done)) > 0) {
 *		done += rc;		now there are so many; rc becomes 0 at the end
 *		...			more room, if there is none left
 *	}
 *
 * An iteration follows one link after the other, and where the map is larger than the caches each is
 * a wait for memory. A sweep runs up to 32 iterations, each over its part of the order of hashes, in
 * turn: each asks for what it needs next and lets the others go first, so that they wait together
 * (Kocberber, Falsafi, Grot, Asynchronous Memory Access Chaining, 2015).
 *
 *	hashes	0 ........................................ 2^64
 *		| part 0  | part 1  | part 2  | part 3  |
 *		  lane 0    lane 1    lane 2    lane 3
 *	records	| 0 | 1 | 2 | 3 | 0 | 1 | ...		as each lane comes to one
 *
 * A lane starts at a shortcut, which may be one before its part where the map grows: what it meets
 * of other parts is that lane's and is left out, as is all behind its own.
 *
 * Each key that is in the map from the first call to the last is there exactly once, with a value that
 * it had in between. A lane's restarts look for the key that it has returned last, which it reads in
 * `records`: they stay as they are, or are moved as one, until the sweep is over.
 *
 *	operation	commit		death afterwards leaves
 *	sweep		none: reads	nothing
 *
 * Who may call     user space, beside any number of readers and writers, also through a read-only
 *                  mapping.
 * Cost             that of an iteration, without most of its waits. No atomics.
 * Memory runs out  nothing is allocated: the caller has the room.
 * Budget runs out  ADS_BUDGET where the lanes together take more steps without a record than the map
 *                  can have entries: a circle of damaged links, or writers that are always ahead.
 *                  Counted. A lane's own budget only lets the next lane go.
 * Limits           as long as a record is not whole it may be written over: what lies behind the
 *                  records that are counted has no meaning. 32 parts at most.
 */
#ifndef ARENADS_SWEEP_H
#define ARENADS_SWEEP_H

#include "hashmap.h"

#if !ADS_BPF

#define ADS_SWEEP_BITS 5u
#define ADS_SWEEP_LANES (1u << ADS_SWEEP_BITS)
/* Steps in which lanes are sent back by writers, one after the other, and none gets on: some milliseconds. */
#define ADS_SWEEP_STEPS (1u << 20)

/* An iteration over the keys whose hash begins with `part`. `last`: the record that it returned last. */
struct ads_sweep_lane {
	struct ads_scan scan;
	__u64 last;
	__u32 part, unused;
};

/* `steps` of all lanes since one of them found a record: no more than `most`. */
struct ads_sweep {
	struct ads_sweep_lane lanes[ADS_SWEEP_LANES];
	__u64 steps, most;
	__u32 live, bits;
};

static inline __u32 ads_sweep_part_of(__u64 hash, __u32 bits)
{
	return bits ? (__u32)(hash >> (64 - bits)) : 0;
}

/* Start; nothing is read yet but where the parts begin. */
static inline int ads_hashmap_sweep(struct ads_arena *a, struct ads_ref ref, struct ads_sweep *s)
{
	__u64 most;
	__u32 part;

	__builtin_memset(s, 0, sizeof(*s));
	s->bits = ads_table_bits(ads_table_newest(a, ref.offset));
	if (s->bits > ADS_SWEEP_BITS)
		s->bits = ADS_SWEEP_BITS;
	s->live = 1u << s->bits;
	/* Whatever the memory says: not more entries than it has room for. */
	most = ads_load(&ads_at(a, struct ads_collection, ref.offset)->pool.carved) >> 32;
	if (most > a->size / ads_entry_stride(ref))
		most = a->size / ads_entry_stride(ref);
	s->most = most + ADS_SWEEP_STEPS;
	for (part = 0; part < s->live; part++) {
		__u64 hash = s->bits ? (__u64)part << (64 - s->bits) : 0;
		int rc = ads_scan_start(a, &s->lanes[part].scan, ads_hashmap_bucket(a, ref, hash));

		if (rc)
			return ads_count(a, ref.offset, rc);
		s->lanes[part].part = part;
	}
	return ADS_OK;
}

/* Ask for what an iteration looks at next. */
static inline void ads_sweep_prefetch(struct ads_arena *a, const struct ads_scan *scan, __u32 stride)
{
	const char *at = ads_at(a, char, scan->walk.entry & ~7u);
	__u32 i;

	for (i = 0; i < stride && i < 4 * ADS_LINE; i += ADS_LINE)
		__builtin_prefetch(at + i);
}

/* Records of `size` bytes with the value at `value_at`, what is between and behind is zeroed. */
static inline __attribute__((always_inline)) __s64 ads_sweep_lanes(struct ads_arena *a, struct ads_ref ref,
								   __u32 value_at, __u32 size, struct ads_sweep *s,
								   char *records, __u64 from, __u64 count)
{
	__u32 stride = ads_entry_stride(ref), value_end = value_at + ref.value_size, number = 0;
	__u64 at = from;

	while (at < from + count && s->live) {
		struct ads_sweep_lane *lane = &s->lanes[number];
		char *record = records + at * size;
		__u32 entry, part;
		int rc = ads_scan_step(a, &lane->scan, ref, records + lane->last * size, record, record + value_at, &entry);

		part = ads_sweep_part_of(lane->scan.hash, s->bits);
		if (ADS_LIKELY(rc == ADS_OK && part == lane->part)) {
			if (ADS_UNLIKELY(ref.key_size != value_at))
				__builtin_memset(record + ref.key_size, 0, value_at - ref.key_size);
			if (ADS_UNLIKELY(value_end != size))
				__builtin_memset(record + value_end, 0, size - value_end);
			lane->last = at++;
			s->steps = 0;
		} else if (rc == ADS_ABSENT || (rc == ADS_OK && part > lane->part)) {
			*lane = s->lanes[--s->live];
		} else if (rc != ADS_OK && rc != ADS_BUDGET) {
			return ads_count(a, ref.offset, rc);
		} else if (++s->steps > s->most) {
			return ads_count(a, ref.offset, ADS_BUDGET);
		} else if (rc == ADS_OK) {
			lane->scan.started = 0; /* of a part before: as if it had not been met */
		}
		if (rc == ADS_OK || rc == ADS_BUDGET)
			ads_sweep_prefetch(a, &lane->scan, stride);
		number = number + 1 < s->live ? number + 1 : 0;
	}
	return (__s64)(at - from);
}

/*
 * Append up to `count` records behind the `done` that are in `records`, as they are in an array of a C
 * structure of `size` bytes whose value is at `value_at`. How many there are more, 0: that was all.
 * ADS_INVALID: key and value do not fit there.
 */
static inline __s64 ads_hashmap_sweep_records(struct ads_arena *a, struct ads_ref ref, struct ads_sweep *s,
					      __u32 value_at, __u32 size, void *records, __u64 done, __u64 count)
{
	if (value_at < ref.key_size || size < value_at || size - value_at < ref.value_size)
		return ADS_INVALID;
	/* The commonest sizes as constants: the loops over words disappear. */
	if (ref.key_size == 8 && ref.value_size == 8 && value_at == 8 && size == 16) {
		ref.key_size = ref.value_size = 8;
		return ads_sweep_lanes(a, ref, 8, 16, s, (char *)records, done, count);
	}
	return ads_sweep_lanes(a, ref, value_at, size, s, (char *)records, done, count);
}

/* Records of a key and a value, each rounded up to 8 bytes. */
static inline __s64 ads_hashmap_sweep_next(struct ads_arena *a, struct ads_ref ref, struct ads_sweep *s, void *records,
					   __u64 done, __u64 count)
{
	__u32 value_at = ads_round_up(ref.key_size, 8);

	return ads_hashmap_sweep_records(a, ref, s, value_at, value_at + ads_round_up(ref.value_size, 8), records, done,
					 count);
}

#endif

#endif /* ARENADS_SWEEP_H */
