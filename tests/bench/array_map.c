/* SPDX-License-Identifier: MIT */
/* User space's side of the comparison: memory access against the bpf() system call. */
#include <arenads/user.h>
#include <time.h>

#ifndef WORDS
#define WORDS 1
#endif

static __u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000ull + (__u64)t.tv_nsec;
}

static __u32 next_random(__u64 *state, __u32 entries)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (__u32)(((*state >> 32) * entries) >> 32);
}

/* Nanoseconds for `rounds` reads of random elements; *sum is that of their first words. */
__u64 get_ours(struct ads_arena *arena, __u32 offset, __u32 entries, __u64 rounds, __u64 *sum)
{
	struct ads_ref array = {offset, 0, 8 * WORDS, 0};
	__u64 state = 1, i, start = now();

	*sum = 0;
	for (i = 0; i < rounds; i++) {
		__u64 value[WORDS];

		if (!ads_array_get(arena, array, entries, next_random(&state, entries), value))
			*sum += value[0];
	}
	return now() - start;
}

__u64 get_theirs(int fd, __u32 entries, __u64 rounds, __u64 *sum)
{
	__u64 state = 1, i, start = now();

	*sum = 0;
	for (i = 0; i < rounds; i++) {
		__u32 index = next_random(&state, entries);
		__u64 value[WORDS] = {0};
		struct {
			__u32 fd, pad;
			__u64 key, value, flags;
		} attr = {(__u32)fd, 0, (__u64)(unsigned long)&index, (__u64)(unsigned long)value, 0};

		if (!ads_bpf(1, &attr, sizeof(attr))) /* BPF_MAP_LOOKUP_ELEM */
			*sum += value[0];
	}
	return now() - start;
}
