/* SPDX-License-Identifier: MIT */
/*
 * bench_array.bpf.c - the same loops over an array in the arena and over a kernel array map of the
 * same elements. Run by `python -m arenads bench`.
 */
#include "bench.h"

#ifndef ENTRIES
#define ENTRIES 10000
#endif
#ifndef VALUE_SIZE
#define VALUE_SIZE 8
#endif

struct value {
	__u64 word[VALUE_SIZE / 8];
};

ADS_ARRAY(array, struct value, ENTRIES);

struct {
	__uint(type, 2); /* BPF_MAP_TYPE_ARRAY */
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct value);
} peer SEC(".maps");

BENCH_FRESH(struct value);

BENCH_LOOP(empty, { sum += number; })
BENCH_LOOP(ours_lookup, {
	struct value __arena *value = array_lookup(number);
	if (value)
		sum += value->word[0];
})
BENCH_LOOP(peer_lookup, {
	struct value *value = bpf_map_lookup_elem(&peer, &number);
	if (value)
		sum += value->word[0];
})

/* A counter. */
BENCH_LOOP(ours_update_in_place, {
	struct value __arena *value = array_lookup(number);
	if (value)
		sum += ads_add(&value->word[0], zero);
})
BENCH_LOOP(peer_update_in_place, {
	struct value *value = bpf_map_lookup_elem(&peer, &number);
	if (value)
		sum += __sync_fetch_and_add(&value->word[0], zero);
})

/* Whole elements. */
BENCH_LOOP(empty_update, {
	struct value *value = bench_fresh();
	value->word[0] = number;
	sum += value->word[0];
})
BENCH_LOOP(ours_update, {
	struct value *value = bench_fresh();
	value->word[0] = number;
	sum += !array_set(number, value);
})
BENCH_LOOP(peer_update, {
	struct value *value = bench_fresh();
	value->word[0] = number;
	sum += !bpf_map_update_elem(&peer, &number, value, 0);
})

char LICENSE[] SEC("license") = "GPL";
