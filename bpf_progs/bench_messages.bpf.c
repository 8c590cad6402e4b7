/* SPDX-License-Identifier: GPL-2.0 */
/*
 * bench_messages.bpf.c - the same messages through rings and queues in the arena and through the
 * kernel's buffers. Run by `python -m arenads bench`.
 *
 * A message is SIZE bytes, all of its words the same number: whoever produces writes all of them, and
 * whoever consumes adds them all up. Where an interface lets a message be filled in place it is.
 *
 * Programs that may sleep, as those that user space runs, have no perf buffers: there a tracing program does
 * the loop. Its license is that which the kernel asks for bpf_perf_event_output().
 */
#include "bench.h"

#ifndef SIZE
#define SIZE 64
#endif
#define BYTES (256 * 1024)
#define SLOTS (SIZE <= 16 ? 8192 : SIZE <= 64 ? 4096 : 512)
#define BATCH 16 /* messages that become visible together, in reserve_commit */

struct message {
	__u64 word[SIZE / 8];
};

/* One for each producing CPU. */
ADS_RING(out, BYTES);
ADS_RING(out2, BYTES);
ADS_RING(in, BYTES);
ADS_RING(recorder, BYTES, ADS_OVERWRITE);
ADS_QUEUE(fixed, struct message, SLOTS);
ADS_MPMC(shared, struct message, SLOTS);
ADS_RINGS(many, BYTES);

struct {
	__uint(type, 27); /* BPF_MAP_TYPE_RINGBUF */
	__uint(max_entries, BYTES);
} ringbuf SEC(".maps");

struct {
	__uint(type, 31); /* BPF_MAP_TYPE_USER_RINGBUF */
	__uint(max_entries, BYTES);
} user_ringbuf SEC(".maps");

struct {
	__uint(type, 4); /* BPF_MAP_TYPE_PERF_EVENT_ARRAY */
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf_buffer SEC(".maps");

struct bpf_dynptr;
static long (*const perf_event_output)(void *context, void *map, __u64 flags, void *data, __u64 size) = (void *)25;
static void *(*const dynptr_data)(struct bpf_dynptr *dynptr, __u32 offset, __u32 size) = (void *)203;
static long (*const user_ringbuf_drain)(void *map, void *callback, void *context, __u64 flags) = (void *)209;

#define NO_WAKEUP 1		  /* BPF_RB_NO_WAKEUP */
#define CURRENT_CPU 0xffffffffull /* BPF_F_CURRENT_CPU */

/* All words, without a loop; a few may be a loop of the compiler's. */
#define FILL(message, number)                                                  \
	do {                                                                   \
		__u32 w;                                                       \
		_Pragma("unroll") for (w = 0; w < SIZE / 8; w++)               \
			(message)->word[w] = number;                           \
	} while (0)
#define TOTAL(message, total)                                                  \
	do {                                                                   \
		__u32 w;                                                       \
		_Pragma("unroll") for (w = 0; w < SIZE / 8; w++)               \
			total += (message)->word[w];                           \
	} while (0)

/* A message to be copied: large ones have no room on the stack. */
#if SIZE <= 64
#define MESSAGE(message)                                                       \
	struct message on_stack;                                               \
	struct message *message = &on_stack
#else
BENCH_FRESH(struct message);
#define MESSAGE(message) struct message *message = bench_fresh()
#endif

/* --- out: who has no room ends, or tries again if somebody takes meanwhile ----------------------- */

#define RESERVED(ring, otherwise) RESERVED_IN(ring, ads_ring_draft, otherwise)

#define RESERVED_IN(ring, its_draft, otherwise)                                \
	struct its_draft draft;                                                \
	struct message __arena *message = ring##_reserve(&draft, SIZE);        \
	if (!message)                                                          \
		otherwise;                                                     \
	FILL(message, number);

#define RESERVE_SUBMIT(ring, otherwise)                                        \
	RESERVED(ring, otherwise)                                              \
	ring##_submit(&draft);                                                 \
	sum += number;

#define COPIED(push, otherwise)                                                \
	MESSAGE(message);                                                      \
	FILL(message, number);                                                 \
	if (push)                                                              \
		otherwise;                                                     \
	sum += number;

#define RINGBUF_RESERVED(otherwise)                                            \
	struct message *message = bpf_ringbuf_reserve(&ringbuf, SIZE, 0);      \
	if (!message)                                                          \
		otherwise;                                                     \
	FILL(message, number);

#define RINGBUF(flags, otherwise)                                              \
	RINGBUF_RESERVED(otherwise)                                            \
	bpf_ringbuf_submit(message, flags);                                    \
	sum += number;

#define RINGBUF_DISCARD(flags)                                                 \
	RINGBUF_RESERVED(NO_ROOM)                                              \
	bpf_ringbuf_discard(message, flags);

#define NO_ROOM return ADS_FULL
/* The number is not done: `again` goes back to it. */
#define AGAIN                                                                  \
	{                                                                      \
		position = position ? position - 1 : run->length - 1;          \
		i--;                                                           \
		continue;                                                      \
	}

BENCH_LOOP(empty, { sum += number; })

/* The floor: as much memory as a ring has, and nobody to agree with about it. */
__u32 plain;
#define PLAIN(number) ads_at(ads_here(), struct message, plain + (__u32)((number) % SLOTS) * SIZE)

SEC("syscall") int plain_reserve(struct bench_run *run)
{
	plain = (__u32)(unsigned long)ads_block(ads_here(), SLOTS * SIZE);
	run->sum = plain;
	return plain ? ADS_OK : ADS_NO_MEMORY;
}

BENCH_LOOP(plain_fill, {
	struct message __arena *message = PLAIN(i);
	FILL(message, number);
	sum += number;
})

BENCH_LOOP(ring_reserve_submit, { RESERVE_SUBMIT(out, NO_ROOM) })
BENCH_LOOP(ring_reserve_commit, {
	RESERVED(out, NO_ROOM)
	out_commit(&draft);
	if (!((i + 1) % BATCH))
		out_publish();
	sum += number;
})
BENCH_LOOP(ring_push, { COPIED(out_push(message, SIZE), NO_ROOM) })
/* Nobody takes: each push drops what is oldest. */
BENCH_LOOP(ring_overwrite, { COPIED(recorder_push(message, SIZE), NO_ROOM) })
/* A ring for each of two CPUs, chosen for each message. */
BENCH_LOOP(two_rings_reserve_submit, {
	if (bpf_get_smp_processor_id() & 1) {
		RESERVE_SUBMIT(out2, NO_ROOM)
	} else {
		RESERVE_SUBMIT(out, NO_ROOM)
	}
})
BENCH_LOOP(queue_spsc_push, { COPIED(fixed_push(message), NO_ROOM) })
BENCH_LOOP(mpmc_push, { COPIED(shared_push(message), NO_ROOM) })
BENCH_LOOP(rings_reserve_submit, {
	RESERVED_IN(many, ads_rings_draft, NO_ROOM)
	many_submit(&draft);
	sum += number;
})
BENCH_LOOP(rings_push, { COPIED(many_push(message, SIZE), NO_ROOM) })
/* Filled, and then not wanted. The kernel's consumers walk over what was given up, ours never meet it. */
BENCH_LOOP(ring_reserve_discard, {
	RESERVED(out, NO_ROOM)
	out_discard(&draft);
})
BENCH_LOOP(ringbuf_discard_silent, { RINGBUF_DISCARD(NO_WAKEUP) })
BENCH_LOOP(ringbuf_discard_waking, { RINGBUF_DISCARD(0) })
BENCH_LOOP(ringbuf_silent, { RINGBUF(NO_WAKEUP, NO_ROOM) })
BENCH_LOOP(ringbuf_waking, { RINGBUF(0, NO_ROOM) })

SEC("syscall") int ring_publish(struct bench_run *run)
{
	(void)run;
	return out_publish();
}

/* The same while somebody consumes. */
BENCH_LOOP(ring_stream, { RESERVE_SUBMIT(out, AGAIN) })
BENCH_LOOP(queue_stream, { COPIED(fixed_push(message), AGAIN) })
BENCH_LOOP(mpmc_stream, { COPIED(shared_push(message), AGAIN) })
BENCH_LOOP(rings_stream, {
	RESERVED_IN(many, ads_rings_draft, AGAIN)
	many_submit(&draft);
	sum += number;
})
BENCH_LOOP(ringbuf_silent_stream, { RINGBUF(NO_WAKEUP, AGAIN) })
BENCH_LOOP(ringbuf_waking_stream, { RINGBUF(0, AGAIN) })

/* BENCH_LOOP() for a tracing program: its first argument says where in the arena its run is. */
#define PERF_LOOP(name, otherwise)                                             \
	SEC("raw_tp/sys_enter") int name(__u64 *arguments)                     \
	{                                                                      \
		struct bench_run __arena *place = ads_at(ads_here(), struct bench_run, (__u32)arguments[0]); \
		struct bench_run here = {.start = place->start, .order = place->order, .length = place->length}; \
		struct bench_run *run = &here;                                 \
		__u64 operations = place->operations, sum = 0, start, i;       \
		__u32 position = place->position;                              \
		start = bench_begin(run);                                      \
		for (ads_each(i, operations)) {                                \
			__u32 number = bench_number(run, position);            \
			position = bench_wrap(run, position + 1);              \
			COPIED(perf_event_output(arguments, &perf_buffer, CURRENT_CPU, message, SIZE), otherwise) \
		}                                                              \
		place->nanoseconds = bpf_ktime_get_ns() - start;               \
		place->operations = i;                                         \
		place->start = start;                                          \
		place->position = position;                                    \
		place->sum = sum;                                              \
		return ADS_OK;                                                 \
	}

PERF_LOOP(perf_output, NO_ROOM)
PERF_LOOP(perf_stream, AGAIN)

/* --- in ------------------------------------------------------------------------------------------- */

/* All that waits, in place: as many as run->operations says. */
SEC("syscall") int ring_consume(struct bench_run *run)
{
	__u64 start, sum = 0, operations = run->operations, i;
	struct ads_ring_cursor batch;

	(void)ads_here();
	start = bench_begin(run);
	if (in_peek(&batch))
		return ADS_ABSENT;
	for (ads_each(i, operations)) {
		struct message __arena *message;
		__u32 size;

		message = in_next(&batch, &size);
		if (!message)
			break;
		TOTAL(message, sum);
	}
	in_release(&batch);
	run->nanoseconds = bpf_ktime_get_ns() - start;
	run->operations = i;
	run->start = start;
	run->sum = sum;
	return ADS_OK;
}

SEC("syscall") int plain_consume(struct bench_run *run)
{
	__u64 start, sum = 0, operations = run->operations, i;

	(void)ads_here();
	start = bench_begin(run);
	for (ads_each(i, operations)) {
		struct message __arena *message = PLAIN(i);

		TOTAL(message, sum);
	}
	run->nanoseconds = bpf_ktime_get_ns() - start;
	run->operations = i;
	run->start = start;
	run->sum = sum;
	return ADS_OK;
}

#define POPPED(pop)                                                            \
	MESSAGE(message);                                                      \
	if (pop)                                                               \
		return ADS_ABSENT;                                             \
	TOTAL(message, sum);

BENCH_LOOP(ring_pop, {
	__u32 size;
	POPPED(in_pop(message, SIZE, &size))
})
BENCH_LOOP(queue_spsc_pop, { POPPED(fixed_pop(message)) })
BENCH_LOOP(mpmc_pop, { POPPED(shared_pop(message)) })

static long take(struct bpf_dynptr *dynptr, void *context)
{
	struct message *message = dynptr_data(dynptr, 0, SIZE);
	__u64 sum = 0;

	if (!message)
		return 1;
	TOTAL(message, sum);
	*(__u64 *)context += sum;
	return 0;
}

SEC("syscall") int user_ringbuf_consume(struct bench_run *run)
{
	__u64 start, sum = 0;
	long taken;

	(void)ads_here();
	start = bench_begin(run);
	taken = user_ringbuf_drain(&user_ringbuf, take, &sum, NO_WAKEUP);
	if (taken < 0)
		return (int)taken;
	run->nanoseconds = bpf_ktime_get_ns() - start;
	run->operations = (__u64)taken;
	run->start = start;
	run->sum = sum;
	return ADS_OK;
}

char LICENSE[] SEC("license") = "GPL";
