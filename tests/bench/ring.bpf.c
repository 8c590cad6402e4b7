/* SPDX-License-Identifier: GPL-2.0 */
/* The same messages through rings in the arena and through the kernel's ring buffers. */
#include <arenads/bpf.h>

#define BYTES (256 * 1024)

ADS_ARENA(8 * ADS_MIB);
ADS_RING(out, BYTES);
ADS_RING(in, BYTES);
ADS_RING(recorder, BYTES, ADS_OVERWRITE);

struct {
	__uint(type, 27); /* BPF_MAP_TYPE_RINGBUF */
	__uint(max_entries, BYTES);
} kernel_out SEC(".maps");

struct {
	__uint(type, 31); /* BPF_MAP_TYPE_USER_RINGBUF */
	__uint(max_entries, BYTES);
} kernel_in SEC(".maps");

struct bpf_dynptr;
static void *(*const dynptr_data)(struct bpf_dynptr *dynptr, __u32 offset, __u32 size) = (void *)203;
static long (*const user_ringbuf_drain)(void *map, void *callback, void *context, __u64 flags) = (void *)209;

#define NO_WAKEUP 1

struct message {
	__u64 word[8];
};

struct args {
	__u64 rounds;
	__u64 nanoseconds;
	__u64 sum; /* of the messages: the loops must have done the same */
	__u64 seed;
};

#define LOOP(name, body)                                                       \
	SEC("syscall") int name(struct args *ctx)                              \
	{                                                                      \
		__u64 seed = ctx->seed, rounds = ctx->rounds, sum = 0, i;      \
		__u64 start = bpf_ktime_get_ns();                              \
		for (i = ctx->nanoseconds; i < rounds && ads_may_loop(); i++) { \
			__u64 value = seed + i;                                \
			body                                                   \
		}                                                              \
		ctx->nanoseconds = bpf_ktime_get_ns() - start;                 \
		ctx->sum = sum;                                                \
		return i == rounds ? 0 : -1;                                   \
	}

#define FILL(message, value)                                                   \
	do {                                                                   \
		(message)->word[0] = value;                                    \
		(message)->word[1] = value;                                    \
		(message)->word[2] = value;                                    \
		(message)->word[3] = value;                                    \
		(message)->word[4] = value;                                    \
		(message)->word[5] = value;                                    \
		(message)->word[6] = value;                                    \
		(message)->word[7] = value;                                    \
	} while (0)

LOOP(nothing, { sum += value; })
LOOP(ours_reserve, {
	struct ads_ring_draft draft;
	struct message __arena *message = out_reserve(&draft, sizeof(*message));
	if (!message)
		return -2;
	FILL(message, value);
	out_submit(&draft);
	sum += value;
})
LOOP(ours_push, {
	struct message message;
	FILL(&message, value);
	if (out_push(&message, sizeof(message)))
		return -2;
	sum += value;
})
LOOP(ours_batch, {
	struct ads_ring_draft draft;
	struct message __arena *message = out_reserve(&draft, sizeof(*message));
	if (!message)
		return -2;
	FILL(message, value);
	out_commit(&draft);
	if (!(i & 15))
		out_publish();
	sum += value;
})
LOOP(ours_overwrite, {
	struct message message;
	FILL(&message, value);
	if (recorder_push(&message, sizeof(message)))
		return -2;
	sum += value;
})
LOOP(theirs_out, {
	struct message *message = bpf_ringbuf_reserve(&kernel_out, sizeof(*message), 0);
	if (!message)
		return -2;
	FILL(message, value);
	bpf_ringbuf_submit(message, NO_WAKEUP);
	sum += value;
})

#define SUM(message)                                                           \
	((message)->word[0] + (message)->word[1] + (message)->word[2] + (message)->word[3] + (message)->word[4] + \
	 (message)->word[5] + (message)->word[6] + (message)->word[7])

SEC("syscall") int ours_publish(struct args *ctx)
{
	(void)ctx;
	return out_publish();
}

LOOP(ours_pop, {
	struct message message;
	__u32 size;
	(void)value;
	if (in_pop(&message, sizeof(message), &size))
		return -2;
	sum += SUM(&message);
})

SEC("syscall") int ours_next(struct args *ctx)
{
	__u64 sum = 0, rounds = ctx->rounds, i;
	struct ads_ring_cursor batch;
	__u64 start = bpf_ktime_get_ns();

	if (in_peek(&batch))
		return -2;
	for (i = ctx->nanoseconds; i < rounds && ads_may_loop(); i++) {
		struct message __arena *message;
		__u32 size;

		message = in_next(&batch, &size);
		if (!message)
			break;
		sum += SUM(message);
	}
	in_release(&batch);
	ctx->nanoseconds = bpf_ktime_get_ns() - start;
	ctx->sum = sum;
	return i == rounds ? 0 : -1;
}

static long take(struct bpf_dynptr *dynptr, void *context)
{
	struct message *message = dynptr_data(dynptr, 0, sizeof(*message));

	if (!message)
		return 1;
	*(__u64 *)context += SUM(message);
	return 0;
}

SEC("syscall") int theirs_in(struct args *ctx)
{
	__u64 sum = 0, rounds = ctx->rounds;
	__u64 start = bpf_ktime_get_ns();
	long taken = user_ringbuf_drain(&kernel_in, take, &sum, NO_WAKEUP);

	ctx->nanoseconds = bpf_ktime_get_ns() - start;
	ctx->sum = sum;
	return taken == (long)rounds ? 0 : -1;
}

char LICENSE[] SEC("license") = "GPL";
