/* SPDX-License-Identifier: MIT */
/* User space's side of the comparison: popping records, and reading them from a kernel ring buffer. */
#include <arenads/user.h>
#include <time.h>

struct record {
	__u64 word[8];
};

static __u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000ull + (__u64)t.tv_nsec;
}

/* Nanoseconds to pop what waits; *count says how much that was. */
__u64 pop_ours(struct ads_arena *arena, __u32 offset, __u64 *count, __u64 *sum)
{
	struct ads_ref ring = {offset, 0, sizeof(struct record), 0};
	__u64 start = now();
	struct record record;

	*count = *sum = 0;
	while (!ads_mpmc_pop(arena, ring, &record)) {
		*sum += record.word[7];
		++*count;
	}
	return now() - start;
}

/* The same from the mapped pages of a ring buffer, as libbpf's ring_buffer__consume() reads it. */
__u64 pop_theirs(__u64 *consumer, char *producer, __u64 bytes, __u64 *count, __u64 *sum)
{
	const char *data = producer + 4096;
	__u64 start = now();
	__u64 at = __atomic_load_n(consumer, __ATOMIC_RELAXED);

	*count = *sum = 0;
	while (at < __atomic_load_n((__u64 *)(void *)producer, __ATOMIC_ACQUIRE)) {
		const char *header = data + (at & (bytes - 1));
		__u32 length = __atomic_load_n((const __u32 *)(const void *)header, __ATOMIC_ACQUIRE);
		struct record record;

		if (length >> 31) /* busy */
			break;
		memcpy(&record, header + 8, sizeof(record));
		*sum += record.word[7];
		++*count;
		at += 8 + ((length & 0x3fffffff) + 7) / 8 * 8;
		__atomic_store_n(consumer, at, __ATOMIC_RELEASE);
	}
	return now() - start;
}
