/* SPDX-License-Identifier: GPL-2.0 */
/* The same loops over an array in the arena and over a kernel array map of the same elements. */
#include <arenads/bpf.h>

#ifndef ENTRIES
#define ENTRIES 1000
#endif
#ifndef WORDS
#define WORDS 1
#endif

struct element {
	__u64 word[WORDS];
};

ADS_ARENA(256 * ADS_MIB);
ADS_ARRAY(ours, struct element, ENTRIES);

struct {
	__uint(type, 2); /* BPF_MAP_TYPE_ARRAY */
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct element);
} theirs SEC(".maps");

struct args {
	__u64 rounds;
	__u64 nanoseconds;
	__u64 sum; /* of the words found: the loops must have done the same */
	__u64 seed;
};

/* A cheap sequence of indexes that no prefetcher can follow. */
static __always_inline __u32 next_random(__u64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return ((*state >> 32) * ENTRIES) >> 32;
}

/* From a zero that the verifier does not know, or it would walk element by element. */
static __always_inline __u32 next_in_sequence(__u64 *state)
{
	*state = *state + 1 < ENTRIES ? *state + 1 : ads_unknown_zero();
	return *state;
}

#define LOOP(name, next, body)                                                 \
	SEC("syscall") int name(struct args *ctx)                              \
	{                                                                      \
		__u64 state = ctx->seed, rounds = ctx->rounds, sum = 0, i;     \
		__u64 start = bpf_ktime_get_ns();                              \
		(void)ads_here(); /* ads_unknown_zero() is in the arena */     \
		for (i = ctx->nanoseconds; i < rounds && ads_may_loop(); i++) { \
			__u32 index = next(&state);                            \
			body                                                   \
		}                                                              \
		ctx->nanoseconds = bpf_ktime_get_ns() - start;                 \
		ctx->sum = sum;                                                \
		return i == rounds ? 0 : -1;                                   \
	}
#define LOOPS(name, body) LOOP(name##_random, next_random, body) LOOP(name##_sequential, next_in_sequence, body)

LOOPS(nothing, { sum += index; })
LOOPS(ours_lookup, {
	struct element __arena *found = ours_lookup(index);
	if (found)
		sum += found->word[0];
})
LOOPS(theirs_lookup, {
	struct element *found = bpf_map_lookup_elem(&theirs, &index);
	if (found)
		sum += found->word[0];
})
LOOPS(ours_add, {
	struct element __arena *found = ours_lookup(index);
	if (found)
		sum += ads_add(&found->word[0], 1);
})
LOOPS(theirs_add, {
	struct element *found = bpf_map_lookup_elem(&theirs, &index);
	if (found)
		sum += __sync_fetch_and_add(&found->word[0], 1);
})
LOOPS(ours_update, {
	struct element element = {{index}};
	sum += ours_set(index, &element);
})
LOOPS(theirs_update, {
	struct element element = {{index}};
	sum += bpf_map_update_elem(&theirs, &index, &element, 0);
})

SEC("syscall") int fill(struct args *ctx)
{
	__u64 i;

	for (i = ctx->seed; i < ctx->rounds && ads_may_loop(); i++) {
		struct element element = {{i}};
		__u32 index = i;

		if (ours_set(index, &element) || bpf_map_update_elem(&theirs, &index, &element, 0))
			return -1;
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
