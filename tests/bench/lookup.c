/* SPDX-License-Identifier: MIT */
/* User space's side of the comparison: memory access against the bpf() system call. */
#include <arenads/user.h>
#include <time.h>

static __u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000ull + (__u64)t.tv_nsec;
}

static __u64 next_key(__u64 *state, __u64 entries)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return ((*state >> 32) * entries) >> 32;
}

/* Nanoseconds for `rounds` lookups of 8-byte keys; *sum is that of the values found. */
__u64 lookup_ours(struct ads_arena *arena, __u32 offset, __u64 entries, __u64 rounds, __u64 *sum)
{
	struct ads_ref map = {offset, 8, 8, 0};
	__u64 state = 1, i, start = now();

	*sum = 0;
	for (i = 0; i < rounds; i++) {
		__u64 key = next_key(&state, entries), value;

		if (!ads_hashmap_get(arena, map, &key, &value))
			*sum += value;
	}
	return now() - start;
}

__u64 lookup_theirs(int fd, __u64 entries, __u64 rounds, __u64 *sum)
{
	__u64 state = 1, i, start = now();

	*sum = 0;
	for (i = 0; i < rounds; i++) {
		__u64 key = next_key(&state, entries), value = 0;
		struct {
			__u32 fd, pad;
			__u64 key, value, flags;
		} attr = {(__u32)fd, 0, (__u64)(unsigned long)&key, (__u64)(unsigned long)&value, 0};

		if (!ads_bpf(1, &attr, sizeof(attr))) /* BPF_MAP_LOOKUP_ELEM */
			*sum += value;
	}
	return now() - start;
}
