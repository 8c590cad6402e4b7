/* SPDX-License-Identifier: MIT */
/*
 * messages.c - user space's side of messages: ours through the headers, the peers' through libbpf, whose
 * functions and buffers are handed over. Compiled for each size of messages.
 *
 * A function NAME_take(to, most) takes what waits, at most about `most`, and adds all words of it to
 * state->sum; it returns how many messages that were.
 */
#include "loops.h"

#ifndef SIZE
#define SIZE 64
#endif

struct message {
	__u64 word[SIZE / 8];
};

/* Behind to->mapped. */
struct bench_messages {
	void *ring_buffer;   /* of libbpf, with take_sample() for a callback */
	void *perf_buffer;   /* with take_perf_sample() */
	void *user_ring;
	int (*ring_buffer_consume)(void *buffer);
	int (*ring_buffer_poll)(void *buffer, int milliseconds);
	int (*perf_buffer_consume)(void *buffer);
	int (*perf_buffer_poll)(void *buffer, int milliseconds);
	void *(*user_ring_reserve)(void *ring, __u32 size);
	void (*user_ring_submit)(void *ring, void *sample);
	__u64 taken;	     /* by callbacks */
	__u64 sum;
	__u64 cpu;	     /* what a consumer has used of its CPU, */
	__u64 ended;	     /* and when it had all */
	__u32 following;     /* a consumer has begun */
	__u32 lost;	     /* by the perf buffer */
	__u32 locked;	     /* the user ring, by one of several producers */
};

#define STATE(to) ((struct bench_messages *)(to)->mapped)
#define NAP_NS 50000
#define LONGEST_WAIT_NS 20000000000ull

/* Word by word, as fields are read: vectors of words that were just copied one by one would wait for them.
 * Those of a perf buffer are not aligned. */
static inline __u64 total_of(const void *data)
{
	__u64 total = 0, word;
	__u32 w;

#pragma GCC unroll 64
	for (w = 0; w < SIZE / 8; w++) {
		memcpy(&word, (const char *)data + 8 * w, 8);
		__asm__("" : "+r"(word));
		total += word;
	}
	return total;
}

static inline void fill(void *place, __u64 number)
{
	__u32 w;

	for (w = 0; w < SIZE / 8; w++)
		((__u64 *)place)[w] = number;
}

/* --- consume -------------------------------------------------------------------------------------- */

int take_sample(void *state, void *data, size_t size)
{
	(void)size;
	((struct bench_messages *)state)->taken++;
	((struct bench_messages *)state)->sum += total_of(data);
	return 0;
}

void take_perf_sample(void *state, int cpu, void *data, __u32 size)
{
	(void)cpu;
	take_sample(state, data, size);
}

void count_lost(void *state, int cpu, __u64 count)
{
	(void)cpu;
	((struct bench_messages *)state)->lost += (__u32)count;
}

static inline struct ads_ref messages(const struct bench_target *to)
{
	struct ads_ref ref = {to->structure, 0, SIZE, 0};

	return ref;
}

static inline __u64 ring_take(struct bench_target *to, __u64 most)
{
	struct ads_ring_cursor batch;
	__u64 taken = 0, sum = 0;
	__u32 place, size;

	(void)most;
	if (ads_ring_peek(to->arena, messages(to), &batch))
		return 0;
	while (!ads_ring_next(to->arena, messages(to), &batch, &place, &size)) {
		sum += total_of(ads_at(to->arena, void, place));
		taken++;
	}
	ads_ring_release(to->arena, messages(to), &batch);
	STATE(to)->sum += sum;
	return taken;
}

/* The floor: memory, and nobody to agree with about it. The structure is where it begins. */
static inline __u64 plain_take(struct bench_target *to, __u64 most)
{
	__u64 taken, sum = 0;

	for (taken = 0; taken < most; taken++)
		sum += total_of(ads_at(to->arena, char, to->structure + (__u32)taken * SIZE));
	STATE(to)->sum += sum;
	return taken;
}

#define POPPED(name, pop)                                                      \
	static inline __u64 name##_take(struct bench_target *to, __u64 most)   \
	{                                                                      \
		__u64 taken = 0, sum = 0;                                      \
		struct message message;                                        \
		while (taken < most && !(pop)) {                               \
			sum += total_of(&message);                             \
			taken++;                                               \
		}                                                              \
		STATE(to)->sum += sum;                                         \
		return taken;                                                  \
	}

/* All that waits in all rings. The structure is the first of them. */
static inline __u64 rings_take(struct bench_target *to, __u64 most)
{
	static struct ads_rings rings;
	struct bench_target one = *to;
	__u64 taken = 0;
	__u32 i;

	if ((!rings.count || rings.each[0] != to->structure) && ads_rings_open(to->arena, "many", &rings))
		return 0;
	for (i = 0; i < rings.count; i++) {
		one.structure = rings.each[i];
		taken += ring_take(&one, most);
	}
	return taken;
}

POPPED(ring_pop, ({
	__u32 size;
	ads_ring_pop(to->arena, messages(to), &message, sizeof(message), &size);
}))
POPPED(queue, ads_queue_pop(to->arena, messages(to), &message))
POPPED(mpmc, ads_mpmc_pop(to->arena, messages(to), &message))

/* libbpf's consumers take all there is. `wait`: until there is something. */
#define LIBBPF(name, call)                                                     \
	static inline __u64 name##_take(struct bench_target *to, __u64 most)   \
	{                                                                      \
		struct bench_messages *state = STATE(to);                      \
		__u64 before = state->taken;                                   \
		(void)most;                                                    \
		call;                                                          \
		return state->taken - before;                                  \
	}

LIBBPF(ringbuf, state->ring_buffer_consume(state->ring_buffer))
LIBBPF(ringbuf_polling, state->ring_buffer_poll(state->ring_buffer, 100))
LIBBPF(perf, state->perf_buffer_consume(state->perf_buffer))
LIBBPF(perf_polling, state->perf_buffer_poll(state->perf_buffer, 100))

/* What waits, once: how long that takes. run->operations says how many there have to be. */
#define CONSUME(name)                                                          \
	int name##_consume(struct bench_target *to, struct bench_run *run)     \
	{                                                                      \
		__u64 start, taken = 0, now;                                   \
		STATE(to)->sum = 0;                                            \
		start = bench_now();                                           \
		do {                                                           \
			now = name##_take(to, run->operations - taken);        \
			taken += now;                                          \
		} while (now && taken < run->operations);                      \
		run->nanoseconds = bench_now() - start;                        \
		run->sum = STATE(to)->sum;                                     \
		return taken == run->operations ? 0 : -ENODATA;                \
	}

/* A consumer beside a producer, until it has run->operations messages. If nothing waits it looks again, at
 * once or after a nap; who polls has waited already. */
#define FOLLOW(name, nothing)                                                  \
	int name(struct bench_target *to, struct bench_run *run)               \
	{                                                                      \
		struct bench_messages *state = STATE(to);                      \
		__u64 taken = 0, cpu = cpu_now(), deadline = bench_now() + LONGEST_WAIT_NS; \
		state->sum = 0;                                                \
		__atomic_store_n(&state->following, 1, __ATOMIC_RELEASE);      \
		while (taken < run->operations) {                              \
			__u64 now = TAKE(to, run->operations - taken);         \
			taken += now;                                          \
			if (!now) {                                            \
				nothing;                                       \
				if (bench_now() > deadline)                    \
					return -ETIMEDOUT;                     \
			}                                                      \
		}                                                              \
		state->ended = bench_now();                                    \
		state->cpu = cpu_now() - cpu;                                  \
		run->sum = state->sum;                                         \
		return 0;                                                      \
	}

static inline __u64 cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (__u64)t.tv_sec * 1000000000ull + (__u64)t.tv_nsec;
}

static inline void nap(void)
{
	struct timespec t = {0, NAP_NS};

	nanosleep(&t, 0);
}

CONSUME(ring)
CONSUME(ring_pop)
CONSUME(queue)
CONSUME(mpmc)
CONSUME(rings)
CONSUME(plain)
CONSUME(ringbuf)
CONSUME(perf)

#define TAKE ring_take
FOLLOW(ring_spin, )
FOLLOW(ring_nap, nap())
#undef TAKE
#define TAKE queue_take
FOLLOW(queue_spin, )
FOLLOW(queue_nap, nap())
#undef TAKE
#define TAKE mpmc_take
FOLLOW(mpmc_spin, )
FOLLOW(mpmc_nap, nap())
#undef TAKE
#define TAKE rings_take
FOLLOW(rings_spin, )
FOLLOW(rings_nap, nap())
#undef TAKE
#define TAKE ringbuf_take
FOLLOW(ringbuf_silent_spin, )
FOLLOW(ringbuf_silent_nap, nap())
#undef TAKE
#define TAKE ringbuf_polling_take
FOLLOW(ringbuf_waking_wait, )
#undef TAKE
#define TAKE perf_polling_take
FOLLOW(perf_wait, )
#undef TAKE

/* --- produce --------------------------------------------------------------------------------------- */

BENCH_LOOP(empty, { sum += number; })
BENCH_LOOP(ring_reserve_submit, {
	struct ads_ring_draft draft;
	__u32 place;
	if (ads_ring_reserve(to->arena, messages(to), SIZE, &draft, &place))
		return ADS_FULL;
	fill(ads_at(to->arena, void, place), number);
	ads_ring_submit(to->arena, messages(to), &draft);
	sum += number;
})
BENCH_LOOP(plain_fill, {
	fill(ads_at(to->arena, char, to->structure + (__u32)i * SIZE), number);
	sum += number;
})
#define PUSHED(push)                                                           \
	struct message message;                                                \
	fill(&message, number);                                                \
	if (push)                                                              \
		return ADS_FULL;                                               \
	sum += number;
BENCH_LOOP(ring_push, { PUSHED(ads_ring_push(to->arena, messages(to), &message, SIZE)) })
BENCH_LOOP(queue_spsc_push, { PUSHED(ads_queue_push(to->arena, messages(to), &message)) })
BENCH_LOOP(mpmc_push, { PUSHED(ads_mpmc_push(to->arena, messages(to), &message)) })

static inline int submit(struct bench_messages *state, __u64 number)
{
	void *place = state->user_ring_reserve(state->user_ring, SIZE);

	if (!place)
		return ADS_FULL;
	fill(place, number);
	state->user_ring_submit(state->user_ring, place);
	return 0;
}

/* libbpf leaves it to producers to wait for each other: here for a lock that costs as little as one can. */
static inline int submit_locked(struct bench_messages *state, __u64 number)
{
	int rc;

	while (__atomic_exchange_n(&state->locked, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(&state->locked, __ATOMIC_RELAXED))
			;
	rc = submit(state, number);
	__atomic_store_n(&state->locked, 0, __ATOMIC_RELEASE);
	return rc;
}

#define SUBMITTED(submit)                                                      \
	if (submit(STATE(to), number))                                         \
		return ADS_FULL;                                               \
	sum += number;
BENCH_LOOP(user_ringbuf_submit, { SUBMITTED(submit) })
BENCH_LOOP(user_ringbuf_submit_locked, { SUBMITTED(submit_locked) })
