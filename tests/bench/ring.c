/* SPDX-License-Identifier: MIT */
/* User space's side of the messages: our rings, and the kernel's as libbpf works them. */
#include <arenads/user.h>
#include <time.h>

struct message {
	__u64 word[8];
};

#define BUSY (1u << 31)
#define HEADER 8u

/* One of the kernel's ring buffers, mapped. */
struct kernel_ring {
	__u64 *consumer, *producer;
	char *data;
	__u64 size;
};

static __u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000ull + (__u64)t.tv_nsec;
}

/* `from_user`: BPF_MAP_TYPE_USER_RINGBUF, of which we write the producer's part. */
int kernel_ring_map(struct kernel_ring *ring, int fd, __u64 size, int from_user)
{
	char *consumer = mmap(NULL, 4096, from_user ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *producer = mmap(NULL, 4096 + 2 * size, from_user ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 4096);

	if (consumer == MAP_FAILED || producer == MAP_FAILED)
		return -errno;
	ring->consumer = (__u64 *)(void *)consumer;
	ring->producer = (__u64 *)(void *)producer;
	ring->data = producer + 4096;
	ring->size = size;
	return 0;
}

static __u64 sum_of(const struct message *message)
{
	const __u64 *w = message->word;

	return w[0] + w[1] + w[2] + w[3] + w[4] + w[5] + w[6] + w[7];
}

static void fill(struct message *message, __u64 value)
{
	int i;

	for (i = 0; i < 8; i++)
		message->word[i] = value;
}

/* Each of these returns nanoseconds; *sum is that of the messages. */

__u64 consume_ours(struct ads_arena *arena, __u32 offset, __u64 *sum)
{
	struct ads_ref ref = {offset, 0, 0, 0};
	struct ads_ring_cursor batch;
	__u64 start = now();
	__u32 place, size;

	*sum = 0;
	if (ads_ring_peek(arena, ref, &batch))
		return 0;
	while (!ads_ring_next(arena, ref, &batch, &place, &size))
		*sum += sum_of(ads_at(arena, struct message, place));
	ads_ring_release(arena, ref, &batch);
	return now() - start;
}

__u64 consume_theirs(struct kernel_ring *ring, __u64 *sum)
{
	__u64 start = now(), at = *ring->consumer;
	__u64 end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);

	*sum = 0;
	while (at < end) {
		__u32 *header = (__u32 *)(void *)(ring->data + (at & (ring->size - 1)));
		__u32 length = __atomic_load_n(header, __ATOMIC_ACQUIRE);

		if (length & BUSY)
			break;
		*sum += sum_of((const struct message *)(const void *)(header + 2));
		at += (length + HEADER + 7) & ~7u;
		__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
	}
	return now() - start;
}

__u64 produce_ours(struct ads_arena *arena, __u32 offset, __u64 seed, __u64 rounds, __u64 *sum)
{
	struct ads_ref ref = {offset, 0, 0, 0};
	__u64 start = now(), i;

	*sum = 0;
	for (i = 0; i < rounds; i++) {
		struct ads_ring_draft draft;
		__u32 place;

		if (ads_ring_reserve(arena, ref, sizeof(struct message), &draft, &place))
			break;
		fill(ads_at(arena, struct message, place), seed + i);
		ads_ring_submit(arena, ref, &draft);
		*sum += 8 * (seed + i);
	}
	return now() - start;
}

__u64 produce_theirs(struct kernel_ring *ring, __u64 seed, __u64 rounds, __u64 *sum)
{
	const __u32 total = sizeof(struct message) + HEADER;
	__u64 start = now(), i;

	*sum = 0;
	for (i = 0; i < rounds; i++) {
		__u64 taken = __atomic_load_n(ring->consumer, __ATOMIC_ACQUIRE);
		__u64 at = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
		__u32 *header = (__u32 *)(void *)(ring->data + (at & (ring->size - 1)));

		if (at - taken + total > ring->size)
			break;
		header[0] = sizeof(struct message) | BUSY;
		header[1] = 0;
		__atomic_store_n(ring->producer, at + total, __ATOMIC_RELEASE);
		fill((struct message *)(void *)(header + 2), seed + i);
		__atomic_exchange_n(header, (__u32)sizeof(struct message), __ATOMIC_ACQ_REL);
		*sum += 8 * (seed + i);
	}
	return now() - start;
}
