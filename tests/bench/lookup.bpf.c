/* SPDX-License-Identifier: GPL-2.0 */
/* The same loops over a hash map in the arena and over a kernel hash map of the same entries. */
#include <arenads/bpf.h>

#ifndef ENTRIES
#define ENTRIES 1000
#endif

ADS_ARENA(512 * ADS_MIB);
ADS_HASHMAP(map, __u64, __u64, ENTRIES);

struct {
	__uint(type, 1); /* BPF_MAP_TYPE_HASH, preallocated */
	__uint(max_entries, ENTRIES);
	__type(key, __u64);
	__type(value, __u64);
} theirs SEC(".maps");

struct args {
	__u64 rounds;
	__u64 nanoseconds;
	__u64 sum; /* of the values found: the loops must have done the same */
	__u64 seed;
};

/* A cheap sequence of keys that no prefetcher can follow. */
static __always_inline __u64 next_key(__u64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return ((*state >> 32) * ENTRIES) >> 32;
}

#define LOOP(name, body)                                                       \
	SEC("syscall") int name(struct args *ctx)                              \
	{                                                                      \
		__u64 state = ctx->seed, rounds = ctx->rounds, sum = 0, i;     \
		__u64 start = bpf_ktime_get_ns();                              \
		for (i = ctx->nanoseconds; i < rounds && ads_may_loop(); i++) { \
			__u64 key = next_key(&state);                          \
			body                                                   \
		}                                                              \
		ctx->nanoseconds = bpf_ktime_get_ns() - start;                 \
		ctx->sum = sum;                                                \
		return i == rounds ? 0 : -1;                                   \
	}

LOOP(nothing, { sum += key; })
LOOP(ours_lookup, {
	__u64 __arena *value = map_lookup(&key);
	if (value)
		sum += *value;
})
LOOP(theirs_lookup, {
	__u64 *value = bpf_map_lookup_elem(&theirs, &key);
	if (value)
		sum += *value;
})
LOOP(ours_update, { sum += map_update(&key, &state); })
LOOP(theirs_update, { sum += bpf_map_update_elem(&theirs, &key, &state, 0); })
LOOP(ours_delete_insert, {
	sum += map_delete(&key);
	sum += map_insert(&key, &key);
})
LOOP(theirs_delete_insert, {
	sum += bpf_map_delete_elem(&theirs, &key);
	sum += bpf_map_update_elem(&theirs, &key, &key, 0);
})

SEC("syscall") int fill(struct args *ctx)
{
	__u64 i;

	for (i = ctx->seed; i < ctx->rounds && ads_may_loop(); i++) {
		__u64 key = i;

		if (map_update(&key, &key) || bpf_map_update_elem(&theirs, &key, &key, 0))
			return -1;
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
